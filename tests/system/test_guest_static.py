"""Real images read without booting them: Debian's kernels and loaders, gcc's and QEMU's work.

Oracles: readelf for segments and notes, qemu-img for qcow2, sfdisk for partition tables.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ringfence.collect.files.filebytes import Kept, of_file
from ringfence.collect.guest.bzimage import read_bzimage
from ringfence.collect.guest.elf import Layout, notes, read_layout
from ringfence.collect.guest.image import read_guest
from ringfence.collect.guest.marks import Reading
from ringfence.collect.guest.qcow2 import Inside, read_header
from ringfence.collect.guest.recognise import Guest
from ringfence.collect.guest.source import Source
from ringfence.knowledge.guests import load_guests
from tests.command import ringfence
from tests.system.conftest import CACHE, program
from tests.unit.collect.guest.samples import nanos_disk

pytestmark = pytest.mark.system

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"


def package(name: str, *options: str) -> Path:
    """The unpacked files of a Debian package, fetched once; nothing of it is installed. `options`:
    apt's, for a package of another architecture."""
    place = CACHE / "packages" / name
    if place.is_dir():
        return place
    part = CACHE / "packages" / f"{name}.{os.getpid()}"
    part.mkdir(parents=True)
    subprocess.run(
        ["apt-get", *options, "download", "-q", name], cwd=part, check=True, capture_output=True
    )
    (archive,) = part.glob("*.deb")
    subprocess.run(["dpkg", "-x", str(archive), str(part / "files")], check=True)
    (part / "files").rename(place)
    archive.unlink()
    part.rmdir()
    return place


