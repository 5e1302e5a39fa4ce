"""What the knowledge base asks of the machine: the lists that collectors look up."""

from __future__ import annotations

import re

from ringfence.knowledge.records import Knowledge
from ringfence.model.need import leaves

_SETTING = re.compile(r"([a-z0-9_.-]+?)(<=|>=|==)-?\d+")


def conditions(knowledge: Knowledge) -> tuple[str, ...]:
    """Every condition that an entry names, patterns left out, once, in order."""
    named: dict[str, None] = {}
    for opening in (*knowledge.families.values(), *knowledge.vectors.values()):
        named.update(dict.fromkeys(leaves(opening.needs)))
    for mechanism in knowledge.mechanisms.values():
        named.update(dict.fromkeys((*mechanism.signs, *mechanism.closes)))
    return tuple(name for name in named if not name.endswith("*"))


def call_questions(knowledge: Knowledge) -> tuple[str, ...]:
    """The system calls, with arguments where it matters, that seccomp filters are asked about."""
    return tuple(
        name.removeprefix("syscall:")
        for name in conditions(knowledge)
        if name.startswith("syscall:")
    )


def settings(knowledge: Knowledge) -> tuple[str, ...]:
    """The names of the kernel settings that some condition compares, once, in order."""
    names: dict[str, None] = {}
    for name in conditions(knowledge):
        match = _SETTING.fullmatch(name.removeprefix("sysctl:"))
        if name.startswith("sysctl:") and match is not None:
            names[match[1]] = None
    return tuple(names)
