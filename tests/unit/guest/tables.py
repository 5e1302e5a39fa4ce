"""Page tables made for tests: a physical memory to map pages in, and what QEMU would show of it."""

from __future__ import annotations

import struct

from ringfence.guest.arch.x86 import FOUR_LEVEL, Mode, state
from ringfence.guest.paging import Root, Tables
from ringfence.guest.registers import Registers

PRESENT, WRITABLE, USER, LARGE, NX = 1, 2, 4, 1 << 7, 1 << 63
MEMORY = 1 << 20
ALL = PRESENT | WRITABLE | USER


class Physical:
    """Physical memory: tables lie one behind the other from 4 KiB on; from 1 to 16 MiB all is zero,
    elsewhere there is none."""

    def __init__(self, form: Mode = FOUR_LEVEL) -> None:
        self.form = form
        self.tables: dict[int, list[int]] = {}
        self.root = self.table()

    def table(self) -> int:
        """A new, empty table: its address."""
        address = 0x1000 * (len(self.tables) + 1)
        self.tables[address] = [0] * (0x1000 // self.form.entry)
        return address

    def map(
        self, address: int, physical: int, flags: int, *, at: int = 12, upper: int = ALL
    ) -> None:
        """Map a page at the level that shifts by `at`; new tables above it have flags `upper`."""
        table = self.root
        for shift in self.form.shifts:
            size = 0x1000 // self.form.entry
            index = address >> shift & (size - 1)
            if shift == at:
                self.tables[table][index] = physical | flags | (LARGE if at > 12 else 0)
                return
            if not self.tables[table][index]:
                self.tables[table][index] = self.table() | upper
            table = self.tables[table][index] & 0x000FFFFFFFFFF000

    def read(self, address: int, length: int) -> bytes | None:
        """As guest memory is read."""
        if address not in self.tables:
            return bytes(length) if MEMORY <= address < MEMORY << 4 else None
        letter = "Q" if self.form.entry == 8 else "I"
        words = self.tables[address]
        return struct.pack(f"<{len(words)}{letter}", *words)[:length]

    def walked(self) -> Tables:
        """A fresh walk of these tables."""
        return Tables(self.read, (Root(self.root, self.form, signed=True),))


def registers(
    ip: int = 0, sp: int = 0, *, cpl: int = 0, nx: bool = True, wp: bool = True,
    paged: bool = True, halted: bool = False, root: int = 0x1000, cr4: int = 0x20, idt: int = 0,
    gdt: int = 0, flags: int = 2,
) -> Registers:  # fmt: skip
    """A processor in long mode."""
    return state({
        "CPL": cpl, "HLT": halted, "IP": ip, "SP": sp, "CR0": (paged << 31) | (wp << 16) | 1,
        "CR3": root, "CR4": cr4, "EFER": 0x500 | (nx << 11), "FL": flags,
        "GDT": gdt, "IDT": idt, "GDT limit": 0x2F, "IDT limit": 0xFFF,
    })  # fmt: skip
