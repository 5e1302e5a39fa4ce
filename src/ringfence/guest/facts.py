"""From what the boots showed to facts, each with its evidence. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.guest import rights, steady
from ringfence.guest.arch.architecture import Architecture, Words
from ringfence.guest.devices import Device
from ringfence.guest.observation import Look, Observation, Phase
from ringfence.guest.protection import absent, ring3_ports, switches, tables
from ringfence.guest.randomness import randomness
from ringfence.guest.result import GuestFacts
from ringfence.model.evidence import Evidence, Grade, Seen, Unseen

REGISTERS = "QEMU info registers"
_BUSY = (
    f"it never halted: it ran the same code for {steady.BUSY:g} s, which it may do before it has "
    "come up as well; an exercise that succeeds shows that it has"
)
_KVM_BLIND = "under KVM accesses that the host's kernel handles alone are not seen"


def facts(
    boots: Sequence[Observation], arch: Architecture, accelerator: str, memory: int
) -> GuestFacts:
    """The facts of at least one boot; the first is the one that was examined whole. `memory`: bytes
    that the guest had.

    Protections are those of the guest at work: one that is driven is known to be up. The worst
    state that any of its samples shows counts.
    """
    first = boots[0]
    serving = first.during(first.serving)
    # Of a guest that never came so far, the last sample before its end.
    looks = serving or first.looks[-1:]
    spaces = [one.space for one in first.spaces if one.phase is looks[-1].phase]
    places = [one for one in first.places if one.phase is looks[-1].phase]
    words = arch.words
    found = rights.paged(spaces, looks, arch) | rights.regions(places, looks, words)
    if not all(look.registers.paged for look in looks):
        found |= rights.unpaged(memory, looks, spaces, words)
    return GuestFacts(
        ring3_share=_ring(serving, 3, words),
        ring0_share=_ring(serving, 0, words),
        ring3_share_before=_ring(first.during(Phase.BEFORE), 3, words),
        halted_share=_halted(serving, words),
        **switches(looks, arch),
        **ring3_ports(looks, arch),
        **tables(looks, spaces, arch),
        **absent(arch),
        **found,
        randomised_bits=randomness(boots, words),
        devices=_devices(first, accelerator),
        devices_given=Seen(first.given or None, _evidence("QEMU info qtree")),
    )


def unseen(boots: Sequence[Observation], driven: bool) -> tuple[Unseen, ...]:
    """What was looked for and not seen, for the whole examination."""
    first, found = boots[0], []
    if first.steady is None and not first.end:
        found.append(Unseen("the settled guest", "it never came to rest within the time limit"))
    elif _only_busy(first):
        found.append(Unseen("the settled guest", _BUSY))
    if driven and not first.during(Phase.LOAD):
        found.append(Unseen("the guest under load", first.end or "it was not reached"))
    elif driven and first.exercise != 0:
        how = "had to be killed" if first.exercise is None else f"ended with {first.exercise}"
        found.append(Unseen("the guest under load", f"the exercise {how}"))
    if not driven:
        found.append(Unseen("the guest under load", "no --exercise was given"))
    return tuple(found)


def _only_busy(boot: Observation) -> bool:
    """Whether a guest passed for settled by a loop alone, which one that still boots may go round
    as well: it never halted, and no exercise shows that it is up."""
    waits = any(look.registers.halted for look in boot.during(Phase.BEFORE))
    return boot.steady is not None and not waits and boot.exercise != 0


def _ring(looks: Sequence[Look], ring: int, words: Words) -> Seen[float]:
    ran = [look.registers.ring for look in looks if not look.registers.halted]
    rings = ", ".join(f"{ran.count(one)} in ring {one}" for one in sorted({0, 3, *ran}))
    detail = f"{len(looks)} samples {_when(looks)}: {rings}, {len(looks) - len(ran)} halted"
    return Seen(
        round(ran.count(ring) / len(ran), 4) if ran else None,
        _evidence(f"{words.ring}, {REGISTERS}", detail),
    )


def _halted(looks: Sequence[Look], words: Words) -> Seen[float]:
    halted = sum(look.registers.halted for look in looks)
    share = round(halted / len(looks), 4) if looks else None
    detail = f"{halted} of {len(looks)} {_when(looks)}"
    return Seen(share, _evidence(f"{words.halted}, {REGISTERS}", detail))


def _when(looks: Sequence[Look]) -> str:
    loaded = bool(looks) and looks[0].phase is Phase.LOAD
    return "under load" if loaded else "of the guest left to itself"


def _devices(boot: Observation, accelerator: str) -> Seen[tuple[Device, ...]]:
    remarks = ["port and memory accesses to emulated devices, from the firmware on"]
    if boot.flooded:
        remarks.append("so many that not all were counted")
    if accelerator == "kvm":
        remarks.append(_KVM_BLIND)
    return Seen(
        boot.devices or None,
        _evidence("QEMU trace memory_region_ops, x-query-virtio", "; ".join(remarks)),
    )


def _evidence(source: str, detail: str = "") -> Evidence:
    return Evidence(Grade.PROBED, source, detail)
