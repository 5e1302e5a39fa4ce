"""What the knowledge base asks of the machine: the lists that collectors look up."""

from __future__ import annotations

import re

from ringfence.knowledge.records import Knowledge

_SETTING = re.compile(r"([a-z0-9_.-]+?)(<=|>=|==)-?\d+")


def call_questions(knowledge: Knowledge) -> tuple[str, ...]:
    """The system calls, with arguments where it matters, that seccomp filters are asked about."""
    return tuple(
        name.removeprefix("syscall:")
        for name in knowledge.conditions
        if name.startswith("syscall:")
    )


def settings(knowledge: Knowledge) -> tuple[str, ...]:
    """The names of the kernel settings that some condition compares, once, in order."""
    names: dict[str, None] = {}
    for name in knowledge.conditions:
        match = _SETTING.fullmatch(name.removeprefix("sysctl:"))
        if name.startswith("sysctl:") and match is not None:
            names[match[1]] = None
    return tuple(names)
