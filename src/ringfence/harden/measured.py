"""Before and after: the running service measured as any other, and counted."""

from __future__ import annotations

import msgspec

from ringfence.collect.live import collect_process
from ringfence.harden.record import Counts
from ringfence.knowledge.records import Knowledge
from ringfence.measure.assemble import Asked, measure
from ringfence.measure.deduce import deduce
from ringfence.measure.judge import deployment_of
from ringfence.measure.place import place
from ringfence.model.facts import Facts, Target
from ringfence.model.measurement import Measurement
from ringfence.model.process import Seccomp

MOST_FILES = 2_000_000
"""Of the tree that a service is hardened from: a host's has a million (ten seconds, 400 MB)."""
MOST_NAMED = 3
PLAIN = "server"
"""Where a command of this host stands before: among the host's other services."""


def facts_of(pid: int, knowledge: Knowledge, name: str) -> Facts:
    """The facts of a container of ours, while it serves."""
    facts = collect_process(pid, knowledge, "container", name, MOST_FILES)
    return msgspec.structs.replace(facts, target=Target("container", name))


def measurement(facts: Facts, knowledge: Knowledge, *, plain: bool = False) -> Measurement:
    """Measured on the default scale; `plain` places it on a general-purpose server instead of
    the container that it was observed in."""
    asked = Asked(knowledge.scales["classic"])
    if plain:
        placed = place(deduce(facts, knowledge), knowledge.templates[PLAIN], knowledge)
        return measure(facts.target, placed, knowledge, asked)
    return measure(facts.target, deployment_of(facts, knowledge), knowledge, asked)


def calls_allowed(filters: Seccomp) -> int:
    """How many system calls some choice of arguments gets through."""
    return sum(1 for item in filters.calls.values() if "allow" in item.actions)


def uncounted(facts: Facts) -> list[str]:
    """What to say of a tree before that was not counted whole."""
    tree = facts.tree
    if tree is None or tree.complete:
        return []
    shown = "; ".join(f"{item.what} ({item.why})" for item in tree.unseen[:MOST_NAMED])
    return [f"before, not all files were counted: {shown}"]


def counts(facts: Facts, calls: int | None = None, serving: int | None = None) -> Counts:
    """What is counted of a running container. `calls` where it was confined further since."""
    first = facts.processes[0]
    tree = facts.tree.counts if facts.tree else None
    filters = first.seccomp.value
    now = calls_allowed(filters) if filters else 0
    bounding = first.credentials.value.bounding if first.credentials.value else ()
    return Counts(
        files=(tree.files or 0) if tree else 0,
        bytes=(tree.bytes or 0) if tree else 0,
        executables=tree.executables if tree else 0,
        libraries=(tree.libraries or 0) if tree else 0,
        setuid=tree.setuid if tree else 0,
        shells=tree.shells if tree else 0,
        system_calls=now if calls is None else calls,
        system_calls_serving=serving,
        capabilities=len(bounding),
        complete=facts.tree is not None and facts.tree.complete,
    )
