"""How an image is started: the boot protocol that its first bytes speak, asked in QEMU's order.

The protocol says nothing of which system is inside: that is recognised elsewhere
(collect/guest). `HdrS`: Documentation/arch/x86/boot.rst in Linux, arm64's Image:
Documentation/arch/arm64/booting.rst; multiboot 1: its specification, 3.1; PVH: Xen's
docs/misc/pvh.pandoc; order of questions: x86_load_linux in QEMU's hw/i386/x86-common.c.
"""

from __future__ import annotations

import enum
import struct

import msgspec

from ringfence.errors import InputError

HEAD = 64 << 10
"""Bytes of an image that are looked at; notes of an ELF file may lie farther in."""
_MULTIBOOT, _MULTIBOOT_AREA, _ADDRESSES = 0x1BADB002, 8192, 1 << 16
_XEN_PHYS32_ENTRY = 18
_PT_NOTE = 4
_MOST_HEADERS, _MOST_NOTE = 64, 64 << 10
_X86, _AARCH64 = (3, 62), 183
_ARM64_MAGIC_AT, _ARM64_MAGIC = 56, b"ARM\x64"
_EFI_X86 = (0x14C, 0x8664)
_GZIP, _ZBOOT = b"\x1f\x8b", b"zimg"
QCOW2 = b"QFI\xfb"
_GPT, _ISO = b"EFI PART", b"CD001"


class Kind(enum.StrEnum):
    """What an image is to a machine's firmware."""

    BZIMAGE = "bzImage"
    MULTIBOOT = "multiboot ELF"
    PVH = "PVH ELF"
    EFI = "EFI program"
    ARM64 = "arm64 Image"
    ARM64_ELF = "aarch64 ELF"
    RAW = "raw disk"
    QCOW2 = "qcow2 disk"
    CD = "CD image"

    @property
    def disk(self) -> bool:
        """Whether firmware boots it, not QEMU's own loader."""
        return self in (Kind.RAW, Kind.QCOW2, Kind.CD)

    @property
    def architecture(self) -> str:
        """Whose machine starts it: the name in `arch.known`. No disk says whose it is."""
        return "aarch64" if self in (Kind.ARM64, Kind.ARM64_ELF) else "x86_64"


class Read(msgspec.Struct, frozen=True):
    """The stretches of a file that decide: its start, the sector of a CD's descriptor, and (ELF)
    the contents of its PT_NOTE segments."""

    head: bytes
    volume: bytes = b""
    notes: tuple[bytes, ...] = ()


def note_places(head: bytes) -> tuple[tuple[int, int], ...]:
    """Offset and length of the PT_NOTE segments that an ELF file's program headers name.

    Bounded; none where the headers make no sense.
    """
    try:
        wide = head[4] == 2
        (table,) = struct.unpack_from("<Q" if wide else "<I", head, 32 if wide else 28)
        size, count = struct.unpack_from("<HH", head, 54 if wide else 42)
        form, least = ("<I4xQ16xQ", 56) if wide else ("<IIIII", 32)
        if size < least or table > len(head):
            return ()
        found = []
        for index in range(min(count, _MOST_HEADERS)):
            fields = struct.unpack_from(form, head, table + index * size)
            offset, length = (fields[1], fields[2]) if wide else (fields[1], fields[4])
            if fields[0] == _PT_NOTE:
                found.append((offset, min(length, _MOST_NOTE)))
    except (struct.error, IndexError):
        return ()
    return tuple(found)


def kind(read: Read, where: str) -> Kind:
    """How QEMU can start this image. Raises InputError where it cannot, or must not."""
    head = read.head
    if head[0x202:0x206] == b"HdrS":
        return Kind.BZIMAGE
    if head[:4] == b"\x7fELF":
        return _elf(read, where)
    if head[_ARM64_MAGIC_AT : _ARM64_MAGIC_AT + 4] == _ARM64_MAGIC:
        return Kind.ARM64
    if head[:2] == b"MZ":
        return _efi(head, where)
    if head[:4] == QCOW2:
        refuse_references(head, where)
        return Kind.QCOW2
    if read.volume[1:6] == _ISO:
        return Kind.CD
    if head[510:512] == b"\x55\xaa" or head[512:520] == _GPT:
        return Kind.RAW
    raise InputError(
        "nothing that QEMU could start", where=where,
        remedy="a bzImage, a multiboot or PVH ELF file, an EFI program, a raw or qcow2 disk with"
        " a boot sector; of aarch64 an Image or an ELF file",
    )  # fmt: skip


