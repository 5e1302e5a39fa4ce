"""`ringfence measure IMAGE`: which format a file has, and its facts as a guest."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ringfence.collect.files.elf import MAGIC as ELF
from ringfence.collect.files.streams import whole_file
from ringfence.collect.guest import qcow2
from ringfence.collect.guest.arm64 import is_arm64, is_zboot, read_arm64, read_zboot
from ringfence.collect.guest.bzimage import is_bzimage, read_bzimage
from ringfence.collect.guest.deployment import deployment_of
from ringfence.collect.guest.disk import is_disk, read_disk
from ringfence.collect.guest.elf import read_layout
from ringfence.collect.guest.kernel import PROGRAM, read_kernel
from ringfence.collect.guest.marks import Reading, place
from ringfence.collect.guest.multiboot import read_multiboot
from ringfence.collect.guest.packed import is_packed, read_packed
from ringfence.collect.guest.pe import Portable, read_pe, text_of
from ringfence.collect.guest.recognise import Contents, Guest, recognise
from ringfence.collect.guest.source import Content, Cut, Source
from ringfence.collect.guest.strings import read_strings
from ringfence.errors import InputError
from ringfence.knowledge.guests import Guests, load_guests
from ringfence.knowledge.records import Knowledge
from ringfence.model.facts import Facts, Target

KIND = "guest"
HEAD = 1024
TAR_MAGIC = b"ustar"
SOLO5 = "/nonexistent/solo5/"
LOADABLE = ("executable", "shared")


def accepts(target: str) -> bool:
    """Whether a file looks like a kernel or a disk. ELF programs of a running system do not."""
    path = Path(target)
    try:
        if not path.is_file() or path.stat().st_size < HEAD // 2:
            return False
        source = _open(path)
        kind = _format(source, load_guests())
        if kind != "elf":
            return bool(kind)
        layout = read_layout(source)
        return layout.kind in LOADABLE and layout.interpreter in ("", SOLO5)
    except (InputError, OSError):
        return False
    except Cut:
        # A broken ELF file is nothing else either: reading it says what is wrong.
        return True


def read_image(path: Path, knowledge: Knowledge) -> Facts:
    """The facts of a guest image: a deployment of the recognised system, as far as it is seen.

    Raises InputError for what is no image, or a broken one.
    """
    guests = load_guests()
    guest = read_guest(_open(path), guests)
    deployment = deployment_of(guest, guests, knowledge)
    return Facts(Target(KIND, str(path)), declared=deployment)


def _open(path: Path) -> Source:
    stretch = whole_file(path)
    content: Content = stretch.data
    return Source(content, str(path))


def read_guest(source: Source, guests: Guests) -> Guest:
    """What an image is and shows. Raises InputError for what is none, or is broken."""
    kind = _format(source, guests)
    if not kind:
        raise InputError(
            "is no image that can be read: no ELF, boot image, arm64 Image, PE, disk, qcow2 or"
            " packed kernel",
            where=source.name,
        )
    reading = Reading()
    reading.mark(f"format:{kind}", source, 0, f"format {kind}")
    try:
        contents = _READERS[kind](source, guests, reading)
    except Cut as error:
        raise InputError(
            f"is a broken {_TITLES[kind]}: {error}",
            where=source.name,
            remedy="is the file whole? build or fetch it again",
        ) from None
    guest = recognise(source.name, source.size, contents, reading, guests)
    _refuse_programs(guest, reading)
    return guest


def _format(source: Source, guests: Guests) -> str:
    """The format by the first bytes; '' for none of them."""
    head = source.read(0, HEAD)
    if head.startswith(ELF):
        return "elf"
    if is_bzimage(head):
        return "bzimage"
    if head[:2] == b"MZ" and _is_pe(source):
        return "pe"
    if is_arm64(head):
        return "arm64"
    if head.startswith(qcow2.MAGIC):
        return "qcow2"
    if head[257:262] != TAR_MAGIC and is_disk(source, guests):
        return "disk"
    return "packed" if is_packed(source) else ""


def _is_pe(source: Source) -> bool:
    at = int.from_bytes(source.read(0x3C, 4), "little")
    return source.read(at, 4) == b"PE\0\0"


def _refuse_programs(guest: Guest, reading: Reading) -> None:
    """An ELF file that only a running system can load is no guest."""
    if guest.recognised or guest.format != "ELF" or guest.layout is None:
        return
    layout = guest.layout
    what = ""
    if layout.kind not in LOADABLE:
        what = f"file of kind {layout.kind}"
    elif layout.interpreter or (reading.has(PROGRAM) and not guest.protocols):
        what = "program of a running system"
    if what:
        raise InputError(
            f"is an ELF {what}, not a kernel",
            where=guest.name,
            remedy="measure its process, or the root file system that it is in",
        )


def _elf(source: Source, guests: Guests, reading: Reading) -> Contents:
    layout, manifest = read_kernel(source, guests, reading)
    return Contents("ELF", layout, manifest)


def _bzimage(source: Source, guests: Guests, reading: Reading) -> Contents:
    """The kernel inside says what it is; what is compressed is searched expanded or not at all."""
    inner = read_bzimage(source, reading)
    if inner is None:
        read_strings(source, guests, reading)
        return Contents("bzImage")
    if inner.read(0, 4) != ELF:
        read_strings(inner, guests, reading)
        return Contents("bzImage")
    try:
        layout, _ = read_kernel(inner, guests, reading)
    except Cut as error:
        reading.miss("the kernel inside", f"is a broken ELF file: {error}")
        return Contents("bzImage")
    return Contents("bzImage", layout)


def _pe(source: Source, guests: Guests, reading: Reading) -> Contents:
    portable = read_pe(source, reading)
    if portable is None:
        raise Cut("the PE header is gone")
    names = ", ".join(item.name for item in portable.sections[:12])
    reading.fact("PE", source, 0, f"{portable.machine}, sections {names}")
    both = ", ".join(portable.writable_executable)
    if both:
        reading.fact("writable and executable", source, 0, f"sections {both}")
    if portable.section(".linux") is not None:
        return _unified(source, portable, guests, reading)
    if is_zboot(source.read(0, HEAD)):
        inner = read_zboot(source, reading)
        if inner is not None:
            return msgspec.structs.replace(_arm64(inner, guests, reading), format="EFI zboot")
    read_multiboot(source, reading)
    _arm64(source, guests, reading)
    return Contents("PE")


def _arm64(source: Source, guests: Guests, reading: Reading) -> Contents:
    """A kernel that is not packed further: the header, if there is one, and strings."""
    read_arm64(source, reading)
    read_strings(source, guests, reading)
    return Contents("arm64 Image")


def _unified(source: Source, portable: Portable, guests: Guests, reading: Reading) -> Contents:
    """A unified kernel image: its kernel is read as an image of its own."""
    section, initial = portable.section(".linux"), portable.section(".initrd")
    assert section is not None  # noqa: S101 - the caller has looked
    kernel = source.part(section.offset, section.size)
    line = portable.section(".cmdline")
    command = None
    if line is not None:
        text = " ".join(text_of(source, line).split())
        command = place(source, line.offset, text)
        reading.fact("command line", source, line.offset, text)
    release = portable.section(".osrel")
    if release is not None:
        reading.fact("release", source, release.offset, _pretty(text_of(source, release)))
    if initial is not None:
        size = f"{initial.size:,} bytes"
        reading.fact("initial file system", source, initial.offset, size)
        reading.miss("the initial file system", "its files are not read: unpack and measure them")
    if is_bzimage(kernel.read(0, HEAD)):
        inner = _bzimage(kernel, guests, reading)
    elif kernel.read(0, 4) == ELF:
        inner = _elf(kernel, guests, reading)
    else:
        inner = _arm64(kernel, guests, reading)
    return Contents("unified kernel image", inner.layout, inner.manifest, command)


def _pretty(text: str) -> str:
    """PRETTY_NAME of os-release(5), or its first line."""
    lines = text.splitlines()
    named = (item for item in lines if item.startswith("PRETTY_NAME="))
    return next(named, lines[0] if lines else "").removeprefix("PRETTY_NAME=").strip("\"'")


def _packed(source: Source, guests: Guests, reading: Reading) -> Contents:
    inner = read_packed(source, reading)
    if is_arm64(inner.read(0, HEAD)):
        return msgspec.structs.replace(_arm64(inner, guests, reading), format="packed kernel")
    layout, manifest = read_kernel(inner, guests, reading)
    return Contents("packed kernel", layout, manifest)


def _disk(source: Source, guests: Guests, reading: Reading) -> Contents:
    read_disk(source, guests, reading)
    reading.miss("files on the disk", "file systems are not opened: measure an unpacked tree")
    return Contents("disk")


def _qcow2(source: Source, guests: Guests, reading: Reading) -> Contents:
    header = qcow2.read_header(source)
    words = f"version {header.version}, virtual size {header.size:,} bytes"
    if header.snapshots:
        words += f", {header.snapshots} snapshots"
    reading.fact("qcow2", source, 0, words)
    for what, name in (("backing file", header.backing), ("data file", header.data_file)):
        if name:
            reading.fact(what, source, 8, f"{name!r} is named; it was not opened")
            reading.miss(f"the {what}", f"{name!r} is named by the image and was not opened")
    if header.closed:
        reading.miss("the disk inside", header.closed)
        return Contents("qcow2")
    inside = source.inside(qcow2.Inside(source, header), "disk inside")
    if inside.size:
        read_disk(inside, guests, reading)
    reading.miss("files on the disk", "file systems are not opened: measure an unpacked tree")
    return Contents("qcow2")


_READERS = {
    "elf": _elf,
    "bzimage": _bzimage,
    "pe": _pe,
    "arm64": _arm64,
    "disk": _disk,
    "qcow2": _qcow2,
    "packed": _packed,
}
_TITLES = {
    "packed": "packed kernel",
    "elf": "ELF file",
    "bzimage": "boot image",
    "pe": "PE file",
    "arm64": "arm64 Image",
    "disk": "disk",
    "qcow2": "qcow2 image",
}
