"""x86: control registers from QEMU's monitor, paging of two to five levels.

Format of `info registers`: x86_cpu_dump_state in QEMU's target/i386/cpu-dump.c. Bits: Intel SDM
volume 3, 2.2, 2.3 and 2.5; segments: 3.4 and 5.2.1; page tables: 4.3 to 4.6.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

import msgspec

from ringfence.guest.arch.architecture import Architecture, Words
from ringfence.guest.monitor import Ended, Monitor
from ringfence.guest.paging import NO_EXECUTE, PAGE, USER, WRITE, Entry, Root
from ringfence.guest.registers import ALL_RIGHTS, USERS, Registers

_WORD = re.compile(r"\b(CR0|CR3|CR4|EFER|CPL|HLT)=([0-9a-f]+)")
_LINE = re.compile(r"\b[RE](IP|SP|FL)=([0-9a-f]+)")
_TABLE = re.compile(r"^(GDT|IDT)=\s*([0-9a-f]+) ([0-9a-f]+)", re.MULTILINE)
_SEGMENT = re.compile(r"^(CS|SS) *=[0-9a-f]{4} ([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)", re.MULTILINE)
_NEEDED = frozenset({"CR0", "CR3", "CR4", "EFER", "CPL", "HLT", "IP", "SP", "FL", "GDT", "IDT"})

_PG, _PSE, _PAE, _LA57, _LMA = 1 << 31, 1 << 4, 1 << 5, 1 << 12, 1 << 10
_ROOT = 0x000FFFFFFFFFF000
"""The part of CR3 that is an address; the rest is the address space's number (PCID) and flags."""
_LONG, _BIG = 1 << 21, 1 << 22
"""L and D/B in the second word of a descriptor (3.4.5)."""
_IOPL, _AC = 3 << 12, 1 << 18
"""Of EFLAGS: the rings that may use all ports, and what suspends SMAP (4.6.1)."""
_PRESENT, _LARGE, _NX = 1, 1 << 7, 1 << 63
_BITS = {
    "wp": ("CR0", 1 << 16),
    "nx": ("EFER", 1 << 11),
    "smep": ("CR4", 1 << 20),
    "smap": ("CR4", 1 << 21),
    "umip": ("CR4", 1 << 11),
}


class Mode(msgspec.Struct, frozen=True):
    """A form of paging: how far an address is shifted at each level, from the top; bytes of an
    entry; the shifts at which an entry may be a large page; bits of a linear address."""

    name: str
    shifts: tuple[int, ...]
    entry: int
    large: frozenset[int]
    bits: int

    def length(self, level: int) -> int:
        """512, or 1,024 of four bytes, or PAE's four at the top."""
        return 4 if self is PAE and level == 0 else PAGE // self.entry

    def size(self, level: int) -> int:
        """Bytes of a table."""
        return self.length(level) * self.entry

    def entries(self, data: bytes, level: int) -> dict[int, Entry]:
        """The present entries."""
        letter = "Q" if self.entry == 8 else "I"
        words = struct.unpack(f"<{len(data) // self.entry}{letter}", data)
        return {
            index: self._entry(word, level) for index, word in enumerate(words) if word & _PRESENT
        }

    def _entry(self, word: int, level: int) -> Entry:
        shift = self.shifts[level]
        leaf = shift == 12 or (shift in self.large and bool(word & _LARGE))
        address = word & _ROOT
        if leaf and shift > 12:
            address = address >> shift << shift
        if self is PAE and level == 0:
            return Entry(address, WRITE | USER, False)
        rights = (word >> 1 & 3) | (NO_EXECUTE if word & _NX else 0)
        return Entry(address, rights, leaf)


FIVE_LEVEL = Mode("5-level", (48, 39, 30, 21, 12), 8, frozenset({30, 21}), 57)
FOUR_LEVEL = Mode("4-level", (39, 30, 21, 12), 8, frozenset({30, 21}), 48)
PAE = Mode("PAE", (30, 21, 12), 8, frozenset({21}), 32)
TWO_LEVEL = Mode("32-bit", (22, 12), 4, frozenset(), 32)
TWO_LEVEL_LARGE = Mode("32-bit", (22, 12), 4, frozenset({22}), 32)


def mode(cr4: int, efer: int) -> Mode:
    """The form of paging in force, if it is on (SDM volume 3, 4.1.1)."""
    if efer & _LMA:
        return FIVE_LEVEL if cr4 & _LA57 else FOUR_LEVEL
    if cr4 & _PAE:
        return PAE
    return TWO_LEVEL_LARGE if cr4 & _PSE else TWO_LEVEL


