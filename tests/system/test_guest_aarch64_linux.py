"""Debian's arm64 kernel with one program, booted and examined: levels, protections, KASLR."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from ringfence.collect.guest.image import read_guest
from ringfence.collect.guest.source import Source
from ringfence.knowledge.guests import load_guests
from tests.command import ringfence
from tests.guests.aarch64.build import init
from tests.system.conftest import program
from tests.system.guests import archive, arm64_linux, ask_on_serial, examined, hurried, values
from tests.unit.collect.guest.samples import zboot

pytestmark = pytest.mark.system

WRITABLE_CODE = "rodata=off"
"""Documentation/admin-guide/kernel-parameters.txt: kernel code stays writable, for debuggers."""


@pytest.fixture(scope="module")
def kernel() -> Path:
    program("qemu-system-aarch64")
    return arm64_linux()


def boots(kernel: Path, folder: Path, words: str, *, writable_code: bool) -> dict[str, Any]:
    initrd = folder / "initrd.img"
    initrd.write_bytes(archive([("init", 0o100755, init(writable_code=writable_code))]))
    with hurried(100):
        return examined(
            kernel, "--initrd", initrd, "--append", f"console=ttyAMA0 quiet {words}",
            "--boots", 2, "--exercise", ask_on_serial("hello", "answer hello", 0.2),
        )  # fmt: skip


def test_a_stock_kernel(kernel: Path, tmp_path: Path) -> None:
    found = boots(kernel, tmp_path, "", writable_code=False)
    facts = values(found)
    assert found["kernel"].startswith("Linux 6.1.") and found["kernel"].endswith("-cloud-arm64")
    assert (found["kind"], found["architecture"]) == ("arm64 Image", "aarch64")
    assert (found["ends"], found["unseen"]) == ([], [])
    assert facts["ring3_share"] > 0 and facts["ring0_share"] > 0
    assert facts["ring3_share_before"] in (0, None) and facts["halted_share"] > 0
    assert (facts["pan"], facts["wxn"], facts["paging"]) == (True, False, "4-level, 4 KiB")
    assert [facts[name] for name in ("wp", "nx", "smep", "smap", "umip")] == [None] * 5
    assert facts["page_zero_mapped"] is False
    assert facts["writable_executable_pages"] == facts["writable_aliases_of_code"] == 0
    assert facts["user_pages"] > 60 and facts["ring0_executable_user_pages"] == 0
    assert facts["stack_executable"] is facts["heap_executable"] is False
    assert facts["vectors"]["writable"] is False
    bits = facts["randomised_bits"]
    # KASLR of arm64 moves the kernel in steps of 2 MiB by less than 2^46 (kaslr_early.c), beside
    # bits of the offset below that; arch_randomize_brk and mmap_rnd_bits move the program's areas.
    # init is no PIE: its own data lies still beside the area that it maps. Two boots, two values.
    assert bits["code"] == bits["user_stack"] == 1
    assert bits["user_code"] == 0 and bits["user_heap"] is None
    touched = {one["name"]: one["serving"] for one in facts["devices"]}
    assert touched["pl011"] > 0 and touched["gic_cpu"] > 0


def test_a_kernel_told_to_go_without(kernel: Path, tmp_path: Path) -> None:
    """Each fact's opposite: no KASLR, kernel code writable, a program with a page of both."""
    found = boots(kernel, tmp_path, f"nokaslr {WRITABLE_CODE}", writable_code=True)
    facts = values(found)
    assert facts["randomised_bits"]["code"] == 0
    assert facts["writable_executable_pages"] > 1000
    evidence = found["facts"]["writable_executable_pages"]["evidence"]["detail"]
    assert ", 1 both for users" in evidence
    assert facts["vectors"]["writable"] is True


def test_a_kernel_that_gives_up_shows_its_last_state(kernel: Path) -> None:
    """Without a program it panics, and resets the machine by PSCI."""
    found = examined(kernel, "--append", "console=ttyAMA0 quiet panic=-1", "--boots", 2)
    facts = values(found)
    assert (found["boots"], found["ends"]) == (1, ["guest-reset"])
    assert (facts["paging"], facts["ring3_share"]) == ("4-level, 4 KiB", None)
    assert facts["writable_executable_pages"] is not None and facts["pan"] is True


def test_what_the_file_shows(kernel: Path) -> None:
    guest = read_guest(Source(kernel.read_bytes(), "vmlinuz"), load_guests())
    assert guest.system.id == "linux" and guest.version is not None
    assert guest.version.detail == kernel.name.removeprefix("vmlinuz-")
    assert {entry.id for entry, _ in guest.protocols} == {"linux-arm64", "efi"}
    assert guest.facts["arm64 header"].detail.startswith("aarch64, little-endian, pages of 4 KiB, ")
    done = ringfence("measure", kernel, "--no-plan")
    assert done.code == 0 and "guest" in done.out.splitlines()[0]


@pytest.mark.parametrize("packed", [gzip.compress, lambda data: zboot(gzip.compress(data))])
def test_packed_kernels_are_unpacked_and_started(packed: Any, kernel: Path, tmp_path: Path) -> None:
    """Debian 12 packs none; newer kernels come as EFI zboot programs. A flat guest of ours stands
    for the kernel: QEMU 7.2 itself knows no zboot."""
    from tests.guests.aarch64.build import kernel as guest

    image = tmp_path / "vmlinuz"
    image.write_bytes(packed(guest("image").read_bytes()))
    found = examined(image, "--boots", 1, "--memory", "64m")
    assert (found["kind"], found["ends"]) == ("arm64 Image", [])
    assert values(found)["paging"] == "4-level, 4 KiB"


def test_what_is_broken_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    for data, word in (
        (gzip.compress(bytes(56) + b"ARM\x64" + bytes(4096))[:-30], "broken packed kernel"),
        (gzip.compress(b"not a kernel" * 100), "nothing that QEMU could start"),
        (zboot(b"LZO?" * 9), "broken packed kernel"),
    ):
        image.write_bytes(data)
        done = ringfence("guest", image, "--boots", 1)
        assert done.code == 2 and word in done.err, done.err
