"""Which boot protocol an image speaks, and what is refused, from bytes made here."""

from __future__ import annotations

import struct

import pytest

from ringfence.errors import InputError
from ringfence.guest.kinds import Kind, Read, kind, needs_efi, note_places, packed


def elf(
    machine: int = 62, wide: bool = True, notes: int = 0, multiboot: int | None = None
) -> bytes:
    """An ELF file's head: one PT_NOTE segment of `notes` bytes at 0x1000, a multiboot header."""
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    if wide:
        head = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        head += struct.pack("<IIQQQQQQ", 4, 4, 0x1000, 0, 0, notes, notes, 4)
    else:
        head = ident + struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        head += struct.pack("<IIIIIIII", 4, 0x1000, 0, 0, notes, notes, 4, 4)
    if multiboot is not None:
        head = head.ljust(256, b"\0")
        head += struct.pack("<III", 0x1BADB002, multiboot, -(0x1BADB002 + multiboot) & 0xFFFFFFFF)
    return head.ljust(4096, b"\0")


def efi(machine: int, start: bytes = b"MZ") -> bytes:
    """A PE file's head."""
    head = start.ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    return head + b"PE\0\0" + struct.pack("<H", machine) + bytes(64)


IMAGE = bytes(56) + b"ARM\x64"
PVH = struct.pack("<III", 4, 8, 18) + b"Xen\0" + bytes(8)
GNU = struct.pack("<III", 4, 5, 3) + b"GNU\0" + bytes(8)


def test_a_bzimage_is_asked_for_first() -> None:
    head = b"MZ".ljust(0x1FE, b"\0") + b"\x55\xaa" + b"\xeb\x6aHdrS"
    assert kind(Read(head), "x") is Kind.BZIMAGE


def test_kernels_of_aarch64() -> None:
    stub = b"MZ" + IMAGE[2:] + efi(0xAA64)[60:]
    for read in (Read(IMAGE), Read(stub), Read(elf(machine=183))):
        assert kind(read, "x").architecture == "aarch64"
    assert kind(Read(efi(0x8664)), "x") is Kind.EFI
    assert {one.architecture for one in Kind} == {"x86_64", "aarch64"}


def test_where_a_kernel_is_packed() -> None:
    assert packed(IMAGE) is packed(efi(0xAA64)) is packed(b"MZ\0\0zimg") is None
    assert packed(efi(0xAA64, b"MZ\0\0zimg" + struct.pack("<II", 0x400, 99))) == (0x400, 99)
    assert packed(b"\x1f\x8b\x08") == (0, 1 << 62)


def test_pvh_by_its_note_behind_another() -> None:
    assert kind(Read(elf(), notes=(GNU, GNU + PVH)), "x") is Kind.PVH
    assert note_places(elf(notes=44)) == ((0x1000, 44),)
    assert note_places(elf(wide=False, notes=44)) == ((0x1000, 44),)


def test_multiboot_comes_before_pvh_as_in_qemu() -> None:
    assert kind(Read(elf(multiboot=1 << 16), notes=(PVH,)), "x") is Kind.MULTIBOOT
    assert kind(Read(elf(machine=3, wide=False, multiboot=0)), "x") is Kind.MULTIBOOT


@pytest.mark.parametrize(
    ("read", "word"),
    [
        (Read(b""), "nothing that QEMU"),
        (Read(bytes(4096)), "nothing that QEMU"),
        (Read(b"\x7fELF"), "broken ELF"),
        (Read(elf(machine=243)), "another processor"),
        (Read(elf(machine=183, wide=False)), "another processor"),
        (Read(efi(0xAA64)), "EFI program of another processor"),
        (Read(elf()), "no way to start"),
        (Read(elf(), notes=(GNU,)), "no way to start"),
        (Read(elf(), notes=(PVH[:11],)), "no way to start"),
        (Read(elf(multiboot=0)), "without address fields"),
        (Read(b"QFI\xfb"), "broken qcow2"),
    ],
)
def test_what_is_refused(read: Read, word: str) -> None:
    with pytest.raises(InputError, match=word):
        kind(read, "x")


def test_a_multiboot_magic_with_a_wrong_sum_is_none() -> None:
    head = bytearray(elf(multiboot=1 << 16))
    head[256 + 8] ^= 1
    assert kind(Read(bytes(head), notes=(PVH,)), "x") is Kind.PVH


def qcow2(backing: int = 0, features: int = 0, version: int = 3) -> bytes:
    head = b"QFI\xfb" + struct.pack(">IQ", version, backing)
    return head.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(432)


def test_qcow2() -> None:
    assert kind(Read(qcow2()), "x") is Kind.QCOW2
    assert kind(Read(qcow2(features=4, version=2)), "x") is Kind.QCOW2


@pytest.mark.parametrize("head", [qcow2(backing=112), qcow2(features=4), qcow2(112, 0, 2)])
def test_a_qcow2_that_names_a_file_of_the_host(head: bytes) -> None:
    with pytest.raises(InputError, match="refers to another file"):
        kind(Read(head), "x")


def test_disks() -> None:
    sector = bytes(510) + b"\x55\xaa"
    assert kind(Read(sector), "x") is Kind.RAW
    assert kind(Read(bytes(512) + b"EFI PART"), "x") is Kind.RAW
    assert kind(Read(bytes(64), volume=b"\x01CD001"), "x") is Kind.CD
    assert kind(Read(b"MZ" + sector[2:]), "x") is Kind.EFI


def test_a_disk_that_only_efi_can_boot() -> None:
    sector = bytes(510) + b"\x55\xaa"
    assert needs_efi(sector + b"EFI PART")
    assert not needs_efi(sector)
    assert not needs_efi(b"\xeb\x63" + sector[2:] + b"EFI PART")


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_heads_cut_anywhere_name_no_notes(cut: int) -> None:
    assert note_places(elf(notes=44)[:cut]) in ((), ((0x1000, 44),))


@pytest.mark.parametrize("table", [4097, 1 << 31, (1 << 63) - 1, 0xFFFFFFFFFFFFFF00, (1 << 64) - 1])
def test_program_headers_that_lie_nowhere_name_no_notes(table: int) -> None:
    head = elf(notes=44)
    assert note_places(head[:32] + struct.pack("<Q", table) + head[40:]) == ()
    with pytest.raises(InputError, match="names no way to start"):
        kind(Read(head[:32] + struct.pack("<Q", table) + head[40:]), "x")
