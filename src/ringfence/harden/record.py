"""The report of a hardening as records: what report.json holds (docs/measure.md names them)."""

from __future__ import annotations

import msgspec

from ringfence.model.measurement import Measurement

SCHEMA = "ringfence-hardening-1"


class KeptFile(msgspec.Struct, frozen=True):
    """A path of the image and why it is there."""

    path: str
    reason: str


class Counts(msgspec.Struct, frozen=True):
    """The one-dimensional counts. `system_calls` are allowed ones; `system_calls_serving` those
    of the serving phase, None where there is no second filter; `capabilities` of the bounding
    set of the first process. Where not `complete`, files were not all seen: there are at least so
    many files, bytes, executables, libraries, setuid programs and shells, and zero is unknown."""

    files: int
    bytes: int
    executables: int
    libraries: int
    setuid: int
    shells: int
    system_calls: int
    system_calls_serving: int | None
    capabilities: int
    complete: bool = True


class BeforeAndAfter(msgspec.Struct, frozen=True):
    """Counts of the tree and run as given, and of the result."""

    before: Counts
    after: Counts


class Retest(msgspec.Struct, frozen=True):
    """One request or command, its answer outside the fence and inside. `exercised` tells
    whether it was part of the exercise that the policies were learned from."""

    request: str
    expected: str
    seen: str
    exercised: bool


class Report(msgspec.Struct, frozen=True):
    """All of a hardening. `calls` and `serving` map allowed system calls to the reason; `refused`
    are calls that the fence refused while it was retested, with how often; `notes` say what the
    user should know."""

    schema: str
    name: str
    digest: str
    user: str
    before: Measurement
    after: Measurement
    files: tuple[KeptFile, ...]
    counts: BeforeAndAfter
    retest: tuple[Retest, ...]
    calls: dict[str, str]
    serving: dict[str, str]
    taken: tuple[str, ...]
    writable: tuple[str, ...]
    volumes: tuple[str, ...]
    ports: tuple[int, ...]
    refused: dict[str, int]
    notes: tuple[str, ...]
