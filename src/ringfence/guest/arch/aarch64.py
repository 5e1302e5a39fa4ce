"""aarch64: system registers from QEMU's debugging interface, stage 1 of EL1 and EL0.

Format of `info registers`: aarch64_cpu_dump_state in QEMU's target/arm/cpu.c; it prints no system
registers. Bits and page tables: Arm Architecture Reference Manual (DDI 0487), D8 (the VMSAv8-64
translation system) and D19 (registers).
"""

from __future__ import annotations

import re
import struct

import msgspec

from ringfence.guest.arch.architecture import Architecture, Words
from ringfence.guest.debugger import Refused
from ringfence.guest.monitor import Ended, Monitor
from ringfence.guest.paging import (
    KERNEL_NO_EXECUTE,
    NO_EXECUTE,
    USER,
    WRITE,
    Entry,
    Root,
)
from ringfence.guest.registers import ALL_RIGHTS, USERS, WRITABLE, Registers

SYSTEM = ("SCTLR", "TCR_EL1", "TTBR0_EL1", "TTBR1_EL1", "VBAR")
"""Registers asked for, by QEMU's names; SCTLR and VBAR are those of EL1."""
WFI = bytes.fromhex("7f2003d5")
_WIDE = re.compile(r"\b(PC|SP|PSTATE)=([0-9a-f]+)")
_NARROW = re.compile(r"\b(R15|R13|PSR)=([0-9a-f]+)")
_NARROW_NAMES = {"R15": "PC", "R13": "SP", "PSR": "PSTATE"}
_NRW, _USER_MODE = 1 << 4, 0x10
_PAN = 1 << 22
"""Of PSTATE. Each exception to EL1 sets it where SPAN is clear; code of EL1 may clear it."""
_VECTORS = 2048
"""Bytes of the exception vectors: sixteen of 128."""

_M, _WXN, _SPAN, _EE = 1 << 0, 1 << 19, 1 << 23, 1 << 25
_HD, _DS = 1 << 40, 1 << 59
_GRANULES = ({0: 12, 1: 16, 2: 14}, {1: 14, 2: 12, 3: 16})
"""TCR_EL1.TG0 and TG1: the same sizes under other numbers."""
_BLOCKS = {12: {30, 21}, 14: {25}, 16: {29}}
_WIDE_BLOCKS = {12: {39}, 14: {36}}
_ADDRESS = (1 << 48) - 1
_LEAST, _USUAL, _MOST = 16, 48, 52
"""Bits of an address: a half of more than 48 needs 64 KiB pages, or TCR_EL1.DS."""


class Stage1(msgspec.Struct, frozen=True):
    """The form of one half's tables. `granule`: bits of an address inside a page. `wide`:
    TCR_EL1.DS, addresses of 52 bits with small pages. `order`: of bytes, as struct(3) has it.
    `joint`: rights in entries that point to tables count (TCR_EL1.HPD off). `dirty`: the processor
    makes a page writable itself that is marked so (TCR_EL1.HD)."""

    name: str
    granule: int
    bits: int
    shifts: tuple[int, ...]
    blocks: frozenset[int]
    wide: bool = False
    order: str = "<"
    joint: bool = True
    dirty: bool = False

    def length(self, level: int) -> int:
        """A page full, or at the top as many as the half needs."""
        return 1 << (self.bits - self.shifts[0] if level == 0 else self.granule - 3)

    def size(self, level: int) -> int:
        """Bytes of a table."""
        return 8 * self.length(level)

    def entries(self, data: bytes, level: int) -> dict[int, Entry]:
        """The valid entries: of tables, of blocks where one may be, of pages at the last level."""
        shift = self.shifts[level]
        last = level == len(self.shifts) - 1
        found = {}
        for index, word in enumerate(struct.unpack(f"{self.order}{len(data) // 8}Q", data)):
            table = bool(word & 2)
            if not word & 1 or (not table if last else not table and shift not in self.blocks):
                continue
            leaf = last or not table
            target = self._address(word) >> (shift if leaf else 0) << (shift if leaf else 0)
            found[index] = Entry(target, self._leaf(word) if leaf else self._table(word), leaf)
        return found

    def _address(self, word: int) -> int:
        low = word & _ADDRESS >> self.granule << self.granule
        return low | (word & 3 << 48) | (word >> 8 & 3) << 50 if self.wide else low

    def _leaf(self, word: int) -> int:
        """AP[1], AP[2], DBM, UXN, PXN."""
        written = not word >> 7 & 1 or (self.dirty and word >> 51 & 1)
        return (
            (WRITE if written else 0)
            | (USER if word >> 6 & 1 else 0)
            | (NO_EXECUTE if word >> 54 & 1 else 0)
            | (KERNEL_NO_EXECUTE if word >> 53 & 1 else 0)
        )

    def _table(self, word: int) -> int:
        """APTable, UXNTable, PXNTable: what no page below exceeds."""
        if not self.joint:
            return WRITE | USER
        return (
            (0 if word >> 62 & 1 else WRITE)
            | (0 if word >> 61 & 1 else USER)
            | (NO_EXECUTE if word >> 60 & 1 else 0)
            | (KERNEL_NO_EXECUTE if word >> 59 & 1 else 0)
        )


