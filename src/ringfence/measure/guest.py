"""From a guest that was examined to the deployment to measure.

The knowledge base's deployment of its system, and in it what was probed in place of what is
assumed: the ring of the application, rights of memory, processor settings, randomisation, the
devices that are driven. What the examination did not see stays as the deployment has it.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import msgspec

from ringfence.knowledge.guests import Guests, System, load_guests
from ringfence.knowledge.records import Knowledge, Template, TemplateService
from ringfence.knowledge.vocabulary import OF_THE_KERNEL
from ringfence.measure.place import SYSTEM_CALLS, place
from ringfence.model.deployment import (
    Condition,
    Count,
    Deployment,
    EntryPoint,
    Handler,
    Reach,
)
from ringfence.model.evidence import Evidence, Grade, Seen, Unseen
from ringfence.model.guest import ExaminedGuest, GuestFacts
from ringfence.model.need import State
from ringfence.model.position import Level

RING_0 = "ring:0"
PAGE_ZERO = "sysctl:vm.mmap_min_addr<=4095"
ASLR = "sysctl:kernel.randomize_va_space<=1"
NOT_LOADED = "the guest under load"
"""What an examination says that it did not see when nothing drove the guest."""
SUPPOSED_LISTENER = Unseen(
    "entry points", "an image names no port: one listening socket reachable by everyone is assumed"
)
MOSTLY = 0.5
"""The share of running code under load from which on it is what answers."""
_RANKS = (State.CLOSED, State.UNKNOWN, State.OPEN)
_OF_A_STACK = ("code:executable-stack", "code:no-guard-pages")
_SWITCHES = {"smep": "kernel:smep-off", "smap": "kernel:smap-off", "umip": "kernel:umip-off"}


def examined_deployment(
    guest: ExaminedGuest, knowledge: Knowledge, service: Deployment | None = None
) -> Deployment:
    """The deployment that the examination shows. `service`: what is known to run inside, from
    another target that runs the same; None: nothing but that it listens.

    Kernel, files and system calls of that other target are its own: none of them is in here.
    """
    guests = load_guests()
    system = system_of(guest.kernel, guests)
    choice = system.deployments[-1]
    usual = knowledge.templates[choice.template]
    ring = ring_of(guest, apart=system.application == "apart")
    template = with_ring(usual, ring)
    alone = service_alone(guest.name, (supposed_point(guest.name),))
    placed = place(_elsewhere(service or alone), template, knowledge)
    unknown = _unknown(guest.name, knowledge) if system is guests.unknown else {}
    seen = _seen(guest, ring, usual, knowledge)
    return msgspec.structs.replace(
        placed,
        name=guest.name,
        conditions=placed.conditions | unknown | seen,
        counts=_counts(placed, ring),
        notes=(*_notes(guest, usual, ring, service), *(placed.notes if choice.notes else ())),
        unseen=guest.unseen if service else (*guest.unseen, SUPPOSED_LISTENER),
    )


def system_of(kernel: str, guests: Guests) -> System:
    """The system that a recognised kernel's name begins with; else the unknown one."""
    for system in guests.system:
        if kernel == system.title or kernel.startswith(f"{system.title} "):
            return system
    return guests.unknown


class Ring(msgspec.Struct, frozen=True):
    """Where the application runs, as far as it was told. `runs`: rings in which its code may be,
    none if that was not told; `state`: of `ring:0`, None where the deployment decides."""

    runs: tuple[int, ...]
    state: State | None
    evidence: Evidence


def ring_of(guest: ExaminedGuest, *, apart: bool) -> Ring:
    """The ring of the application. `apart`: its system is known to run applications in ring 3.

    Code that was seen in ring 3 is the application's where the system keeps it there; else where
    the guest was driven and most of its code ran there: what answers may be a kernel that a small
    program helps. Ring 3 that can write the processor's own tables, or drives all devices, is no
    boundary. No code in ring 3 of a guest that was driven: ring 0; of an idle guest: not told.
    """
    facts, driven = guest.facts, all(gap.what != NOT_LOADED for gap in guest.unseen)
    share = facts.ring3_share.value
    seen = facts.ring3_share.evidence
    if not share:
        alone = driven and share == 0 and facts.ring0_share.value
        return Ring((0,), State.OPEN, seen) if alone else Ring((), None, seen)
    told = apart or (driven and share >= MOSTLY)
    runs = (3,) if told else (0, 3)
    tables, ports = facts.user_writable_tables, facts.ring3_ports
    for breach in (tables, ports):
        if breach.value:
            return Ring(runs, State.OPEN, breach.evidence)
    if not told:
        why = f"most of what answers was not seen in ring 3: {seen.detail}"
        return Ring(runs, State.UNKNOWN, Evidence(Grade.ASSUMED, seen.source, why))
    if tables.value is None:
        return Ring(runs, State.UNKNOWN, tables.evidence)
    return Ring(runs, State.CLOSED, seen)


