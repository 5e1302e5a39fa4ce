"""An ELF object as the loader sees it: segments, symbols, pointers, and where functions start.

Function starts come from the table that unwinding needs (.eh_frame_hdr, sorted and complete in
what compilers write), from symbols and from pointers; the files of a Debian system are stripped.
Formats: https://gabi.xinuos.com/, the x86-64 psABI, LSB's .eh_frame_hdr.
"""

from __future__ import annotations

import bisect
import functools
import re
import struct
from collections import defaultdict

PT_LOAD, PT_DYNAMIC, PT_GNU_EH_FRAME = 1, 2, 0x6474E550
DT_NEEDED, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_INIT, DT_FINI = 1, 5, 6, 7, 8, 12, 13
DT_PLTRELSZ, DT_RPATH, DT_JMPREL, DT_RUNPATH, DT_RELRSZ, DT_RELR = 2, 15, 23, 29, 35, 36
ARRAYS = ((25, 27), (26, 28), (32, 33))
"""(table, size) tags of DT_INIT_ARRAY, DT_FINI_ARRAY and DT_PREINIT_ARRAY."""
R_ABSOLUTE, R_COPY, R_GLOB_DAT, R_JUMP_SLOT, R_RELATIVE, R_IRELATIVE = 1, 5, 6, 7, 8, 37
STT_FUNC, STT_IFUNC = 2, 10
EM_X86_64 = 62
EXECUTABLE = 1
MOST_POINTERS = 4_000_000
MOST_SYMBOLS = 1_000_000
_ORIGIN = re.compile(r"\$(?:ORIGIN|\{ORIGIN\})")


class Unreadable(Exception):
    """The object is not one whose code can be followed; the message says why."""


class Segment:
    """One PT_LOAD: `start` address, `end` in the file's bytes, `top` in memory, and its bytes."""

    def __init__(self, start: int, data: bytes, size: int, flags: int) -> None:
        self.start = start
        self.end = start + len(data)
        self.top = start + size
        self.data = data
        self.code = bool(flags & EXECUTABLE)


