"""The processor's own settings as facts: switches and tables, by what the architecture has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ringfence.guest.arch.architecture import Architecture
from ringfence.guest.observation import Look
from ringfence.guest.regions import Space
from ringfence.guest.result import Table
from ringfence.model.evidence import Evidence, Grade, Seen

SELDOM, MOSTLY = 0.1, 0.5
"""Shares of the samples of running ring 0 in which its protection from users' data is suspended: as
kernels do that copy for their programs; and as if it were not there."""


def switches(looks: Sequence[Look], arch: Architecture) -> dict[str, Any]:
    """The bits of the processor's registers: on only if on in every sample."""
    found: dict[str, Any] = {}
    for name, source in arch.switches.items():
        count = sum(name in look.registers.switches for look in looks)
        detail = f"on in {count} of {len(looks)} samples"
        value = count == len(looks) if looks else None
        found[name] = Seen(value, Evidence(Grade.PROBED, source, detail))
    name, word = arch.lifted
    found[name] = _lifted(found[name], looks, word)
    return found


def _lifted(switch: Seen[bool], looks: Sequence[Look], word: str) -> Seen[bool]:
    """A protection from users' data that ring 0 suspends itself is none while it does. No kernel
    copies while it halts; whether one that runs does so or has left it off is told by how often."""
    kernel = [look.registers for look in looks if look.registers.ring == 0]
    lifted = [one for one in kernel if one.lifted]
    if not switch.value or not lifted:
        return switch
    running = sum(not one.halted for one in kernel)
    share = sum(not one.halted for one in lifted) / max(running, 1)
    value = True if share <= SELDOM else None
    if share > MOSTLY or any(one.halted for one in lifted):
        value = False
    detail = (
        f"{switch.evidence.detail}; lifted ({word}) in {len(lifted)} of {len(kernel)} in ring 0"
    )
    if value is None:
        detail += ", too often to say that it is on, too seldom to say that it is off"
    return Seen(value, msgspec.structs.replace(switch.evidence, detail=detail))


def ring3_ports(looks: Sequence[Look], arch: Architecture) -> dict[str, Any]:
    """Whether programs drive ports of devices by themselves: in the samples of ring 3. Nothing
    where the architecture has no ports."""
    if "ring3_ports" in arch.absent:
        return {}
    programs = [look.registers for look in looks if look.registers.ring == 3]
    count = sum(one.ports for one in programs)
    detail = f"3 in {count} of {len(programs)} samples in ring 3"
    value = count > 0 if programs else None
    return {"ring3_ports": Seen(value, Evidence(Grade.PROBED, "EFLAGS.IOPL", detail))}


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
