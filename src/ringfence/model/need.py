"""Needs: what must be permitted before a vector or an interface family is open.

A need is a formula of *conditions* joined by `all` and `any`, with no negation. A condition is a
permission in the attacker's favour, named `kind:subject` (`syscall:bpf`, `cap:CAP_SYS_ADMIN`,
`path:docker-socket`); it is open or closed. Because there is no negation, closing a condition
can only remove vectors: that is why turning a mechanism on never raises a surface.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec


class State(enum.StrEnum):
    """State of a condition. `unknown` counts as open, with evidence of grade `assumed`."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class Leaf(msgspec.Struct, frozen=True, tag="condition"):
    """One condition, by its id."""

    condition: str


class All(msgspec.Struct, frozen=True, tag="all"):
    """Open when every part is open. With no parts: always open."""

    parts: tuple[Need, ...]


class Any(msgspec.Struct, frozen=True, tag="any"):
    """Open when at least one part is open."""

    parts: tuple[Need, ...]


Need = Leaf | All | Any


def leaves(need: Need) -> Iterator[str]:
    """Every condition id in `need`, in reading order, repeats included."""
    if isinstance(need, Leaf):
        yield need.condition
        return
    for part in need.parts:
        yield from leaves(part)


def matches(pattern: str, condition: str) -> bool:
    """Whether `condition` is named by `pattern`: the same id, or a prefix that ends in `*`."""
    if pattern.endswith("*"):
        return condition.startswith(pattern[:-1])
    return pattern == condition


def render(need: Need) -> str:
    """`need` as a person reads it: `a and (b or c)`."""
    if isinstance(need, Leaf):
        return need.condition
    if not need.parts:
        return "nothing"
    word = " and " if isinstance(need, All) else " or "
    parts = [
        f"({render(part)})" if not isinstance(part, Leaf) and len(part.parts) > 1 else render(part)
        for part in need.parts
    ]
    return word.join(parts)