class Loaded:
    """One object. Raises Unreadable when it is not a whole 64-bit x86-64 ELF file."""

    def __init__(self, data: bytes) -> None:
        try:
            self._read(data)
        except (struct.error, IndexError, ValueError, OverflowError) as error:
            raise Unreadable(f"its headers make no sense ({error})") from None

    def _read(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", data, 18)[0] != EM_X86_64:
            raise Unreadable("not a 64-bit x86-64 ELF file")
        self.fixed = struct.unpack_from("<H", data, 16)[0] == 2
        """ET_EXEC: addresses stand in code and data as they are, without relocations."""
        (self.entry,) = struct.unpack_from("<Q", data, 24)
        self.segments: list[Segment] = []
        self._unwind = self._dynamic_at = self._dynamic_size = 0
        self._headers(data)
        self._tags: dict[int, list[int]] = defaultdict(list)
        self._dynamic()
        self.symbols: list[tuple[str, int, int, bool]] = []
        """(name, address, type, defined here)"""
        self._names()
        self.slots: dict[int, str] = {}
        """Address of a pointer that the loader fills in -> the symbol that it will point to."""
        self.pointers: dict[int, int] = {}
        """Address of a pointer within this object -> where it points."""
        self._relocations()
        self.whole = False
        """No table of functions: reachability sees one function only."""
        self.starts = self._starts(data)
        self._ordered = sorted(self.starts)
        self._units = sorted(self._called() | self.starts) if self.whole else self._ordered

    def _headers(self, data: bytes) -> None:
        (table,) = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        for index in range(min(count, 512)):
            kind, flags, offset, address, _, length, memory, _ = struct.unpack_from(
                "<IIQQQQQQ", data, table + size * index
            )
            if kind == PT_LOAD:
                part = data[offset : offset + length]
                self.segments.append(Segment(address, part, memory, flags))
            elif kind == PT_DYNAMIC:
                self._dynamic_at, self._dynamic_size = address, length
            elif kind == PT_GNU_EH_FRAME:
                self._unwind = address

    def _at(self, address: int, size: int) -> bytes:
        for part in self.segments:
            if part.start <= address < part.end:
                return part.data[address - part.start : address - part.start + size]
        raise ValueError(f"address {address:#x} is in no segment")

    def _words(self, address: int, size: int) -> list[int]:
        count = min(size // 8, MOST_POINTERS)
        return list(struct.unpack(f"<{count}Q", self._at(address, 8 * count)))

    def _dynamic(self) -> None:
        words = self._words(self._dynamic_at, self._dynamic_size) if self._dynamic_size else []
        for tag, value in zip(words[::2], words[1::2], strict=False):
            if tag == 0:
                return
            self._tags[tag].append(value)

    def _tag(self, tag: int) -> int:
        found = self._tags.get(tag)
        return found[0] if found else 0

    def _names(self) -> None:
        """The dynamic symbols. Their number is nowhere stated: the table of names follows them."""
        names, table = self._tag(DT_STRTAB), self._tag(DT_SYMTAB)
        if not names or not table:
            return
        text = self._at(names, 1 << 24)
        rows = self._at(table, names - table if names > table else 24 * MOST_SYMBOLS)
        for at in range(0, min(len(rows) - 23, 24 * MOST_SYMBOLS), 24):
            name, info, _, section, value, _ = struct.unpack_from("<IBBHQQ", rows, at)
            if name >= len(text):
                return
            word = text[name : text.index(b"\0", name)].decode("utf-8", "replace")
            self.symbols.append((word, value, info & 15, bool(section and value)))

    def _relocations(self) -> None:
        for table, size in ((DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)):
            if self._tag(table):
                rows = self._words(self._tag(table), self._tag(size))
                for place, info, addend in zip(rows[::3], rows[1::3], rows[2::3], strict=False):
                    self._relocated(place, info & 0xFFFFFFFF, info >> 32, addend)
        if self._tag(DT_RELR):
            self._packed(self._words(self._tag(DT_RELR), self._tag(DT_RELRSZ)))
        if self.fixed:
            self._bare_pointers()

    def _relocated(self, place: int, kind: int, symbol: int, addend: int) -> None:
        if kind in (R_RELATIVE, R_IRELATIVE):
            self.pointers[place] = addend
        elif kind in (R_ABSOLUTE, R_GLOB_DAT, R_JUMP_SLOT, R_COPY) and symbol < len(self.symbols):
            self.slots[place] = self.symbols[symbol][0]

    def _packed(self, entries: list[int]) -> None:
        """DT_RELR: an address, then bit maps of the 63 words that follow."""
        at = 0
        for entry in entries:
            if not entry & 1:
                places, at = [entry], entry + 8
            else:
                places = [at + 8 * bit for bit in range(63) if entry >> (bit + 1) & 1]
                at += 63 * 8
            for place in places:
                self.pointers[place] = self._words(place, 8)[0]

    def _bare_pointers(self) -> None:
        """In a fixed program a pointer is any aligned word that holds an address of its code."""
        for part in self.segments:
            if part.code:
                continue
            count = len(part.data) // 8
            for index, word in enumerate(struct.unpack_from(f"<{count}Q", part.data)):
                if self.in_code(word):
                    self.pointers.setdefault(part.start + 8 * index, word)

    def _starts(self, data: bytes) -> frozenset[int]:
        """Where functions begin. Without a table of them all, the code is taken as one function:
        what is guessed wrong there would be missed. musl's C code, for one, has no table."""
        frames = _frames(data)
        unwound = set(self._unwound()) or set(frames)
        code = sum(len(part.data) for part in self.segments if part.code)
        if not unwound or (frames and sum(frames.values()) < COVERED * code):
            self.whole = True
            return frozenset(part.start for part in self.segments if part.code)
        found = {value for _, value, kind, here in self.symbols
                 if here and kind in (STT_FUNC, STT_IFUNC)}  # fmt: skip
        found |= unwound | set(self.pointers.values())
        found |= {self.entry, self._tag(DT_INIT), self._tag(DT_FINI)}
        return frozenset(address for address in found if self.in_code(address))

    def _called(self) -> set[int]:
        """Whatever an instruction calls: good enough to tell one piece of code from the next."""
        found = {
            part.start + match.end(1) + struct.unpack("<i", match[1])[0]
            for part in self.segments
            if part.code
            for match in re.finditer(rb"(?s)(?=\xe8(.{4}))", part.data)
        }
        return {address for address in found if self.in_code(address)}

    def _unwound(self) -> list[int]:
        """The sorted table of .eh_frame_hdr: offsets of function starts, from its own address."""
        if not self._unwind:
            return []
        head = self._at(self._unwind, 12)
        if head[2:4] != b"\x03\x3b":  # udata4 count, datarel sdata4 table
            return []
        (count,) = struct.unpack_from("<I", head, 8)
        table = self._at(self._unwind + 12, 8 * min(count, MOST_POINTERS))
        return [self._unwind + offset for offset, _ in struct.iter_unpack("<ii", table)]

    @functools.cached_property
    def needed(self) -> tuple[str, ...]:
        """DT_NEEDED: names of libraries."""
        return self._texts(DT_NEEDED)

    def run_path(self, path: str) -> tuple[str, ...]:
        """DT_RUNPATH, or the older DT_RPATH: folders where its libraries are looked for first.

        `path` is where the object lies, relative to its root: what $ORIGIN stands for.
        """
        texts = self._texts(DT_RUNPATH) or self._texts(DT_RPATH)
        folder = path.rpartition("/")[0]
        parts = [part for text in texts for part in text.split(":") if part]
        return tuple(_ORIGIN.sub(f"/{folder}", part).strip("/") for part in parts)

    def _texts(self, tag: int) -> tuple[str, ...]:
        if not self._tags.get(tag) or not self._tag(DT_STRTAB):
            return ()
        text = self._at(self._tag(DT_STRTAB), 1 << 24)
        ends = ((value, text.find(b"\0", value)) for value in self._tags[tag])
        return tuple(text[value:end].decode("utf-8", "replace") for value, end in ends if end > 0)

    @functools.cached_property
    def roots(self) -> tuple[int, ...]:
        """What the loader calls by itself: initialisers and finalisers."""
        found = [self._tag(DT_INIT), self._tag(DT_FINI)]
        for table, size in ARRAYS:
            start = self._tag(table)
            for at in range(start, start + min(self._tag(size), 1 << 16), 8):
                found.append(self.pointers.get(at, 0))
        return tuple(address for address in found if self.in_code(address))

    @functools.cached_property
    def exports(self) -> dict[str, int]:
        """Name -> address of every function and object that others can refer to."""
        found: dict[str, int] = {}
        for name, value, _, here in self.symbols:
            if here:
                found.setdefault(name, value)
        return found

    def in_code(self, address: int) -> bool:
        """Whether an address lies in an executable segment."""
        return any(part.start <= address < part.end for part in self.segments if part.code)

    def in_data(self, address: int) -> bool:
        """Whether an address lies in another segment, .bss included."""
        return any(part.start <= address < part.top for part in self.segments if not part.code)

    def function(self, address: int) -> int:
        """The start of the function that holds an address of code."""
        index = bisect.bisect_right(self._ordered, address) - 1
        return self._ordered[index] if index >= 0 else address

    def unit(self, address: int) -> int:
        """The start of the piece of code that holds an address: its function, where one knows."""
        index = bisect.bisect_right(self._units, address) - 1
        return self._units[index] if index >= 0 else address

    def units(self) -> list[int]:
        """The starts of all pieces of code."""
        return self._units

    def code(self, start: int) -> bytes:
        """The bytes of the piece of code that starts there, up to the next one."""
        index = bisect.bisect_right(self._units, start)
        for part in self.segments:
            if part.code and part.start <= start < part.end:
                end = self._units[index] if index < len(self._units) else part.end
                return part.data[start - part.start : min(end, part.end) - part.start]
        return b""


COVERED = 0.5
"""Share of the code that a table must cover to count as one of all functions: compilers cover all
of theirs, and what is left is padding, assembly and linkage stubs."""


def _frames(data: bytes) -> dict[int, int]:
    """Function starts and sizes from the section .eh_frame: static programs have no sorted table.

    Records are a length and an id; an id of 0 is a CIE, another the way back to one. Only the
    pointer encoding that compilers write is read: relative, four bytes, signed.
    """
    place = _section(data, b".eh_frame\0")
    if place is None:
        return {}
    address, offset, size = place
    encodings: dict[int, bool] = {}
    found: dict[int, int] = {}
    at, end = offset, min(offset + size, len(data) - 16)
    while at < end:
        length, back = struct.unpack_from("<II", data, at)
        if length in (0, 0xFFFFFFFF):
            break
        if back == 0:
            encodings[at] = data[at + 9 : at + 12] == b"zR\0" and _encoding(data, at + 12) == PCREL4
        elif encodings.get(at + 4 - back):
            distance, length_of_code = struct.unpack_from("<iI", data, at + 8)
            found[address + at + 8 - offset + distance] = length_of_code
        at += 4 + length
    return found


PCREL4 = 0x1B
"""DW_EH_PE_pcrel | DW_EH_PE_sdata4."""


def _encoding(data: bytes, at: int) -> int:
    """The pointer encoding of a CIE with the augmentation `zR`: after four LEB128 numbers."""
    for _ in range(4):
        while data[at] & 0x80:
            at += 1
        at += 1
    return data[at]


def _section(data: bytes, wanted: bytes) -> tuple[int, int, int] | None:
    """(address, offset, size) of a section, where the file has section headers."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    if not table or size < 64 or names >= count:
        return None
    (text,) = struct.unpack_from("<Q", data, table + names * size + 24)
    for index in range(count):
        name, _, _, address, offset, length = struct.unpack_from(
            "<IIQQQQ", data, table + index * size
        )
        if data[text + name : text + name + len(wanted)] == wanted:
            return address, offset, length
    return None
