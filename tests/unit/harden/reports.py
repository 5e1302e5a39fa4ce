"""Reports of a hardening that nobody had to run."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ringfence.harden.record import BeforeAndAfter, Counts, KeptFile, Report, Retest
from ringfence.model.measurement import Measurement
from tests.command import ringfence

SERVER = Path(__file__).parents[3] / "examples" / "1-general-purpose-server.toml"


def hardened(name: str) -> Report:
    """One in which all that comes from outside is `name`."""
    done = ringfence("measure", SERVER, "--no-plan", "--format", "json")
    measured = msgspec.json.decode(done.out, type=Measurement)
    counts = Counts(1, 1, 1, 1, 0, 0, 1, None, 0)
    return Report(
        "s", name, name, name, measured, measured, (KeptFile(name, name),),
        BeforeAndAfter(counts, counts), (Retest(name, name, name, True),), {name: name}, {}, (),
        (name,), (name,), (80,), {}, (name,),
    )  # fmt: skip
