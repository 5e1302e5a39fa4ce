"""Each system by its published signature; the boot protocol is told apart from the system."""

from __future__ import annotations

import gzip
import struct

import pytest

from tests.unit.collect.guest.reading import read
from tests.unit.collect.guest.samples import (
    BASE,
    PVH,
    R,
    W,
    X,
    arm64,
    bzimage,
    elf,
    mbr,
    multiboot,
    nanos_disk,
    note,
    pe,
    qcow2,
    solo5_abi,
    solo5_manifest,
    zboot,
)

ABI_TAG = note("GNU", 1, struct.pack("<IIII", 0, 3, 2, 0))
RWX = ((R | W | X, 0x200000, 0x4000),)
LINUX = b"Linux version 6.1.0-x (a@b) (gcc) #1 SMP\0initcall_debug\0"

SYSTEMS = {
    "solo5": elf(notes=solo5_abi(1) + solo5_manifest(("service", 2))),
    "solo5, interpreter alone": elf(interpreter="/nonexistent/solo5/"),
    "hermit": elf(notes=note("HERMIT", 0x5A00, b"\x04"), osabi=255, kind=3),
    "hermit, for uhyve": elf(notes=note("UHYVEIF", 0x5B00, b"\0\0\0\x02"), kind=3),
    "unikraft": elf(sections={".uk_inittab": b"\0" * 8}, contents=multiboot()),
    "unikraft, stripped": elf(
        contents=multiboot() + b"Powered by Unikraft Telesto (0.16.1~aa)\0", notes=PVH
    ),
    "unikraft, stripped, its drawn banner": elf(
        contents=multiboot() + b"oOo oOO| | | | |   (| | | (_) |  _) :_\n\0"
    ),
    "unikraft, stripped, its classic banner": elf(
        contents=b"\\_,_/_//_/_/_/\\_\\/_/  \\_,_/_/ \\__/\n\0", notes=PVH
    ),
    "unikraft, Xen": elf(notes=note("Xen", 6, b"Unikraft\0")),
    "osv": elf(loads=RWX, sections={".start32_address": b"\0" * 4}),
    "osv, notes": elf(
        loads=RWX, notes=note("Xen", 6, b"osv\0") + note("Xen", 18, bytes(8))
    ),
    "osv, behind a boot header": bzimage(
        protocol=0x204, behind=bytes(96) + elf(sections={".tracepoint_patch_sites": b"\0"})
    ),
    "includeos": elf(sections={".elf_symbols": b"\0" * 4, ".memdisk": b"\0"}),
    "includeos, stripped": elf(contents=multiboot() + struct.pack("<II", 0xFEE1DEAD, BASE)),
    "rumprun": elf(sections={"__xen_guest": b"GUEST_OS=rumprun,XEN_VER=xen-3.0\0"}),
    "rumprun, unbaked": elf(sections={".note.rumprun.bakerecipe": b"x"}, kind=1),
    "mini-os": elf(sections={"__xen_guest": b"GUEST_OS=Mini-OS,LOADER=generic\0"}),
    "nanos": elf(notes=PVH, symbols=("ro_after_init_start", "vvar_page", "x")),
    "nanos, disk": nanos_disk(),
    "nanos, disk in qcow2": qcow2(nanos_disk()),
    "linux": elf(sections={".init.text": b"\0"}, contents=LINUX),
    "linux, arm64 Image": arm64(LINUX),
    "linux, arm64 Image packed": gzip.compress(arm64(LINUX)),
    "linux, EFI zboot": zboot(gzip.compress(arm64(LINUX))),
    "linux, PE arm64": pe({".text": (0x60000020, LINUX)}, machine=0xAA64)[:56]
    + b"ARM\x64"
    + pe({".text": (0x60000020, LINUX)}, machine=0xAA64)[60:],
}  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_signature_is_recognised(name: str) -> None:
    guest = read(SYSTEMS[name])
    assert guest.system.id == name.partition(",")[0]
    assert guest.recognised


@pytest.mark.parametrize(
    ("name", "form"),
    [("linux, arm64 Image", "arm64 Image"), ("linux, arm64 Image packed", "packed kernel"),
     ("linux, EFI zboot", "EFI zboot"), ("linux, PE arm64", "PE")],
)  # fmt: skip
def test_images_of_arm64_name_their_architecture(name: str, form: str) -> None:
    guest = read(SYSTEMS[name])
    assert guest.format == form
    assert guest.facts["arm64 header"].detail.startswith("aarch64, ")


def test_what_the_header_of_an_arm64_image_says() -> None:
    said = read(arm64(b"", flags=0b0111, size=4096)).facts["arm64 header"].detail
    assert said == "aarch64, big-endian, pages of 64 KiB, 4,096 bytes, near the start of memory"
    said = read(arm64(b"", flags=0b1010)).facts["arm64 header"].detail
    assert "little-endian, pages of 4 KiB" in said and "anywhere" in said


