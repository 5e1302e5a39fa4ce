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
from ringfence.measure.place import place
from ringfence.model.deployment import (
    Condition,
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
_SWITCHES = {"smep": "kernel:smep-off", "smap": "kernel:smap-off", "umip": "kernel:umip-off"}


def examined_deployment(
    guest: ExaminedGuest, knowledge: Knowledge, service: Deployment | None = None
) -> Deployment:
    """The deployment that the examination shows. `service`: what is known to run inside, from
    another target that runs the same; None: nothing but that it listens.

    Files, programs and system calls were counted where that other target runs, not in here.
    """
    guests = load_guests()
    system = system_of(guest.kernel, guests)
    choice = system.deployments[-1]
    ring = ring_of(guest)
    template = with_ring(knowledge.templates[choice.template], ring)
    alone = service_alone(guest.name, (supposed_point(guest.name),))
    uncounted = msgspec.structs.replace(service or alone, counts={})
    placed = place(uncounted, template, knowledge)
    unknown = _unknown(guest.name, knowledge) if system is guests.unknown else {}
    seen = probed(guest.facts, ring if ring is not None else template.ring, knowledge)
    if ring is not None:
        evidence = guest.facts.ring3_share.evidence
        seen[RING_0] = Condition(State.OPEN if ring == 0 else State.CLOSED, (evidence,))
    return msgspec.structs.replace(
        placed,
        name=guest.name,
        conditions=placed.conditions | unknown | seen,
        notes=(*_notes(guest, template, ring, service), *(placed.notes if choice.notes else ())),
        unseen=guest.unseen if service else (*guest.unseen, SUPPOSED_LISTENER),
    )


def system_of(kernel: str, guests: Guests) -> System:
    """The system that a recognised kernel's name begins with; else the unknown one."""
    for system in guests.system:
        if kernel == system.title or kernel.startswith(f"{system.title} "):
            return system
    return guests.unknown


def ring_of(guest: ExaminedGuest) -> int | None:
    """The ring of the application: 3 where code was ever seen there; 0 where the guest was driven
    and no code was seen in ring 3; else None: an idle guest shows its kernel alone."""
    ring3, ring0 = guest.facts.ring3_share.value, guest.facts.ring0_share.value
    if ring3:
        return 3
    driven = all(gap.what != NOT_LOADED for gap in guest.unseen)
    return 0 if driven and ring3 == 0 and ring0 else None


def with_ring(template: Template, ring: int | None) -> Template:
    """The template with its application in that ring, and landing where that ring lands."""
    if ring is None or ring == template.ring:
        return template
    user = "kernel" if ring == 0 else "unprivileged"
    return msgspec.structs.replace(template, ring=ring, service=TemplateService(user, False))


def probed(facts: GuestFacts, ring: int, knowledge: Knowledge) -> dict[str, Condition]:
    """The conditions that the examination decides; `ring` is the application's."""
    found = {
        **{condition: _closed_by(getattr(facts, name)) for name, condition in _SWITCHES.items()},
        **_privileged(facts),
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


def _privileged(facts: GuestFacts) -> dict[str, Condition | None]:
    """What keeps a kernel from its programs' pages on aarch64: PAN does what SMAP does on x86, PXN
    of every one of them what SMEP does. Where there is no PAN nothing is told: x86."""
    lent = facts.ring0_executable_user_pages
    if facts.pan.value is None:
        return {}
    found = {_SWITCHES["smap"]: _closed_by(facts.pan)}
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
    """Pages with both rights; in ring 0 without CR0.WP every executable page can be written."""
    pages, protect = facts.writable_executable_pages, facts.wp
    if ring == 0 and protect.value is False:
        return Condition(State.OPEN, (protect.evidence, pages.evidence))
    if pages.value is None:
        return _cut(facts, pages.evidence)
    return Condition(State.OPEN if pages.value else State.CLOSED, (pages.evidence,))


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
    guest: ExaminedGuest, template: Template, ring: int | None, service: Deployment | None
) -> tuple[str, ...]:
    times = "boot" if guest.boots == 1 else "boots"
    told = "not told" if ring is None else str(ring)
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
