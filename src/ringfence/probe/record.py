"""The result of a battery: these names are a public interface (docs/measure.md)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ringfence.model.need import State
from ringfence.probe.definition import Seen

SCHEMA = "ringfence.probe/1"


class Attempt(msgspec.Struct, frozen=True):
    """One attempt. `expected` is what configuration says: open, closed or unknown; `seen` what
    happened: open, closed or unsupported. `stopped_by` names the layer that stopped it,
    `technique` is of ATT&CK, `control` tells where the same attempt was seen to succeed."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    group: str
    title: str
    expected: State
    seen: Seen
    stopped_by: str
    detail: str
    technique: str
    control: str


class ProbeTarget(msgspec.Struct, frozen=True):
    """What was probed: the process, and how we stood inside (`join` or `inject`)."""

    kind: str
    name: str
    pid: int
    program: str
    stance: str


class ProbeReport(msgspec.Struct, frozen=True):
    """All of a battery. `disagreements` are the ids of attempts in which configuration and probe
    say different things; `notes` what could not be joined. `stopped` are seconds for which the
    workload stood still, `seconds` the time that the battery took."""

    schema: str
    target: ProbeTarget
    attempts: Annotated[tuple[Attempt, ...], msgspec.Meta(min_length=1)]
    disagreements: tuple[str, ...]
    counts: dict[str, Annotated[int, msgspec.Meta(ge=0)]]
    notes: tuple[str, ...]
    stopped: tuple[float, ...]
    seconds: float
