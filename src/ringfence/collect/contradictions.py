"""What a deployment written by hand says in two ways: refused, since either could be meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringfence.knowledge.records import Knowledge
from ringfence.model.deployment import Switch
from ringfence.model.need import State
from ringfence.model.position import Level

if TYPE_CHECKING:
    from ringfence.collect.declared import DeclaredMechanism, Document


def contradiction(document: Document, knowledge: Knowledge) -> str:
    """The first place where the document contradicts itself or the knowledge base, or ''.

    Every mechanism that it names must be in the knowledge base.
    """
    return _of_mechanisms(document, knowledge) or _of_conditions(document)


def _of_mechanisms(document: Document, knowledge: Knowledge) -> str:
    before: dict[str, DeclaredMechanism] = {}
    for line in document.boundaries:
        here: set[str] = set()
        for item in line.mechanisms:
            holds = knowledge.mechanisms[item.id].boundary
            place = f"boundary {line.kind} of zone {line.zone!r}: mechanism {item.id!r}"
            if holds is not line.kind:
                return f"{place} belongs to a boundary {holds}"
            if item.id in here:
                return f"{place} stands there twice"
            here.add(item.id)
            changed = item.measured is not None and item.measured is not item.state
            if changed and item.state not in (Switch.ON, Switch.OFF):
                return f"{place} can be changed to on or off, not to {item.state}"
            # Of several boundaries of one kind, each has the same mechanisms.
            former = before.setdefault(item.id, item)
            if former != item:
                return f"{place} is {_said(item)}, at a boundary before {_said(former)}"
    return ""


def _said(item: DeclaredMechanism) -> str:
    return f"{item.state} (measured {item.measured})" if item.measured else f"{item.state}"


def _of_conditions(document: Document) -> str:
    tables = (
        (Level.USER, "conditions", document.conditions),
        (Level.ADMIN, "conditions.admin", document.conditions.admin),
    )
    for level, place, lists in tables:
        said: dict[str, State] = {}
        for state, names in (
            (State.OPEN, lists.open), (State.CLOSED, lists.closed), (State.UNKNOWN, lists.unknown)
        ):  # fmt: skip
            for name in names:
                former = said.setdefault(name, state)
                if former is not state:
                    return f"{place}: {name!r} is in the lists {former} and {state}"
        for item in document.condition:
            if item.level is not level:
                continue
            former = said.setdefault(item.id, item.state)
            if former is not item.state:
                return f"condition {item.id!r} of level {level} is {former} and {item.state}"
    return ""
