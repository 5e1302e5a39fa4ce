"""Limits for pipelines: `surface>50`, `system<2`, `machine<3`, `vectors>10`."""

from __future__ import annotations

import operator
import re

from ringfence.errors import UsageError
from ringfence.model.measurement import Measurement

_LIMIT = re.compile(r"(surface|vectors|system|machine)\s*(<=|>=|<|>)\s*(\d+(?:\.\d+)?)")
_OPERATORS = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}


def passed(limits: tuple[str, ...], results: tuple[Measurement, ...]) -> list[str]:
    """The limits that some result passes, each as a line that says by how much.

    `system` and `machine` are zero-days to admin; where no way is known none is passed.
    """
    lines = []
    for limit in limits:
        match = _LIMIT.fullmatch(limit.strip())
        if match is None:
            raise UsageError(
                f"--fail-on {limit!r} is not understood",
                remedy="write surface, vectors, system or machine, then <, >, <= or >=, a number",
            )
        for result in results:
            value = _value(match[1], result)
            if value is not None and _OPERATORS[match[2]](value, float(match[3])):
                lines.append(f"{result.target.name}: {match[1]} is {value:g}, limit {limit}")
    return lines


def _value(name: str, result: Measurement) -> float | None:
    if name == "surface":
        return result.surface.total
    if name == "vectors":
        return float(sum(1 for vector in result.vectors if vector.steps is not None))
    days = result.zero_days_to_admin
    found = days.system if name == "system" else days.machine
    return None if found is None else float(found)
