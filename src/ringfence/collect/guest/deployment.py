"""From a guest image to the deployment to measure: the template of its system, and what was seen.

What the image itself shows is `observed`; everything else is the template's, `assumed`. A static
image shows what memory rights it *asks* for: a right to write and execute counts as there, the
lack of one counts as enforced only where the system's loader does as the image asks
(`enforced` in guests.toml). Every word here is one condition of the knowledge base.
"""

from __future__ import annotations

import msgspec

from ringfence.collect.guest.kernel import writable_executable
from ringfence.collect.guest.recognise import Guest, decided
from ringfence.knowledge.guests import Guests
from ringfence.knowledge.records import Knowledge
from ringfence.measure.guest import SUPPOSED_LISTENER, service_alone, supposed_point
from ringfence.measure.place import place
from ringfence.model.deployment import Condition, Count, Deployment, EntryPoint
from ringfence.model.evidence import Evidence, Grade, Unseen
from ringfence.model.need import State

WRITABLE_EXECUTABLE = "code:writable-executable"
FIXED_ADDRESS = "code:fixed-address"
MEMORY_UNSAFE = "code:memory-unsafe"
RING_0 = "ring:0"
SPT_CALLS, SPT_DEVICE_CALLS = 6, 2
"""System calls of a Solo5 spt tender without devices, and for each kind of device
(https://github.com/Solo5/solo5/tree/master/tenders/spt)."""


def deployment_of(guest: Guest, guests: Guests, knowledge: Knowledge) -> Deployment:
    """The deployment that the image becomes when it is started as its system is used to."""
    template = knowledge.templates[guest.choice.template]
    points, unseen = _entry_points(guest)
    placed = place(service_alone(guest.name, points), template, knowledge)
    conditions = placed.conditions | _observed(guest, guests)
    if not guest.recognised:
        conditions = placed.conditions | _unknown(guest, knowledge)
    return msgspec.structs.replace(
        placed,
        name=guest.name,
        ring=placed.ring if guest.recognised else 0,
        conditions=conditions,
        counts={**placed.counts, **_counts(guest)},
        notes=(*_notes(guest, template.version), *(placed.notes if guest.choice.notes else ())),
        unseen=(*guest.unseen, *unseen),
    )


def _entry_points(guest: Guest) -> tuple[tuple[EntryPoint, ...], tuple[Unseen, ...]]:
    """One socket, unless a manifest shows that the image has no network device."""
    manifest = guest.manifest
    if manifest is None or manifest.devices is None:
        return (supposed_point(guest.name),), (SUPPOSED_LISTENER,)
    if all(device.kind != "net" for device in manifest.devices):
        return (), ()
    where = guest.facts["declared devices"].source
    declared = Evidence(Grade.ASSUMED, where, "the manifest declares a network device")
    return (supposed_point(guest.name, declared),), (SUPPOSED_LISTENER,)


def _observed(guest: Guest, guests: Guests) -> dict[str, Condition]:
    """The conditions that the image itself decides."""
    found: dict[str, Condition] = {}
    if guest.system.application in ("inside", "beside"):
        found |= _memory(guest)
    if guest.system.application == "inside":
        found |= _layout(guest) | _compiled(guest) | _languages(guest)
    if guest.command is not None:
        for word, evidence in decided(guest.command, guests):
            found[word.condition] = Condition(word.state, (evidence,))
    return found


def _memory(guest: Guest) -> dict[str, Condition]:
    """Write and execute in one segment: there if asked for; away only if the loader obeys."""
    if guest.layout is None:
        return {}
    asked = writable_executable(guest.layout)
    if asked:
        detail = "; ".join(words for words, _ in asked[:2])
        evidence = Evidence(Grade.OBSERVED, f"{guest.name}@{asked[0][1]:#x}", detail)
        return {WRITABLE_EXECUTABLE: Condition(State.OPEN, (evidence,))}
    if guest.choice.template in guest.system.enforced and guest.layout.loads:
        evidence = msgspec.structs.replace(
            guest.facts["segments"], detail="no segment asks for write and execute"
        )
        return {WRITABLE_EXECUTABLE: Condition(State.CLOSED, (evidence,))}
    return {}


def _layout(guest: Guest) -> dict[str, Condition]:
    """A fixed address is fixed; a movable image moves only if its loader does (the template)."""
    if guest.layout is None or guest.layout.kind != "executable":
        return {}
    return {FIXED_ADDRESS: Condition(State.OPEN, (guest.facts["ELF"],))}