def _root(cr3: int, cr4: int, efer: int) -> Root:
    """The top table. Without PAE and in PAE paging CR3 has 32 bits."""
    part = _ROOT if efer & _LMA else 0xFFFFFFE0 if cr4 & _PAE else 0xFFFFF000
    return Root(cr3 & part, mode(cr4, efer), signed=True)


def parse(text: str) -> Registers | None:
    """The first processor's state from `info registers`; None where the text is not one."""
    found: dict[str, int] = {}
    for name, number in [*_WORD.findall(text), *_LINE.findall(text)]:
        found.setdefault(name, int(number, 16))
    for name, base, limit in _TABLE.findall(text):
        found.setdefault(name, int(base, 16))
        found.setdefault(f"{name} limit", int(limit, 16))
    segments: dict[str, tuple[int, int]] = {}
    for name, base, flags in _SEGMENT.findall(text):
        segments.setdefault(name, (int(base, 16), int(flags, 16)))
    if not (found.keys() >= _NEEDED and segments.keys() == {"CS", "SS"}):
        return None
    ip, sp = _linear(found, *segments["CS"], *segments["SS"])
    return state(found | {"IP": ip, "SP": sp})


def _linear(
    found: Mapping[str, int], code: int, code_flags: int, stack: int, stack_flags: int
) -> tuple[int, int]:
    """Instruction and stack pointer as linear addresses: with the bases of their segments, which
    64-bit code does not have."""
    ip, sp = found["IP"], found["SP"]
    if found["EFER"] & _LMA and code_flags & _LONG:
        return ip, sp
    used = sp if stack_flags & _BIG else sp & 0xFFFF
    return (code + ip) & 0xFFFFFFFF, (stack + used) & 0xFFFFFFFF


def state(found: Mapping[str, int]) -> Registers:
    """One sample from the registers by their names; IP and SP as linear addresses, tables by their
    bases and limits."""
    on = frozenset(name for name, (word, bit) in _BITS.items() if found[word] & bit)
    paged = bool(found["CR0"] & _PG)
    # The no-execute bit counts only with EFER.NXE; SMEP takes pages of users from ring 0.
    code = frozenset(one for one in ALL_RIGHTS if not (one & NO_EXECUTE and "nx" in on))
    return Registers(
        ring=found["CPL"],
        halted=found["HLT"] != 0,
        ip=found["IP"],
        sp=found["SP"],
        paged=paged,
        roots=(_root(found["CR3"], found["CR4"], found["EFER"]),) if paged else (),
        tables=(found["IDT"], found["GDT"]),
        lengths=tuple((found[f"{name} limit"] & 0xFFFF) + 1 for name in ("IDT", "GDT")),
        switches=on,
        lifted=bool(found["FL"] & _AC),
        ports=found["CPL"] <= (found["FL"] & _IOPL) >> 12,
        executes=code - USERS if "smep" in on else code,
        user_executes=code & USERS,
    )


async def look(monitor: Monitor) -> Registers:
    """The state of a processor that stands still. Raises Ended."""
    registers = parse(await monitor.text("info registers"))
    if registers is None:
        raise Ended("QEMU showed no registers")
    return registers


X86 = Architecture(
    name="x86_64",
    program="qemu-system-x86_64",
    package="qemu-system-x86",
    # A triple fault is told in the log of resets alone.
    machine=("-machine", "pc,hpet=off,vmport=off,usb=off,memory-backend=ram", "-d", "cpu_reset"),
    cpu="max",
    kvm=True,
    debugger=False,
    look=look,
    switches={
        "wp": "CR0.WP",
        "nx": "EFER.NXE",
        "smep": "CR4.SMEP",
        "smap": "CR4.SMAP",
        "umip": "CR4.UMIP",
    },
    tables=("idt", "gdt"),
    lifted=("smap", "EFLAGS.AC"),
    absent={
        "pan": "aarch64 has it; of x86 it is smap",
        "wxn": "aarch64 has it; x86 has no such switch",
        "vectors": "aarch64 has them; of x86 it is idt",
    },
    words=Words(
        ring="CPL",
        halted="HLT",
        paging="CR0.PG, CR4, EFER",
        roots="CR3",
        pointers="RIP and RSP",
    ),
)