def with_ring(template: Template, ring: Ring) -> Template:
    """The template with its application where `ring` says, and landing where that lands: ring 3
    that is no boundary, or may be none, lands where ring 0 does."""
    if ring.state is None:
        return template
    number = 3 if ring.state is State.CLOSED else 0
    if number == template.ring:
        return template
    user = "kernel" if number == 0 else "unprivileged"
    return msgspec.structs.replace(template, ring=number, service=TemplateService(user, False))


def _elsewhere(service: Deployment) -> Deployment:
    """What is the service's own, wherever it runs: without what was counted and seen around it."""
    own = {
        name: condition
        for name, condition in service.conditions.items()
        if not name.startswith((*OF_THE_KERNEL, "file:"))
    }
    return msgspec.structs.replace(service, conditions=own, counts={})


def _counts(placed: Deployment, ring: Ring) -> dict[str, Count]:
    """Without the remark that ring 0 makes no system calls where programs were seen in ring 3."""
    calls = placed.ring == 0 and 3 in ring.runs
    return {
        name: one for name, one in placed.counts.items() if not (calls and name == SYSTEM_CALLS)
    }


def _seen(
    guest: ExaminedGuest, ring: Ring, template: Template, knowledge: Knowledge
) -> dict[str, Condition]:
    """All that the examination decides: of a ring that is not told, as the deployment has it; where
    the application may be in either, nothing is closed that is not closed in both."""
    first, *others = (probed(guest, number, knowledge) for number in ring.runs or (template.ring,))
    for other in others:
        first = {name: _worse(name, first.get(name), other.get(name)) for name in first | other}
    if ring.state is not None:
        first[RING_0] = Condition(ring.state, (ring.evidence,))
    return first


def _worse(name: str, one: Condition | None, other: Condition | None) -> Condition:
    """Of what two rings show. The stack that was looked at is that of one of them."""
    known = [condition for condition in (one, other) if condition is not None]
    worst = max(known, key=lambda condition: _RANKS.index(condition.state))
    if worst.state is State.CLOSED and (len(known) == 1 or name in _OF_A_STACK):
        (seen, *_) = worst.evidence
        why = f"seen of one ring, and the application may be in another: {seen.detail}"
        return Condition(State.UNKNOWN, (Evidence(Grade.ASSUMED, seen.source, why),))
    return worst


def probed(guest: ExaminedGuest, ring: int, knowledge: Knowledge) -> dict[str, Condition]:
    """The conditions that the examination decides; `ring` is the application's."""
    facts = guest.facts
    found = {
        **{condition: _closed_by(getattr(facts, name)) for name, condition in _SWITCHES.items()},
        **_privileged(guest),
        "code:writable-executable": _memory(facts, ring),
        "code:executable-stack": _open_by(facts.stack_executable),
        "code:no-guard-pages": _closed_by(facts.stack_guard_page)
        or _cut(facts, facts.stack_guard_page.evidence),
        **_layout(facts, ring),
    }
    zero = facts.page_zero_mapped
    # Programs of a kernel may map it later: that none has says nothing of whether they can.
    if zero.value or ring == 0:
        found[PAGE_ZERO] = _open_by(zero) or _cut(facts, zero.evidence)
    return {
        **{name: state for name, state in found.items() if state is not None},
        **_devices(facts, knowledge),
    }


def _privileged(guest: ExaminedGuest) -> dict[str, Condition | None]:
    """What keeps a kernel from its programs' pages: SMAP on x86, PAN on aarch64, of which the
    examination may leave open whether they are on; and PXN of every page, which does on aarch64
    what SMEP does."""
    facts = guest.facts
    lent, x86 = facts.ring0_executable_user_pages, guest.architecture == "x86_64"
    keeps = facts.smap if x86 else facts.pan
    untold = Condition(State.UNKNOWN, (keeps.evidence,))
    found: dict[str, Condition | None] = {_SWITCHES["smap"]: _closed_by(keeps) or untold}
    if x86:
        return found
    if lent.value is None:
        found[_SWITCHES["smep"]] = _cut(facts, lent.evidence)
    elif facts.user_pages.value:
        state = State.OPEN if lent.value else State.CLOSED
        found[_SWITCHES["smep"]] = Condition(state, (lent.evidence,))
    return found


def _cut(facts: GuestFacts, evidence: Evidence) -> Condition | None:
    """Unknown where page tables were walked and not to their end: what is not in the part that was
    seen may be in the other, and no deployment knows better. None where none were walked."""
    if facts.tables_complete.value is not False:
        return None
    return Condition(State.UNKNOWN, (evidence,))


def _open_by(seen: Seen[bool]) -> Condition | None:
    if seen.value is None:
        return None
    return Condition(State.OPEN if seen.value else State.CLOSED, (seen.evidence,))


def _closed_by(seen: Seen[bool]) -> Condition | None:
    if seen.value is None:
        return None
    return Condition(State.CLOSED if seen.value else State.OPEN, (seen.evidence,))


