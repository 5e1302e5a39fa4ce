"""The processor's state as QEMU's monitor prints it (`info registers`), one record a sample.

Format: x86_cpu_dump_state in QEMU's target/i386/cpu-dump.c. Bits: Intel SDM volume 3, 2.2 and 2.5.
"""

from __future__ import annotations

import re

import msgspec

_WORD = re.compile(r"\b(CR0|CR3|CR4|EFER|CPL|HLT)=([0-9a-f]+)")
_LINE = re.compile(r"\b[RE](IP|SP)=([0-9a-f]+)")
_TABLE = re.compile(r"^(GDT|IDT)=\s*([0-9a-f]+) ([0-9a-f]+)", re.MULTILINE)
_NEEDED = frozenset({"CR0", "CR3", "CR4", "EFER", "CPL", "HLT", "IP", "SP", "GDT", "IDT"})

CR0_WP, CR0_PG = 1 << 16, 1 << 31
CR4_PSE, CR4_PAE, CR4_UMIP, CR4_LA57 = 1 << 4, 1 << 5, 1 << 11, 1 << 12
CR4_SMEP, CR4_SMAP = 1 << 20, 1 << 21
EFER_LMA, EFER_NXE = 1 << 10, 1 << 11
ROOT = 0x000FFFFFFFFFF000
"""The part of CR3 that is an address; the rest is the address space's number (PCID) and flags."""


class Registers(msgspec.Struct, frozen=True):
    """One look at the processor. Addresses are linear, `gdt` and `idt` are their bases."""

    cpl: int
    halted: bool
    ip: int
    sp: int
    cr0: int
    cr3: int
    cr4: int
    efer: int
    gdt: int
    idt: int

    @property
    def paged(self) -> bool:
        """Whether addresses go through page tables."""
        return bool(self.cr0 & CR0_PG)

    @property
    def write_protect(self) -> bool:
        """CR0.WP: read-only pages bind ring 0, too."""
        return bool(self.cr0 & CR0_WP)

    @property
    def no_execute(self) -> bool:
        """EFER.NXE: the page tables' no-execute bit counts."""
        return bool(self.efer & EFER_NXE)

    @property
    def root(self) -> int:
        """Physical address of the top table. Without PAE and in PAE paging CR3 has 32 bits."""
        if self.efer & EFER_LMA:
            return self.cr3 & ROOT
        return self.cr3 & (0xFFFFFFE0 if self.cr4 & CR4_PAE else 0xFFFFF000)


def parse(text: str) -> Registers | None:
    """The first processor's state from `info registers`; None where the text is not one."""
    found: dict[str, int] = {}
    for name, number in [*_WORD.findall(text), *_LINE.findall(text)]:
        found.setdefault(name, int(number, 16))
    for name, base, _ in _TABLE.findall(text):
        found.setdefault(name, int(base, 16))
    if not found.keys() >= _NEEDED:
        return None
    return Registers(
        cpl=found["CPL"],
        halted=found["HLT"] != 0,
        ip=found["IP"],
        sp=found["SP"],
        cr0=found["CR0"],
        cr3=found["CR3"],
        cr4=found["CR4"],
        efer=found["EFER"],
        gdt=found["GDT"],
        idt=found["IDT"],
    )
