"""The protections that an ELF file's own headers show: a small reader with a bound on every step.

Written here because the input is hostile and there are hundreds of files in an image: it reads
program headers, the dynamic section and the table of names, and nothing else. The oracle of its
tests is binutils' readelf. Format: https://gabi.xinuos.com/ and the GNU extensions.
"""

from __future__ import annotations

import re
import struct

from ringfence.collect.files.filebytes import FileBytes
from ringfence.model.files import Elf

Bytes = bytes | memoryview | FileBytes

MAGIC = b"\x7fELF"
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 3, 0x6474E551, 0x6474E552
DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_BIND_NOW, DT_FLAGS, DT_FLAGS_1 = 1, 5, 10, 24, 30, 0x6FFFFFFB
DF_BIND_NOW, DF_1_NOW, DF_1_PIE = 0x8, 0x1, 0x08000000
SHT_SYMTAB = 2
MOST_HEADERS = 512
MOST_DYNAMIC = 4096
MOST_NEEDED = 512
MOST_NAMES = 16 << 20
MOST_PATH = 4096
MOST_NAME = 255
"""Bytes of a needed library's name: NAME_MAX of Linux. Hundreds of long ones in each of a
thousand files would be gigabytes."""

MACHINES = {
    2: "sparc", 3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390", 40: "arm",
    42: "sh", 43: "sparcv9", 50: "ia64", 62: "x86_64", 183: "aarch64", 243: "riscv",
    247: "bpf", 258: "loongarch",
}  # fmt: skip
"""e_machine, by the names that uname(1) has for them."""

_NAME_CHARACTERS = re.compile(rb"\0__\w+\Z")


class _Broken(Exception):
    """A header that points nowhere; the message becomes the file's `problem`."""


def read_elf(data: Bytes) -> Elf | None:
    """The facts of an ELF file's bytes, or None when it is not ELF. Never raises on bad input.

    What cannot be read is at its weakest value, and `problem` says why.
    """
    head = bytes(data[:20])
    if len(head) < 20 or head[:4] != MAGIC:
        return None
    if head[4] not in (1, 2) or head[5] not in (1, 2):
        return _nothing("unknown", 0, "class or byte order makes no sense")
    order, wide = "<" if head[5] == 1 else ">", head[4] == 2
    kind, number = struct.unpack_from(f"{order}HH", head, 16)
    machine, bits = MACHINES.get(number, f"machine-{number}"), 64 if wide else 32
    try:
        return _Reader(data, order, wide).facts(kind, machine)
    except _Broken as error:
        return _nothing(machine, bits, str(error))
    except struct.error:
        return _nothing(machine, bits, "the file ends inside its headers")


def _nothing(machine: str, bits: int, problem: str) -> Elf:
    return Elf(machine, bits, "unknown", False, "none", False, False, False, False, "", (), problem)