# Named: a gzip header holds the time, and workers whose tests have other names do not begin.
@pytest.mark.parametrize(
    "payload", [b"LZO?" * 9, gzip.compress(arm64(LINUX))[:-40]], ids=["LZO", "cut short"]
)
def test_a_zboot_program_whose_kernel_is_broken_says_so(payload: bytes) -> None:
    guest = read(zboot(payload))
    assert not guest.recognised
    assert "the compressed kernel" in [gap.what for gap in guest.unseen]


UNKNOWN = {
    "an Image without any sign": arm64(b""),
    "an ELF file without any sign": elf(),
    "a boot header alone": bzimage(version="Memtest86+ v6.10"),
    "a boot header with Linux's words but without its kernel": bzimage(
        version="6.1.0 (a@b) #1 SMP"
    ),
    "a note of Xen": elf(notes=PVH),
    "notes of Xen that name nobody": elf(notes=note("Xen", 6, b"other\0")),
    "a multiboot header": elf(contents=multiboot()),
    "the words of /proc/version": elf(contents=LINUX, notes=PVH),
    "Unikraft's words in a kernel of another": elf(
        contents=multiboot() + b"Powered by many; not Unikraft\0", notes=PVH
    ),
    "Unikraft's name without the rest of its banner": elf(
        contents=multiboot() + b"Powered by Unikraft or by others\0", notes=PVH
    ),
    "Linux's words, without the rest of its banner, in a kernel of another": elf(
        sections={".init.text": b"\0"}, contents=b"Linux version 9.9-compat\0", notes=PVH
    ),
    "a program that mentions Unikraft": elf(contents=b"Powered by Unikraft Telesto (1)\0"),
    "the standalone OS/ABI": elf(osabi=255),
    "an EFI application": pe({".text": (0x60000020, b"\xc3")}),
    "a disk": mbr((0x83, 1, 8)) + bytes(8192),
    "the OpenBSD note of Solo5": elf(notes=note("OpenBSD", 1, bytes(4)), contents=multiboot()),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_has_no_sign_is_not_guessed(name: str) -> None:
    guest = read(UNKNOWN[name])
    assert guest.system.id == "unknown"
    assert guest.system.title == "unknown kernel"
    assert not guest.recognised


PROTOCOLS = {
    "pvh": SYSTEMS["nanos"],
    "multiboot": elf(contents=multiboot()),
    "multiboot2": elf(
        contents=struct.pack("<IIII", 0xE85250D6, 0, 16, -(0xE85250D6 + 16) & 0xFFFFFFFF)
    ),
    "linux-x86": bzimage(version="x"),
    "xen-pv": SYSTEMS["mini-os"],
    "solo5-hvt": SYSTEMS["solo5"],
    "uhyve": SYSTEMS["hermit, for uhyve"],
    "efi": UNKNOWN["an EFI application"],
    "boot-sector": SYSTEMS["nanos, disk"],
    "linux-arm64": SYSTEMS["linux, PE arm64"],
}  # fmt: skip


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_named_beside_the_system(name: str) -> None:
    assert name in {entry.id for entry, _ in read(PROTOCOLS[name]).protocols}


def test_a_multiboot_header_without_its_checksum_is_none() -> None:
    broken = struct.pack("<III", 0x1BADB002, 0, 1)
    assert read(elf(contents=broken)).protocols == ()


def test_versions_are_read_where_they_stand() -> None:
    guest = read(SYSTEMS["unikraft, stripped"])
    assert guest.version is not None
    assert guest.version.detail == "Telesto (0.16.1~aa)"
    offset = int(guest.version.source.partition("@")[2], 16)
    assert SYSTEMS["unikraft, stripped"][offset:].startswith(b"Powered by Unikraft ")


LANGUAGES = {
    "ocaml": elf(symbols=("caml_main",)),
    "go": elf(notes=note("Go", 4, b"id"), contents=multiboot()),
    "rust": elf(contents=b"/rustc/abc/library/core/src/panicking.rs\0"),
    "cpp": elf(symbols=("__gxx_personality_v0",)),
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_languages(name: str) -> None:
    assert [entry.id for entry, _ in read(LANGUAGES[name]).languages] == [name]


def test_the_go_version_and_main_package_are_named() -> None:
    information = (
        b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\x08go1.21.5\x20path\texample.com/app\n"
    )
    guest = read(elf(contents=information + bytes(64)))
    assert guest.facts["compiled by Go"].detail == "1.21.5"
    assert guest.facts["main package"].detail == "example.com/app"


def test_a_symbol_counts_as_a_whole_name() -> None:
    assert read(elf(symbols=("my_caml_main", "caml_main_loop"))).languages == ()
