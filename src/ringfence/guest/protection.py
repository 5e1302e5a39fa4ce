"""The processor's own settings as facts: control registers and descriptor tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ringfence.guest.observation import Look
from ringfence.guest.regions import Space
from ringfence.guest.registers import CR4_SMAP, CR4_SMEP, CR4_UMIP, Registers
from ringfence.guest.result import Table
from ringfence.model.evidence import Evidence, Grade, Seen

_SWITCHES: dict[str, tuple[str, Callable[[Registers], bool]]] = {
    "wp": ("CR0.WP", lambda state: state.write_protect),
    "nx": ("EFER.NXE", lambda state: state.no_execute),
    "smep": ("CR4.SMEP", lambda state: bool(state.cr4 & CR4_SMEP)),
    "smap": ("CR4.SMAP", lambda state: bool(state.cr4 & CR4_SMAP)),
    "umip": ("CR4.UMIP", lambda state: bool(state.cr4 & CR4_UMIP)),
}


def switches(looks: Sequence[Look]) -> dict[str, Any]:
    """The bits of the control registers: on only if on in every sample."""
    found = {}
    for name, (source, holds) in _SWITCHES.items():
        count = sum(holds(look.registers) for look in looks)
        detail = f"on in {count} of {len(looks)} samples"
        value = count == len(looks) if looks else None
        found[name] = Seen(value, Evidence(Grade.PROBED, source, detail))
    return found


def descriptors(looks: Sequence[Look], spaces: Sequence[Space]) -> dict[str, Any]:
    """Where the descriptor tables lie, and whether any address space has their pages writable."""
    return {
        "idt": _table(looks, lambda state: state.idt, [space.idt_writable for space in spaces]),
        "gdt": _table(looks, lambda state: state.gdt, [space.gdt_writable for space in spaces]),
    }


def _table(
    looks: Sequence[Look], base: Callable[[Registers], int], marks: Sequence[bool | None]
) -> Seen[Table]:
    """The last sample's table."""
    source = "QEMU info registers, page tables"
    if not looks:
        return Seen(None, Evidence(Grade.PROBED, source, "no samples"))
    known = [mark for mark in marks if mark is not None]
    value = Table(f"{base(looks[-1].registers):#x}", any(known) if known else None)
    places = len({base(look.registers) for look in looks})
    return Seen(
        value, Evidence(Grade.PROBED, source, f"{places} different in {len(looks)} samples")
    )