def _memory(facts: GuestFacts, ring: int) -> Condition | None:
    """Pages with both rights, by one name or by two; in ring 0 without CR0.WP every executable page
    can be written."""
    pages, protect = facts.writable_executable_pages, facts.wp
    aliases = facts.writable_aliases_of_code
    if ring == 0 and protect.value is False:
        return Condition(State.OPEN, (protect.evidence, pages.evidence))
    both = tuple(one.evidence for one in (pages, aliases) if one.value)
    if both:
        return Condition(State.OPEN, both)
    if pages.value is None:
        return _cut(facts, pages.evidence)
    if aliases.value is None:
        return Condition(State.UNKNOWN, (aliases.evidence,))
    return Condition(State.CLOSED, (pages.evidence, aliases.evidence))


def _layout(facts: GuestFacts, ring: int) -> dict[str, Condition | None]:
    """Code that lies at the same address in every boot is fixed. Of stack and heap, one that does
    is enough to open the condition, and both must be seen to move to close it."""
    seen = facts.randomised_bits
    bits = seen.value
    if bits is None:
        return {}
    code, *data = (
        (bits.code, bits.stack, bits.heap)
        if ring == 0
        else (bits.user_code, bits.user_stack, bits.user_heap)
    )
    known = [one for one in data if one is not None]
    told = known and (min(known) == 0 or len(known) == len(data))
    return {
        "code:fixed-address": _random(code, seen.evidence),
        ASLR: _random(min(known) if told else None, seen.evidence),
    }


def _random(bits: float | None, evidence: Evidence) -> Condition | None:
    if bits is None:
        return None
    return Condition(State.CLOSED if bits else State.OPEN, (evidence,))


def _devices(facts: GuestFacts, knowledge: Knowledge) -> dict[str, Condition]:
    """Devices that the guest drives are a way out; of others the deployment says whether they are
    given: the examination had a machine of its own."""
    seen = facts.devices
    driven = [one for one in seen.value or () if one.driver_ok or one.serving]
    found = {}
    for entry in knowledge.devices.values():
        names = [one.name for one in driven
                 if any(fnmatchcase(one.name, pattern) for pattern in entry.qemu)]  # fmt: skip
        if names:
            detail = f"driven: {', '.join(names[:8])}; {seen.evidence.detail}"
            evidence = msgspec.structs.replace(seen.evidence, detail=detail)
            found[f"device:{entry.id}"] = Condition(State.OPEN, (evidence,))
    return found


def _unknown(name: str, knowledge: Knowledge) -> dict[str, Condition]:
    """Of an unknown kernel nothing is assumed; what is unknown counts as open."""
    why = Evidence(Grade.ASSUMED, name, "unknown kernel: cannot be told, counted as open")
    return {
        condition: Condition(State.UNKNOWN, (why,))
        for condition in knowledge.conditions
        if condition.startswith(("code:", "kernel:", RING_0)) or condition == ASLR
    }


def _notes(
    guest: ExaminedGuest, template: Template, ring: Ring, service: Deployment | None
) -> tuple[str, ...]:
    times = "boot" if guest.boots == 1 else "boots"
    told = " or ".join(map(str, ring.runs)) or "not told"
    if ring.runs == (3,) and ring.state is not State.CLOSED:
        open_ = ring.state is State.OPEN
        told += ", which is no boundary here" if open_ else ", which may be no boundary here"
    return (
        f"examined: {guest.image} ({guest.kernel}, {guest.kind}, {guest.architecture}), "
        f"{guest.boots} {times} under {guest.accelerator} with {guest.cpu}",
        f"ring of the application: {told}",
        *((f"its service is taken to be that of {service.name}",) if service else ()),
        f"what was not probed is that of {template.id} ({template.version})",
    )


def service_alone(name: str, points: tuple[EntryPoint, ...]) -> Deployment:
    """A service of which an image shows nothing but its entry points: the rest is unknown."""
    unknown = Evidence(Grade.ASSUMED, name, "the image does not show it")
    return Deployment(
        name=name,
        zones=(),
        kernel_zone="",
        ring=3,
        boundaries=(),
        entry_points=points,
        conditions={},
        admin_conditions={},
        default=Condition(State.UNKNOWN, (unknown,)),
    )


def supposed_point(name: str, *evidence: Evidence) -> EntryPoint:
    """One socket that everyone reaches; who serves it is unknown and counts as root."""
    source = Evidence(Grade.ASSUMED, name, "no port is named: a listening socket is assumed")
    who = Evidence(Grade.ASSUMED, name, "who serves is not in the image: counted as root")
    return EntryPoint(
        id="tcp:unstated",
        kind="tcp",
        reach=Reach.INTERNET,
        handler=Handler(Level.ADMIN, who),
        evidence=(*(evidence or (source,)), Evidence(Grade.ASSUMED, name, "published to everyone")),
    )
