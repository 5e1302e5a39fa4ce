"""The processor's own settings as facts: switches and tables, by what the architecture has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ringfence.guest.arch.architecture import Architecture
from ringfence.guest.observation import Look
from ringfence.guest.regions import Space
from ringfence.guest.result import Table
from ringfence.model.evidence import Evidence, Grade, Seen


def switches(looks: Sequence[Look], arch: Architecture) -> dict[str, Any]:
    """The bits of the processor's registers: on only if on in every sample."""
    found = {}
    for name, source in arch.switches.items():
        count = sum(name in look.registers.switches for look in looks)
        detail = f"on in {count} of {len(looks)} samples"
        value = count == len(looks) if looks else None
        found[name] = Seen(value, Evidence(Grade.PROBED, source, detail))
    return found


def tables(looks: Sequence[Look], spaces: Sequence[Space], arch: Architecture) -> dict[str, Any]:
    """Where the processor's own tables lie, and whether any address space has their pages
    writable."""
    return {
        name: _table([look.registers.tables[number] for look in looks],
                     [space.tables[number] for space in spaces])
        for number, name in enumerate(arch.tables)
    }  # fmt: skip


def absent(arch: Architecture) -> dict[str, Any]:
    """The facts that this architecture does not have."""
    return {
        name: Seen(None, Evidence(Grade.PROBED, arch.name, why))
        for name, why in arch.absent.items()
    }


def _table(bases: Sequence[int], marks: Sequence[bool | None]) -> Seen[Table]:
    """The last sample's table."""
    source = "QEMU's registers, page tables"
    if not bases:
        return Seen(None, Evidence(Grade.PROBED, source, "no samples"))
    known = [mark for mark in marks if mark is not None]
    value = Table(f"{bases[-1]:#x}", any(known) if known else None)
    detail = f"{len(set(bases))} different in {len(bases)} samples"
    return Seen(value, Evidence(Grade.PROBED, source, detail))
