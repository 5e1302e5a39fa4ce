"""What an ELF kernel shows of itself: rights, devices, notes; and headers that lie."""

from __future__ import annotations

import struct

import pytest

from ringfence.errors import InputError
from tests.unit.collect.guest.reading import read
from tests.unit.collect.guest.samples import (
    BASE,
    PT_NOTE,
    R,
    W,
    X,
    elf,
    note,
    solo5_abi,
    solo5_manifest,
)


def test_a_segment_with_both_rights_is_told_with_its_place() -> None:
    data = elf(loads=((R | X, BASE, 0x1000), (R | W | X, 0x300000, 0x2000)))
    fact = read(data).facts["writable and executable"]
    assert "rwx 0x300000 (8,192 bytes)" in fact.detail
    assert "writable and executable" not in read(elf()).facts


def test_segments_that_overlap_join_their_rights() -> None:
    data = elf(loads=((R | X, BASE, 0x2000), (R | W, BASE + 0x1000, 0x1000)))
    assert "overlap" in read(data).facts["writable and executable"].detail
    apart = elf(loads=((R | X, BASE, 0x1000), (R | W, BASE + 0x1000, 0x1000)))
    assert "writable and executable" not in read(apart).facts


def test_a_segment_of_no_size_counts_for_nothing() -> None:
    data = elf(loads=((R | X, BASE, 0x1000), (R | W | X, 0x300000, 0)))
    assert "writable and executable" not in read(data).facts


@pytest.mark.parametrize(
    ("kind", "words"), [(2, "at a fixed address"), (3, "position independent")]
)
def test_position_independence(kind: int, words: str) -> None:
    assert words in read(elf(kind=kind)).facts["ELF"].detail


def test_the_manifest_of_solo5_lists_its_devices() -> None:
    notes = solo5_abi(2) + solo5_manifest(("service", 2), ("storage", 1))
    guest = read(elf(notes=notes))
    assert guest.manifest is not None
    assert guest.manifest.target == "spt"
    assert guest.manifest.devices is not None
    assert [(item.kind, item.name) for item in guest.manifest.devices] == [
        ("net", "service"),
        ("block", "storage"),
    ]
    assert guest.facts["declared devices"].detail == "net 'service', block 'storage'"


def test_a_manifest_without_devices_is_not_a_missing_one() -> None:
    none = read(elf(notes=solo5_abi(1) + solo5_manifest())).manifest
    missing = read(elf(notes=solo5_abi(1))).manifest
    assert none is not None
    assert missing is not None
    assert (none.devices, missing.devices) == ((), None)


def lying(offset: int, form: str, value: int) -> bytes:
    """A manifest with one number changed, at an offset from its note's header."""
    body = bytearray(solo5_manifest(("service", 2)))
    struct.pack_into(form, body, offset, value)
    return elf(notes=solo5_abi(1) + bytes(body))


@pytest.mark.parametrize(
    "data",
    [lying(24, "<I", 7), lying(28, "<I", 65), lying(28, "<I", 0xFFFFFFFF), lying(28, "<I", 60),
     lying(32 + 104 + 68, "<I", 9)],
    ids=["another version", "65 entries", "billions", "more than it holds", "an odd type"],
)  # fmt: skip
def test_a_manifest_that_lies_is_not_believed(data: bytes) -> None:
    guest = read(data)
    assert guest.system.id == "solo5"
    assert guest.manifest is not None
    assert guest.manifest.devices is None
    assert any("note of Solo5" in item.what for item in guest.unseen)


@pytest.mark.parametrize("offset", [0, 4], ids=["name", "descriptor"])
def test_a_note_with_a_lying_size_ends_the_notes(offset: int) -> None:
    first = bytearray(note("Xen", 18, bytes(4)))
    struct.pack_into("<I", first, offset, 0xFFFFFFF0)
    guest = read(elf(notes=bytes(first) + solo5_abi(1)))
    assert not guest.recognised


def test_notes_of_a_section_alone_are_read() -> None:
    data = bytearray(elf(notes=solo5_abi(1)))
    third = 64 + 2 * 56
    assert struct.unpack_from("<I", data, third)[0] == PT_NOTE
    struct.pack_into("<I", data, third, 0)
    assert read(bytes(data)).system.id == "unknown"
    named = elf(sections={".note.solo5.abi": solo5_abi(1)})
    table = struct.unpack_from("<Q", named, 40)[0]
    changed = bytearray(named)
    struct.pack_into("<I", changed, table + 64 + 4, 7)
    assert read(bytes(changed)).system.id == "solo5"


def test_the_stack_protector_by_symbol_and_by_its_message() -> None:
    for data in (
        elf(symbols=("__stack_chk_fail",)),
        elf(contents=b"Solo5: ABORT: Stack corruption detected\n"),
    ):
        assert [entry.id for entry, _ in read(data).protections] == ["stack-protector"]
    assert read(elf(symbols=("main",))).protections == ()


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [(32, "<Q", 2**64 - 1), (32, "<Q", 1 << 40), (56, "<H", 0xFFFF), (54, "<H", 1),
     (4, "<B", 9), (5, "<B", 0)],
    ids=["largest offset", "beyond", "65535 segments", "tiny headers", "no class", "no order"],
)  # fmt: skip
def test_broken_headers_end_in_one_line(offset: int, form: str, value: int) -> None:
    data = bytearray(elf())
    struct.pack_into(form, data, offset, value)
    with pytest.raises(InputError, match="broken ELF file"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [(40, "<Q", 1 << 50), (60, "<H", 0xFFFE), (58, "<H", 3), (62, "<H", 0xFFF0)],
    ids=["offset beyond", "65534 sections", "tiny headers", "no names"],
)
def test_broken_sections_leave_the_segments(offset: int, form: str, value: int) -> None:
    data = bytearray(elf(notes=solo5_abi(1)))
    struct.pack_into(form, data, offset, value)
    guest = read(bytes(data))
    assert guest.system.id == "solo5"
    assert any(item.what == "sections" for item in guest.unseen)


@pytest.mark.parametrize("kind", [1, 4], ids=["relocatable", "core"])
def test_what_cannot_boot_is_refused(kind: int) -> None:
    with pytest.raises(InputError, match="not a kernel"):
        read(elf(kind=kind))


def test_a_program_of_linux_is_refused() -> None:
    tag = note("GNU", 1, struct.pack("<IIII", 0, 3, 2, 0))
    for data in (elf(interpreter="/lib64/ld-linux-x86-64.so.2"), elf(notes=tag)):
        with pytest.raises(InputError, match="program of a running system"):
            read(data)