def form(granule: int, bits: int, *, wide: bool = False, order: str = "<", joint: bool = True,
         dirty: bool = False) -> Stage1:  # fmt: skip
    """The form of a half with addresses of `bits` bits."""
    step = granule - 3
    shifts = tuple(reversed(range(granule, bits, step)))
    blocks = _BLOCKS[granule] | (_WIDE_BLOCKS[granule] if wide else set())
    name = f"{len(shifts)}-level, {1 << granule - 10} KiB"
    return Stage1(name, granule, bits, shifts, frozenset(blocks), wide, order, joint, dirty)


class _Unknown(Exception):
    """TCR_EL1 asks for what cannot be walked; the message says what."""


def _half(number: int, sctlr: int, tcr: int, ttbr: int) -> Root | None:
    """One half of the addresses, the lower (0) or the upper (1); None where it is closed."""
    fields = tcr >> 16 * number
    if fields >> 7 & 1:
        return None
    granule = _GRANULES[number].get(tcr >> (14, 30)[number] & 3)
    if granule is None:
        raise _Unknown(f"TCR_EL1.TG{number} is reserved")
    bits, wide = 64 - (fields & 63), bool(tcr & _DS) and granule < 16
    if not max(_LEAST, granule + 1) <= bits <= (_MOST if wide or granule == 16 else _USUAL):
        raise _Unknown(f"TCR_EL1.T{number}SZ is {fields & 63}")
    how = form(
        granule, bits, wide=wide, order=">" if sctlr & _EE else "<",
        joint=not tcr >> 41 + number & 1, dirty=bool(tcr & _HD),
    )  # fmt: skip
    table = ttbr & _ADDRESS & -how.size(0)
    if wide or bits > _USUAL:
        table = table & -64 | (ttbr >> 2 & 15) << 48
    # E0PD: programs reach nothing of this half.
    upper = WRITE | NO_EXECUTE if tcr >> 55 + number & 1 else WRITE | USER
    return Root(table, how, start=number * ((1 << 64) - (1 << bits)), upper=upper)


def roots(system: dict[str, int]) -> tuple[tuple[Root, ...], str]:
    """The tables of both halves; none, and the reason, where one is of a form that is not known."""
    try:
        halves = [
            _half(number, system["SCTLR"], system["TCR_EL1"], system[f"TTBR{number}_EL1"])
            for number in (0, 1)
        ]
    except _Unknown as error:
        return (), str(error)
    return tuple(half for half in halves if half is not None), ""