@pytest.fixture(scope="module")
def vmlinuz() -> Path:
    """The kernel that linux-image-cloud-amd64 stands for."""
    words = ["apt-cache", "depends", "linux-image-cloud-amd64"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    match = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", done.stdout)
    assert match is not None
    (kernel,) = (package(match[1]) / "boot").glob("vmlinuz-*")
    return kernel


def source(path: Path) -> Source:
    return Source(of_file(Kept(path)), str(path))


def read(path: Path) -> Guest:
    return read_guest(source(path), load_guests())


def measured(path: Path) -> dict[str, Any]:
    """The measurement as JSON."""
    done = ringfence("measure", path, "--format", "json", "--no-plan")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["target"]["kind"] == "guest"
    return dict(document)


def protocols(guest: Guest) -> set[str]:
    return {entry.id for entry, _ in guest.protocols}


def check_against_readelf(path: Path, layout: Layout, start: int = 0) -> None:
    """Segments and notes as binutils reads them."""
    listed = subprocess.run(
        ["readelf", "-lW", str(path)], capture_output=True, text=True, check=True
    ).stdout
    rows = re.findall(
        r"^  LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+) 0x(\w+) (.{3}) 0x", listed, re.MULTILINE
    )
    wanted = [(*(int(text, 16) for text in row[:4]), row[4]) for row in rows]
    flags = {4: "R", 2: "W", 1: "E"}
    assert wanted == [
        (item.offset, item.address, item.stored, item.size,
         "".join(flags[bit] if item.flags & bit else " " for bit in (4, 2, 1)))
        for item in layout.segments if item.kind == 1
    ]  # fmt: skip
    listed = subprocess.run(
        ["readelf", "-nW", str(path)], capture_output=True, text=True, check=True
    ).stdout
    owners = re.findall(r"^  (\S+) +0x([0-9a-f]{8})\t", listed, re.MULTILINE)
    found = {(item.owner, item.size) for item in notes(source(path), layout)}
    assert {(owner, int(size, 16)) for owner, size in owners} == found


def test_debians_kernel_is_linux_by_what_is_inside(vmlinuz: Path, tmp_path: Path) -> None:
    guest = read(vmlinuz)
    assert guest.system.id == "linux"
    assert guest.version is not None
    assert guest.version.detail == vmlinuz.name.removeprefix("vmlinuz-")
    assert {"linux-x86", "pvh"} <= protocols(guest)
    assert [entry.id for entry, _ in guest.protections] == ["stack-protector"]
    inside = read_bzimage(source(vmlinuz), Reading())
    assert inside is not None
    expanded = tmp_path / "vmlinux"
    expanded.write_bytes(inside.read(0, inside.size))
    check_against_readelf(expanded, read_layout(source(expanded)))
    assert read(expanded).system.id == "linux"


def test_debians_kernel_is_measured_as_a_virtual_machine(vmlinuz: Path) -> None:
    document = measured(vmlinuz)
    assert document["deployment"]["ring"] == 3
    assert document["zero_days_to_admin"]["machine"] == 2
    assert document["deployment"]["notes"][0].startswith("recognised: Linux 6.")


@pytest.mark.parametrize(
    ("name", "path", "protocol", "words"),
    [("memtest86+", "boot/memtest86+x64.bin", "linux-x86", "Memtest86+ v6"),
     ("ipxe", "boot/ipxe.lkrn", "linux-x86", "1.0.0+git"),
     ("ipxe", "boot/ipxe.efi", "efi", ""),
     ("memtest86+", "usr/lib/memtest86+/memtest86+x64.iso", "boot-sector", ""),
     ("grub-xen-host", "usr/lib/grub-xen/grub-x86_64-xen.bin", "xen-pv", ""),
     ("grub-xen-host", "usr/lib/grub-xen/grub-i386-xen_pvh.bin", "pvh", ""),
     ("xen-hypervisor-4.17-amd64", "boot/xen-4.17-amd64.gz", "multiboot2", "")],
)  # fmt: skip
def test_a_protocol_alone_makes_no_system(name: str, path: str, protocol: str, words: str) -> None:
    """memtest86+ and iPXE boot like Linux, GRUB for Xen carries Xen's notes: none is either."""
    image = package(name) / path
    guest = read(image)
    assert guest.system.id == "unknown"
    assert protocol in protocols(guest)
    if words:
        assert guest.facts["version in the header"].detail.startswith(words)
    document = measured(image)
    assert document["deployment"]["ring"] == 0
    assert document["zero_days_to_admin"]["system"] == 1
    assert document["evidence_coverage"]["observed"] == 0


def test_grubs_images_for_xen_ask_for_every_right() -> None:
    image = package("grub-xen-host") / "usr/lib/grub-xen/grub-x86_64-xen.bin"
    guest = read(image)
    assert guest.facts["calls itself"].detail == "GRUB"
    assert guest.layout is not None
    check_against_readelf(image, guest.layout)
    assert "rwx" in guest.facts["writable and executable"].detail


@pytest.mark.parametrize(
    ("line", "on", "off"),
    [("quiet mitigations=off nosmap", set(), {"cpu-mitigations", "smap"}),
     ("quiet lockdown=confidentiality", {"lockdown"}, set())],
)  # fmt: skip
def test_a_unified_kernel_image(
    vmlinuz: Path, tmp_path: Path, line: str, on: set[str], off: set[str]
) -> None:
    (tmp_path / "line").write_text(line)
    (tmp_path / "initrd").write_bytes(b"070701" + bytes(500))
    image = tmp_path / "uki.efi"
    parts = {
        ".osrel": (Path("/etc/os-release"), 0x20000),
        ".cmdline": (tmp_path / "line", 0x30000),
        ".linux": (vmlinuz, 0x2000000),
        ".initrd": (tmp_path / "initrd", 0x4000000),
    }
    words = [f"--add-section={name}={path}" for name, (path, _) in parts.items()]
    words += [f"--change-section-vma={name}={at:#x}" for name, (_, at) in parts.items()]
    stub = package("systemd-boot-efi") / STUB
    subprocess.run([program("objcopy"), *words, str(stub), str(image)], check=True)
    guest = read(image)
    assert (guest.system.id, guest.format) == ("linux", "unified kernel image")
    assert {"efi", "linux-x86"} <= protocols(guest)
    assert guest.facts["command line"].detail == line
    assert "Debian" in guest.facts["release"].detail
    assert guest.facts["initial file system"].detail == "506 bytes"
    states = {
        item["id"]: item["state"]
        for boundary in measured(image)["deployment"]["boundaries"]
        for item in boundary["mechanisms"]
    }
    assert {name for name in (*on, *off) if states[name] == "on"} == on
    assert {name for name in (*on, *off) if states[name] == "off"} == off


SOLO5 = """
.section .note.GNU-stack, "", @progbits
.section .note.solo5.abi, "a", @note
.balign 4
.long 6, 16, 0x31494241
.asciz "Solo5"
.balign 4
.long {target}, 2, 0, 0
.section .note.solo5.manifest, "a", @note
.balign 4
.long 6, 4 + 8 + 2 * 104, 0x3154464d
.asciz "Solo5"
.balign 4
.long 0, 1, 2
.fill 68, 1, 0
.long 1 << 30
.fill 32, 1, 0
1: .asciz "{name}"
.fill 68 - (. - 1b), 1, 0
.long {kind}
.fill 32, 1, 0
"""
PROGRAM = """
volatile char sink;
void caml_main(void) {{ char text[64]; text[sink & 63] = 1; sink = text[0]; }}
{canary}
void _start(void) {{ caml_main(); for (;;) ; }}
"""
CANARY = "unsigned long __stack_chk_guard = 1; void __stack_chk_fail(void) { for (;;) sink = 1; }"
SCRIPT = """
ENTRY(_start)
PHDRS {{ text PT_LOAD FLAGS({text}); data PT_LOAD FLAGS(6); note PT_NOTE FLAGS(4); }}
SECTIONS {{
  . = 0x100000;
  .text : {{ *(.text*) *(.rodata*) }} :text
  .note.solo5 : {{ KEEP(*(.note.solo5.manifest)) KEEP(*(.note.solo5.abi)) }} :text :note
  . = ALIGN(0x1000);
  .data : {{ *(.data*) *(.bss*) }} :data
  /DISCARD/ : {{ *(.note.gnu*) *(.eh_frame*) *(.comment) }}
}}
"""


def build(
    place: Path, *, target: int = 1, rights: int = 5, canary: bool = True, net: bool = True,
    strip: bool = False,
) -> Path:  # fmt: skip
    """An image with Solo5's notes, by gcc, as and ld."""
    name, kind = ("service", 2) if net else ("storage", 1)
    (place / "notes.S").write_text(SOLO5.format(target=target, name=name, kind=kind))
    (place / "app.c").write_text(PROGRAM.format(canary=CANARY if canary else ""))
    (place / "app.ld").write_text(SCRIPT.format(text=rights))
    protect = "-fstack-protector-all" if canary else "-fno-stack-protector"
    image = place / "app.hvt"
    subprocess.run(
        [program("gcc"), "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-fno-pie",
         "-mstack-protector-guard=global", protect, "-Wl,--build-id=none", "-Wl,--no-warnings",
         "-T", "app.ld", "app.c", "notes.S", "-o", "app.hvt", *(["-s"] if strip else [])],
        cwd=place, check=True,
    )  # fmt: skip
    return image


def mechanisms(document: dict[str, Any]) -> dict[str, tuple[str, set[str]]]:
    """State and evidence grades of every mechanism."""
    return {
        item["id"]: (item["state"], {evidence["grade"] for evidence in item["evidence"]})
        for boundary in document["deployment"]["boundaries"]
        for item in boundary["mechanisms"]
    }


def test_an_image_for_solo5_by_gcc(tmp_path: Path) -> None:
    image = build(tmp_path)
    guest = read(image)
    assert guest.system.id == "solo5"
    assert guest.layout is not None
    check_against_readelf(image, guest.layout)
    assert guest.facts["declared devices"].detail == "net 'service'"
    document = measured(image)
    assert document["deployment"]["ring"] == 0
    assert document["zero_days_to_admin"] == {"system": 1, "machine": 2}
    assert document["counts"]["bytes"]["value"] == image.stat().st_size
    seen = mechanisms(document)
    assert seen["stack-protector"] == ("on", {"observed"})
    assert seen["memory-safe-runtime"] == ("on", {"observed"})
    assert seen["position-independent"] == ("off", {"observed"})
    assert seen["smep"] == ("off", {"assumed"})


@pytest.mark.parametrize("strip", [False, True], ids=["with symbols", "stripped"])
def test_each_property_of_an_image_is_told_by_itself(tmp_path: Path, strip: bool) -> None:
    def state(name: str, **properties: Any) -> tuple[str, set[str]]:
        return mechanisms(measured(build(tmp_path, strip=strip, **properties)))[name]

    assert state("w-xor-x", target=2, rights=5) == ("on", {"observed"})
    assert state("w-xor-x", target=2, rights=7) == ("off", {"observed"})
    assert state("w-xor-x", target=1, rights=7) == ("off", {"observed"})
    assert state("w-xor-x", target=1, rights=5)[1] == {"assumed"}
    # Without symbols nothing tells whether canaries are compiled in: the template decides.
    expected = ("on", {"assumed"}) if strip else ("off", {"observed"})
    assert state("stack-protector", canary=False) == expected


def test_an_image_without_a_network_device_has_no_way_in(tmp_path: Path) -> None:
    assert measured(build(tmp_path, net=True))["entry_points"] != []
    without = measured(build(tmp_path, net=False))
    assert without["entry_points"] == []
    assert without["start"] == "supply-chain"


@pytest.mark.parametrize(
    "options",
    [["-o", "compat=0.10"], ["-o", "cluster_size=512"], ["-o", "cluster_size=2M"], ["-c"],
     ["-c", "-o", "compression_type=zstd"]],
    ids=["version 2", "small clusters", "large clusters", "deflate", "zstd"],
)  # fmt: skip
def test_the_disk_inside_is_what_qemu_wrote(options: list[str], tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "image"
    disk = nanos_disk() + bytes(range(256)) * 9000 + bytes(3 << 20) + os.urandom(70_000)
    raw.write_bytes(disk + bytes(-len(disk) % 512))
    command = [program("qemu-img"), "convert", "-f", "raw", "-O", "qcow2", *options]
    subprocess.run([*command, str(raw), str(image)], check=True)
    header = read_header(source(image))
    inside = Inside(source(image), header)
    assert inside[0 : len(inside)] == raw.read_bytes()
    guest = read(image)
    assert guest.system.id == "nanos"
    assert read(raw).system.id == "nanos"


def test_qcow2_headers_against_qemu_img(tmp_path: Path) -> None:
    base, image = tmp_path / "base.qcow2", tmp_path / "image.qcow2"
    tool = program("qemu-img")
    subprocess.run([tool, "create", "-q", "-f", "qcow2", str(base), "40G"], check=True)
    subprocess.run(
        [tool, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(image)],
        check=True,
    )
    subprocess.run([tool, "snapshot", "-c", "one", str(image)], check=True)
    said = json.loads(
        subprocess.run(
            [tool, "info", "--output=json", str(image)], capture_output=True, check=True
        ).stdout
    )
    base.unlink()
    header = read_header(source(image))
    assert header.size == said["virtual-size"]
    assert header.backing == said["backing-filename"]
    assert header.snapshots == len(said["snapshots"])
    assert 1 << header.bits == said["cluster-size"]
    assert any(str(base) in item["what"] + item["why"] for item in measured(image)["unseen"])


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_partition_tables_against_sfdisk(label: str, tmp_path: Path) -> None:
    disk, part = tmp_path / "disk", tmp_path / "part"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    kinds = {"dos": ("83", "82"), "gpt": ("L", "S")}[label]
    script = f"label: {label}\nstart=2048, size=32768, type={kinds[0]}\ntype={kinds[1]}\n"
    tool = program("sfdisk")
    subprocess.run([tool, "-q", str(disk)], input=script, text=True, check=True)
    with part.open("wb") as file:
        file.truncate(32768 * 512)
    subprocess.run([program("mkfs.ext4"), "-q", "-F", str(part)], check=True)
    with disk.open("r+b") as file:
        file.seek(2048 * 512)
        file.write(part.read_bytes())
    done = subprocess.run([tool, "-J", str(disk)], capture_output=True, check=True)
    rows = json.loads(done.stdout)["partitiontable"]["partitions"]
    facts = read(disk).facts
    for index, row in enumerate(rows, 1):
        fact = facts[f"partition {index}"]
        assert fact.source.endswith(f"@{row['start'] * 512:#x}")
        assert f"{row['size'] * 512:,} bytes" in fact.detail
    assert facts["partition 1"].detail.endswith("ext2/3/4")
    assert "swap" in facts["partition 2"].detail


def limited(path: Path) -> subprocess.CompletedProcess[str]:
    """`ringfence measure` in a process that may take 1.5 GB of addresses, and no more."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))

    # Not ru_maxrss: that counts what this process was when it forked (getrusage(2)).
    code = (
        "import sys; from ringfence.cli.main import main\n"
        "try: main()\n"
        "finally:\n"
        " lines = open('/proc/self/status').read().splitlines()\n"
        " peak = next(line for line in lines if line.startswith('VmHWM:'))\n"
        " print(int(peak.split()[1]) >> 10, file=sys.stderr)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "measure", "--no-plan", str(path)],
        capture_output=True, text=True, preexec_fn=limit, check=False,
    )  # fmt: skip


def test_memory_stays_small(vmlinuz: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.write(build(tmp_path).read_bytes())
        file.truncate(1 << 40)
    for path, most in ((vmlinuz, 300), (huge, 150)):
        done = limited(path)
        assert done.returncode == 0, done.stderr
        assert int(done.stderr.split()[-1]) < most


def test_programs_of_this_system_are_no_guests() -> None:
    for path in ("/bin/ls", "/bin/busybox"):
        if Path(path).exists():
            done = ringfence("measure", "--kind", "guest", path)
            assert done.code == 2
            assert "not a kernel" in done.err
