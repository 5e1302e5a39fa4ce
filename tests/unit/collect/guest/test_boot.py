"""Boot images: the kernel inside decides; what cannot be expanded is said, within bounds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc
from collections.abc import Callable

import lz4.block  # type: ignore[import-untyped]
import pytest
import zstandard

from ringfence.collect.guest import payload
from ringfence.collect.guest.source import Cut
from ringfence.errors import InputError
from tests.unit.collect.guest.reading import read
from tests.unit.collect.guest.samples import bzimage, elf, pe

KERNEL = elf(sections={".init.text": b"\0"}, contents=b"Linux version 6.1.0-x (a@b) (gcc) #1 SMP\0")
WORDS = "6.1.0-x (a@b) #1 SMP today"


def lz4_legacy(data: bytes) -> bytes:
    """LZ4's legacy format with one block, and the size that the kernel's build appends."""
    block: bytes = lz4.block.compress(data, store_size=False)
    return (
        b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block + struct.pack("<I", len(data))
    )


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstandard.compress,
    "lz4": lz4_legacy,
}


@pytest.mark.parametrize("name", PACKERS)
def test_the_kernel_inside_is_recognised(name: str) -> None:
    guest = read(bzimage(version=WORDS, payload=PACKERS[name](KERNEL)))
    assert guest.system.id == "linux"
    assert guest.version is not None
    assert guest.version.detail == "6.1.0-x"
    assert f"{len(KERNEL):,} bytes" in guest.facts["compressed kernel"].detail
    assert guest.layout is not None


@pytest.mark.parametrize("name", PACKERS)
def test_another_kernel_inside_linuxs_words_is_not_linux(name: str) -> None:
    guest = read(bzimage(version=WORDS, payload=PACKERS[name](elf())))
    assert guest.system.id == "unknown"


@pytest.mark.parametrize(
    "data", [b"LZO?" * 9, gzip.compress(KERNEL)[:-40], lz4_legacy(KERNEL)[:200]],
    ids=["unknown", "gzip cut", "lz4 cut"],
)  # fmt: skip
def test_a_payload_that_cannot_be_read_leaves_the_header(data: bytes) -> None:
    named, nameless = read(bzimage(version=WORDS, payload=data)), read(bzimage(payload=data))
    assert named.system.id == "linux-header"
    assert nameless.system.id == "unknown"
    assert any(item.what == "the compressed kernel" for item in named.unseen)


def test_a_payload_beyond_the_file_is_said() -> None:
    data = bytearray(bzimage(version=WORDS, payload=b"x"))
    struct.pack_into("<II", data, 0x248, 0xFFFFFFF0, 0xFFFFFFF0)
    assert any("claims" in item.why for item in read(bytes(data)).unseen)


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_stops_within_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MOST_EXPANDED", 4 << 20)
    bomb = PACKERS[name](bytes(7 << 20))
    tracemalloc.start()
    with pytest.raises(Cut, match="more than 4 MiB"):
        payload.expand(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80 << 20


def unified(command: bytes = b"quiet\0", kernel: bytes = b"") -> bytes:
    """A UKI of four sections."""
    return pe({
        ".osrel": (0x40000040, b'NAME=X\nPRETTY_NAME="Some OS 1"\n'),
        ".cmdline": (0x40000040, command),
        ".linux": (0x40000040, kernel or bzimage(payload=gzip.compress(KERNEL))),
        ".initrd": (0x40000040, b"070701"),
    })  # fmt: skip


def test_a_unified_kernel_image_is_what_its_kernel_is() -> None:
    guest = read(unified())
    assert guest.system.id == "linux"
    assert guest.format == "unified kernel image"
    assert guest.facts["release"].detail == "Some OS 1"
    assert guest.facts["command line"].detail == "quiet"
    assert any("initial file system" in item.what for item in guest.unseen)
    assert read(unified(kernel=bzimage())).system.id == "unknown"


def test_writable_executable_sections_of_a_pe_file_are_told() -> None:
    both = read(pe({".text": (0xE0000020, b"\xc3"), ".data": (0xC0000040, b"1")}))
    assert both.facts["writable and executable"].detail == "sections .text"
    assert "writable and executable" not in read(pe({".text": (0x60000020, b"\xc3")})).facts


def archive(*files: tuple[str, bytes]) -> bytes:
    """A gzip tar, by the standard library."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return raw.getvalue()


HERMIT = b'version = "1"\nkernel = "bin/kernel"\n[input]\nkernel_args = []\n'


@pytest.mark.parametrize("first", [True, False], ids=["configuration first", "kernel first"])
def test_an_image_of_hermit_is_read_through_its_configuration(first: bool) -> None:
    files = [("hermit.toml", HERMIT), ("./bin/kernel", elf(kind=3)), ("data/x", b"1")]
    guest = read(archive(*(files if first else reversed(files))))
    assert guest.system.id == "hermit"
    assert guest.layout is not None
    assert guest.layout.kind == "shared"
    assert guest.facts["files of the application"].detail == "1 beside the kernel"


@pytest.mark.parametrize(
    ("configuration", "problem"),
    [(HERMIT.replace(b"bin/kernel", b"../../etc/passwd"), "not there"),
     (HERMIT.replace(b'"1"', b'"9"'), "not of version 1"),
     (b"[" * 5000, "no TOML")],
    ids=["outside", "version", "nested"],
)  # fmt: skip
def test_a_configuration_that_makes_no_sense_is_said(configuration: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read(archive(("hermit.toml", configuration), ("bin/kernel", elf())))


def test_a_root_file_system_is_no_packed_kernel() -> None:
    with pytest.raises(InputError, match="no image"):
        read(archive(("etc/hermit.toml", HERMIT), ("bin/kernel", elf())))


@pytest.mark.parametrize("name", PACKERS)
def test_a_kernel_packed_as_a_whole(name: str) -> None:
    guest = read(PACKERS[name](KERNEL))
    assert (guest.system.id, guest.format) == ("linux", "packed kernel")