def _compiled(guest: Guest) -> dict[str, Condition]:
    """Protections of the compiler; their absence shows only where symbol names were read."""
    found = {
        entry.condition: Condition(State.CLOSED, (mark.evidence,))
        for entry, mark in guest.protections
    }
    if guest.symbols is not None and not found:
        detail = f"{guest.symbols.detail}, none of a stack protector"
        evidence = msgspec.structs.replace(guest.symbols, detail=detail)
        found["code:no-canary"] = Condition(State.OPEN, (evidence,))
    return found


def _languages(guest: Guest) -> dict[str, Condition]:
    """Safe languages close `code:memory-unsafe` unless an unsafe one is there beside them."""
    evidence = tuple(
        msgspec.structs.replace(mark.evidence, detail=f"{entry.title}: {mark.evidence.detail}")
        for entry, mark in guest.languages
    )
    if not evidence:
        return {}
    safe = all(entry.safe for entry, _ in guest.languages)
    return {MEMORY_UNSAFE: Condition(State.CLOSED if safe else State.OPEN, evidence)}


def _unknown(guest: Guest, knowledge: Knowledge) -> dict[str, Condition]:
    """An unknown kernel: ring, memory and processor settings are unknown, and count as open.

    What is seen to be open is open; what is seen to be closed may be so for a part alone.
    """
    why = Evidence(Grade.ASSUMED, guest.name, "unknown kernel: cannot be told, counted as open")
    kinds = ("code:", "kernel:", RING_0)
    unknown = {
        name: Condition(State.UNKNOWN, (why,))
        for name in knowledge.conditions
        if name.startswith(kinds)
    }
    seen = _memory(guest) | _layout(guest)
    return unknown | {name: state for name, state in seen.items() if state.state is State.OPEN}


def _counts(guest: Guest) -> dict[str, Count]:
    """The image's size where it is the whole guest, and what a Solo5 process may call."""
    counts: dict[str, Count] = {}
    if guest.system.application in ("inside", "beside"):
        counts["bytes"] = Count(guest.size, Evidence(Grade.OBSERVED, guest.name, "the image"))
    manifest = guest.manifest
    if manifest is not None and manifest.target == "spt" and manifest.devices is not None:
        kinds = {device.kind for device in manifest.devices}
        evidence = guest.facts["declared devices"]
        counts["system_calls"] = Count(SPT_CALLS + SPT_DEVICE_CALLS * len(kinds), evidence)
    return counts


def _notes(guest: Guest, version: str) -> tuple[str, ...]:
    """What the image is and shows, each with its place, for people."""
    notes = [_recognition(guest)]
    for entry, mark in guest.protocols:
        notes.append(f"boot protocol: {entry.title}, {_at(guest, mark.evidence)}")
    if not guest.protocols and guest.format == "ELF":
        notes.append("boot protocol: none that is known; perhaps an ordinary program")
    languages = ", ".join(
        f"{entry.title} ({_at(guest, mark.evidence)})" for entry, mark in guest.languages
    )
    if languages:
        notes.append(f"languages: {languages}")
    notes += [f"{what}: {_at(guest, evidence)}" for what, evidence in guest.facts.items()]
    notes += [
        f"{entry.title}: {_at(guest, mark.evidence)}; which functions use it is not seen"
        for entry, mark in guest.protections
    ]
    if guest.others:
        notes.append(f"also shows signs of {', '.join(guest.others)}")
    said = (guest.system.note, guest.choice.note, *(entry.note for entry, _ in guest.protocols))
    notes += [text for text in said if text]
    notes.append(f"does not run: measured as {guest.choice.template} ({version})")
    return tuple(notes)


def _recognition(guest: Guest) -> str:
    if not guest.recognised:
        return f"{guest.system.title} ({guest.format}): no sign of a known system, none is guessed"
    version = f" {guest.version.detail}" if guest.version is not None else ""
    why = "; ".join(_at(guest, mark.evidence) for mark in guest.shown[:3])
    return f"recognised: {guest.system.title}{version} ({guest.format}) by {why}"


def _at(guest: Guest, evidence: Evidence) -> str:
    """Detail and offset; the file's name stands in the headline, that of a part of it here."""
    part, _, offset = evidence.source.removeprefix(guest.name).rpartition("@")
    return f"{evidence.detail} at {offset}{part}"