class _Reader:
    """One file: its data, byte order and width."""

    def __init__(self, data: Bytes, order: str, wide: bool) -> None:
        self.data = data
        self.order = order
        self.wide = wide
        self.word = "Q" if wide else "I"
        self.segments = self._segments()

    def _unpack(self, form: str, offset: int) -> tuple[int, ...]:
        if offset < 0 or offset > len(self.data):
            raise _Broken("a header points beyond the end of the file")
        form = self.order + form
        return struct.unpack(form, self.data[offset : offset + struct.calcsize(form)])

    def _segments(self) -> list[tuple[int, int, int, int, int]]:
        """Program headers as (type, flags, offset, address, size in the file)."""
        base = 32 if self.wide else 28
        (table,) = self._unpack(self.word, base)
        size, count = self._unpack("HH", 54 if self.wide else 42)
        least = 56 if self.wide else 32
        if count and size < least:
            raise _Broken(f"program headers of {size} bytes")
        if count > MOST_HEADERS:
            raise _Broken(f"{count} program headers")
        return [self._segment(table + index * size) for index in range(count)]

    def _segment(self, at: int) -> tuple[int, int, int, int, int]:
        if self.wide:
            kind, flags, offset, address, _, length = self._unpack("IIQQQQ", at)
        else:
            kind, offset, address, _, length, _, flags = self._unpack("IIIIIII", at)
        return kind, flags, offset, address, length

    def facts(self, kind: int, machine: str) -> Elf:
        dynamic = self._dynamic()
        flags = dict.fromkeys((DT_FLAGS, DT_FLAGS_1), 0) | {
            tag: value for tag, value in dynamic if tag in (DT_FLAGS, DT_FLAGS_1)
        }
        names = self._names(dynamic)
        interpreter = self._interpreter()
        loads = [flags for kind_, flags, *_ in self.segments if kind_ == PT_LOAD]
        stack = [flags for kind_, flags, *_ in self.segments if kind_ == PT_GNU_STACK]
        has_dynamic = any(segment[0] == PT_DYNAMIC for segment in self.segments)
        bind_now = (
            any(tag == DT_BIND_NOW for tag, _ in dynamic)
            or bool(flags[DT_FLAGS] & DF_BIND_NOW)
            or bool(flags[DT_FLAGS_1] & DF_1_NOW)
        )
        relro = any(segment[0] == PT_GNU_RELRO for segment in self.segments)
        program = {1: "relocatable", 2: "executable", 3: "shared", 4: "core"}.get(kind, "unknown")
        if program == "shared" and (interpreter or flags[DT_FLAGS_1] & DF_1_PIE):
            program = "pie" if interpreter else "static-pie"
        searched = names or self._symbol_names()
        return Elf(
            machine=machine,
            bits=64 if self.wide else 32,
            kind=program,
            # Without PT_GNU_STACK, Linux makes the stack executable on the older machines only.
            nx=not (stack[0] & 1) if stack else machine in ("aarch64", "riscv"),
            relro=("full" if bind_now or not has_dynamic else "partial") if relro else "none",
            canary=b"\0__stack_chk_fail\0" in searched or b"\0__stack_chk_guard\0" in searched,
            fortify=_fortified(searched),
            writable_executable=any(flags & 3 == 3 for flags in loads),
            static=program in ("executable", "static-pie") and not interpreter,
            interpreter=interpreter,
            needed=self._needed(dynamic, names),
        )

    def _dynamic(self) -> list[tuple[int, int]]:
        """(tag, value) pairs of the dynamic section."""
        size = 16 if self.wide else 8
        for kind, _, offset, _, length in self.segments:
            if kind != PT_DYNAMIC:
                continue
            pairs: list[tuple[int, int]] = []
            for index in range(min(length // size, MOST_DYNAMIC)):
                tag, value = self._unpack(self.word * 2, offset + index * size)
                if tag == 0:
                    break
                pairs.append((tag, value))
            return pairs
        return []

    def _offset_of(self, address: int) -> int:
        """Where an address of memory lies in the file."""
        for kind, _, offset, start, length in self.segments:
            if kind == PT_LOAD and start <= address < start + length:
                return offset + address - start
        raise _Broken("an address of the dynamic section is in no segment")

    def _names(self, dynamic: list[tuple[int, int]]) -> bytes:
        """The table of dynamic names, from a zero byte to a zero byte."""
        found = dict(dynamic)
        if DT_STRTAB not in found or DT_STRSZ not in found:
            return b""
        start = self._offset_of(found[DT_STRTAB])
        return bytes(self.data[start : start + min(found[DT_STRSZ], MOST_NAMES)])

    def _needed(self, dynamic: list[tuple[int, int]], names: bytes) -> tuple[str, ...]:
        wanted = [value for tag, value in dynamic if tag == DT_NEEDED][:MOST_NEEDED]
        return tuple(_text(names, value, MOST_NAME) for value in wanted if value < len(names))

    def _interpreter(self) -> str:
        for kind, _, offset, _, length in self.segments:
            if kind == PT_INTERP:
                return _text(bytes(self.data[offset : offset + min(length, MOST_PATH)]), 0)
        return ""

    def _symbol_names(self) -> bytes:
        """The names of the full symbol table of a file without dynamic ones: static programs."""
        if self.wide:
            (table,) = self._unpack("Q", 40)
            size, count = self._unpack("HH", 58)
        else:
            (table,) = self._unpack("I", 32)
            size, count = self._unpack("HH", 46)
        if not table or size < (64 if self.wide else 40) or count > 4 * MOST_HEADERS:
            return b""
        for index in range(count):
            section = self._section(table + index * size)
            if section[0] == SHT_SYMTAB and section[1] < count:
                _, _, offset, length = self._section(table + section[1] * size)
                return bytes(self.data[offset : offset + min(length, MOST_NAMES)])
        return b""

    def _section(self, at: int) -> tuple[int, int, int, int]:
        """(type, link, offset, size) of one section header."""
        if self.wide:
            _, kind, _, _, offset, length, link = self._unpack("IIQQQQI", at)
        else:
            _, kind, _, _, offset, length, link = self._unpack("IIIIIII", at)
        return kind, link, offset, length


def _fortified(names: bytes) -> bool:
    """Whether a name like `__printf_chk` is among the names, `__stack_chk_...` aside."""
    at = names.find(b"_chk\0")
    while at >= 0:
        if _NAME_CHARACTERS.search(names[max(0, at - 64) : at]):
            return True
        at = names.find(b"_chk\0", at + 1)
    return False


def _text(table: bytes, at: int, most: int = MOST_PATH) -> str:
    end = table.find(b"\0", at, at + most)
    return table[at : end if end >= 0 else at + most].decode("utf-8", "replace")