def core(text: str) -> dict[str, int] | None:
    """PC, SP and PSTATE of the first processor from `info registers`, in its 32-bit form as well;
    None where the text shows none."""
    found: dict[str, int] = {}
    for name, number in [*_WIDE.findall(text), *_NARROW.findall(text)]:
        found.setdefault(_NARROW_NAMES.get(name, name), int(number, 16))
    return found if found.keys() == {"PC", "SP", "PSTATE"} else None


def state(core: dict[str, int], system: dict[str, int], before: bytes | None) -> Registers:
    """One sample. `before`: the instruction before the program counter; a processor that waits
    stands behind its WFI."""
    pstate, sctlr = core["PSTATE"], system["SCTLR"]
    # In the 32-bit state the low bits are a mode, of which one is for programs.
    user = pstate & 31 == _USER_MODE if pstate & _NRW else not pstate >> 2 & 3
    paged = bool(sctlr & _M)
    trees, unread = roots(system) if paged else ((), "")
    locked = bool(sctlr & _WXN)
    shut = WRITABLE if locked else frozenset[int]()
    return Registers(
        ring=3 if user else 0,
        halted=before == WFI,
        ip=_untagged(core["PC"]),
        sp=_untagged(core["SP"]),
        paged=paged,
        roots=trees,
        tables=(system["VBAR"],),
        lengths=(_VECTORS,),
        switches=frozenset(
            name for name, on in (("wxn", locked), ("pan", not sctlr & _SPAN)) if on
        ),
        lifted=not pstate & _PAN,
        ports=False,
        # EL1 never executes what EL0 can write (D8.4.5).
        executes=frozenset(one for one in ALL_RIGHTS if not one & KERNEL_NO_EXECUTE)
        - (WRITABLE & USERS) - shut,
        user_executes=frozenset(one for one in ALL_RIGHTS if not one & NO_EXECUTE)
        - (shut & USERS),
        unread=unread,
    )  # fmt: skip


def _untagged(address: int) -> int:
    """An address without the tag that its top byte may hold: bit 55 says which half it is of."""
    low = address & (1 << 56) - 1
    return low | 0xFF << 56 if low >> 55 else low


async def look(monitor: Monitor) -> Registers:
    """The state of a processor that stands still. Raises Ended."""
    found = core(await monitor.text("info registers"))
    if found is None or monitor.debugger is None:
        raise Ended("QEMU showed no registers")
    try:
        system, before = await monitor.debugger.read(SYSTEM, found["PC"] - 4 & (1 << 64) - 1)
    except Refused as error:
        raise Ended(monitor.ending or str(error)) from None
    return state(found, system, before)


_SEGMENTS = "x86 has it; aarch64 has no such table"
AARCH64 = Architecture(
    name="aarch64",
    program="qemu-system-aarch64",
    package="qemu-system-arm",
    machine=("-machine", "virt,memory-backend=ram"),
    # Pointer authentication by the architecture's own cipher makes QEMU many times slower.
    cpu="max,pauth-impdef=on",
    kvm=False,
    debugger=True,
    look=look,
    switches={"wxn": "SCTLR_EL1.WXN", "pan": "SCTLR_EL1.SPAN is 0"},
    tables=("vectors",),
    lifted=("pan", "PSTATE.PAN is 0"),
    absent={
        "wp": "x86 has it; of aarch64 read-only pages bind EL1 always",
        "nx": "x86 has it; of aarch64 UXN and PXN count always",
        "smep": "x86 has it; of aarch64 it is PXN: ring0_executable_user_pages",
        "smap": "x86 has it; of aarch64 it is pan",
        "umip": "x86 has it; of aarch64 EL0 reads no register of the system",
        "idt": "x86 has it; of aarch64 it is vectors",
        "gdt": _SEGMENTS,
        "ring3_ports": "x86 has it; aarch64 has no ports",
    },
    words=Words(
        ring="PSTATE.EL",
        halted="WFI before PC",
        paging="SCTLR_EL1.M, TCR_EL1",
        roots="TTBR0_EL1 and TTBR1_EL1",
        pointers="PC and SP",
    ),
)
