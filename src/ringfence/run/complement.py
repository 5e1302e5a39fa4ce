"""What rules on a call's arguments leave over, as rules again. Pure.

A limit of an OCI seccomp rule fixes bits of one argument; the limits of a rule hold together, the
rules of a call are alternatives. What none of them allows is found by splitting on one bit after
the other (Shannon's expansion), so that the results never overlap. `width` bounds it: an engine's
library takes its time over each rule, and numbers beyond the kernel's own are not worth it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Bit = tuple[int, int]
"""(index of the argument, place of the bit)"""
Cube = dict[Bit, bool]
"""Bits that must have a value; all others may have either."""

BITS = 32
EQUAL, MASKED = "SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"


def left_over(
    rules: list[list[dict[str, Any]]], widths: Mapping[int, int] | None = None
) -> list[list[dict[str, Any]]]:
    """Limits of the rules that hold exactly where none of `rules` does. Each rule is a list of
    limits {index, value, valueTwo, op}; an empty one holds always. `widths` maps an argument to
    the number of bits below which it is looked at: of larger values nothing is said."""
    small = {(index, place): False for index, width in (widths or {}).items()
             for place in range(width, BITS)}  # fmt: skip
    cubes = [_cube(rule) for rule in rules]
    inside = [
        {bit: want for bit, want in cube.items() if bit not in small}
        for cube in cubes
        if not any(cube.get(bit) for bit in small)
    ]
    return [_limits(cube) for cube in _split(inside, small)]


def _cube(limits: list[dict[str, Any]]) -> Cube:
    found: Cube = {}
    for limit in limits:
        if limit["op"] == EQUAL:
            mask, value = (1 << BITS) - 1, int(limit["value"])
        else:
            mask, value = int(limit["value"]), int(limit["valueTwo"])
        for place in range(BITS):
            if mask >> place & 1:
                found[limit["index"], place] = bool(value >> place & 1)
    return found


def _split(cubes: list[Cube], fixed: Cube) -> list[Cube]:
    if not cubes:
        return [fixed]
    if not all(cubes):
        return []
    # The first argument's highest bit first: neighbouring values then share their way down.
    bit = min((bit for cube in cubes for bit in cube), key=lambda bit: (bit[0], -bit[1]))
    found = []
    for value in (False, True):
        inside = [
            {key: want for key, want in cube.items() if key != bit}
            for cube in cubes
            if cube.get(bit, value) is value
        ]
        found += _split(inside, {**fixed, bit: value})
    return found


def _limits(cube: Cube) -> list[dict[str, Any]]:
    limits = []
    for index in sorted({index for index, _ in cube}):
        places = {place: value for (which, place), value in cube.items() if which == index}
        mask = sum(1 << place for place in places)
        value = sum(1 << place for place, set_ in places.items() if set_)
        limits.append({"index": index, "value": mask, "valueTwo": value, "op": MASKED})
    return limits