def packed(head: bytes) -> tuple[int, int] | None:
    """Offset and length of the compressed kernel that is the whole of a file: a gzip stream (to its
    end), or what an EFI zboot program carries (drivers/firmware/efi/libstub/zboot-header.S in
    Linux). None for other files."""
    if head[:2] == _GZIP:
        return 0, 1 << 62
    if head[:2] == b"MZ" and head[4:8] == _ZBOOT and len(head) >= 16:
        offset, length = struct.unpack_from("<II", head, 8)
        return offset, length
    return None


def needs_efi(head: bytes) -> bool:
    """Whether a disk can be booted by EFI only: a GPT whose first sector holds no program."""
    return head[512:520] == _GPT and not any(head[:440])


def _elf(read: Read, where: str) -> Kind:
    head = read.head
    if len(head) < 52 or head[4] not in (1, 2) or head[5] != 1:
        raise InputError("a broken ELF file", where=where, remedy="build it again")
    (machine,) = struct.unpack_from("<H", head, 18)
    if machine == _AARCH64 and head[4] == 2:
        return Kind.ARM64_ELF
    if machine not in _X86:
        raise InputError(
            "an ELF file of another processor", where=where, remedy="use an x86 or aarch64 image"
        )
    flags = _multiboot_flags(head)
    if flags is not None:
        if head[4] == 2 and not flags & _ADDRESSES:
            raise InputError(
                "a 64-bit multiboot ELF file without address fields, which QEMU refuses",
                where=where, remedy="objcopy -O elf32-i386 it",
            )  # fmt: skip
        return Kind.MULTIBOOT
    if any(_is_pvh(note) for note in read.notes):
        return Kind.PVH
    raise InputError(
        "an ELF file that names no way to start it", where=where,
        remedy="it needs a multiboot header or a PVH note; of Linux use the bzImage",
    )  # fmt: skip


def _efi(head: bytes, where: str) -> Kind:
    """A PE file that this machine's firmware can run."""
    at = int.from_bytes(head[0x3C:0x40], "little")
    machine = int.from_bytes(head[at + 4 : at + 6], "little")
    if head[at : at + 4] == b"PE\0\0" and machine not in _EFI_X86:
        raise InputError(
            "an EFI program of another processor", where=where,
            remedy="of aarch64 name the kernel itself: its Image or its ELF file",
        )  # fmt: skip
    return Kind.EFI


def _multiboot_flags(head: bytes) -> int | None:
    """The flags of a multiboot 1 header in the first 8 KiB, whose three words sum up to zero."""
    area = head[:_MULTIBOOT_AREA]
    for at in range(0, len(area) - 11, 4):
        magic, flags, check = struct.unpack_from("<III", area, at)
        if magic == _MULTIBOOT and (magic + flags + check) & 0xFFFFFFFF == 0:
            return int(flags)
    return None


def _is_pvh(notes: bytes) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name, size, number = struct.unpack_from("<III", notes, at)
        start = at + 12
        if number == _XEN_PHYS32_ENTRY and notes[start : start + name].rstrip(b"\0") == b"Xen":
            return True
        at = start + (name + 3 & ~3) + (size + 3 & ~3)
    return False


def refuse_references(head: bytes, where: str) -> None:
    """A qcow2 that names another file would have QEMU read that file of the host (qcow2.txt)."""
    if len(head) < 104:
        raise InputError("a broken qcow2 image", where=where, remedy="try qemu-img check on it")
    (backing,) = struct.unpack_from(">Q", head, 8)
    version, features = struct.unpack_from(">I", head, 4)[0], 0
    if version >= 3:
        (features,) = struct.unpack_from(">Q", head, 72)
    if backing or features & 4:
        raise InputError(
            "a qcow2 image that refers to another file", where=where,
            remedy="qemu-img convert -O qcow2 it into one file",
        )  # fmt: skip
