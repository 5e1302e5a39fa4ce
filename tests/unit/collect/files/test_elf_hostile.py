"""ELF files that lie about themselves: never an exception, never a long wait."""

from __future__ import annotations

import struct
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.collect.files.elf import read_elf
from ringfence.collect.files.filebytes import of_file
from ringfence.model.files import Elf

GOOD = Path("/bin/true").read_bytes()
PHOFF, PHENTSIZE, PHNUM = 32, 54, 56


def patched(offset: int, form: str, value: int) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into(f"<{form}", data, offset, value)
    return bytes(data)


def test_the_good_one_is_sound() -> None:
    found = read_elf(GOOD)
    assert found is not None
    assert found.problem == ""
    assert found.needed == ("libc.so.6",)


@pytest.mark.parametrize(
    "data",
    [
        patched(PHOFF, "Q", 2**63 - 1),
        patched(PHOFF, "Q", 2**64 - 1),
        patched(PHOFF, "Q", len(GOOD) - 8),
        patched(PHNUM, "H", 0xFFFF),
        patched(PHENTSIZE, "H", 1),
        patched(4, "B", 9),
        patched(5, "B", 0),
    ],
    ids=["huge offset", "largest offset", "offset at the end", "65535 headers", "tiny headers",
         "no class", "no byte order"],
)  # fmt: skip
def test_absurd_headers_become_a_problem(data: bytes) -> None:
    found = read_elf(data)
    assert found is not None
    assert found.problem
    assert (found.nx, found.relro, found.canary) == (False, "none", False)


def test_what_is_no_elf_is_none() -> None:
    for data in (b"", b"\x7fEL", b"#!/bin/sh\n" * 9, b"\x7fELF"):
        assert read_elf(data) is None


@settings(max_examples=400, deadline=2000, derandomize=True)
@given(st.data())
def test_mutated_files_never_raise(data: st.DataObject) -> None:
    """Bytes changed where headers, dynamic section and names lie."""
    mutated = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 12))):
        place = data.draw(st.integers(0, 1200) | st.integers(0, len(GOOD) - 1))
        mutated[place] = data.draw(st.integers(0, 255))
    assert isinstance(read_elf(bytes(mutated)), Elf | None)


@settings(max_examples=150, deadline=2000, derandomize=True)
@given(st.integers(0, len(GOOD)))
def test_files_cut_anywhere_never_raise(length: int) -> None:
    found = read_elf(GOOD[:length])
    assert (found is None) == (length < 20)


def test_a_file_read_in_slices_is_the_same_file(tmp_path: Path) -> None:
    with FileIO("/bin/true") as file:
        assert read_elf(of_file(file)) == read_elf(GOOD)


def test_a_file_that_shrinks_while_it_is_read_ends_nobody(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(GOOD)
    with FileIO(path) as file:
        data = of_file(file)
        path.write_bytes(GOOD[:100])
        found = read_elf(data)
    assert found is not None
    assert found.problem


def test_the_name_of_a_needed_library_is_no_longer_than_a_files() -> None:
    size, table = 4200, b"\0" + b"a" * 4199
    dynamic = b"".join(struct.pack("<QQ", *pair) for pair in ((1, 1), (5, 0x1000), (10, size)))
    dynamic += bytes(16)
    at = 64 + 2 * 56
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0
    )  # fmt: skip
    text = struct.pack("<IIQQQQQQ", 1, 5, at + len(dynamic), 0x1000, 0x1000, size, size, 0x1000)
    found = read_elf(
        header + text
        + struct.pack("<IIQQQQQQ", 2, 6, at, 0x9000, 0x9000, len(dynamic), len(dynamic), 8)
        + dynamic + table
    )  # fmt: skip
    assert found is not None
    assert found.needed == ("a" * 255,)
