"""What the ledger keeps of a baseline that was made, of a check, and of one that was renewed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ringfence.errors import RingfenceError
from ringfence.watch.baseline.items import shown
from ringfence.watch.baseline.making import Made
from ringfence.watch.baseline.making import Wishes as Making
from ringfence.watch.baseline.result import Report
from ringfence.watch.baseline.seal import Signer
from ringfence.watch.baseline.targets import Target
from ringfence.watch.ledger.writer import Ledger
from ringfence.watch.live.told import EVENT, POLICY, Told, bounded, finding

BY = "watch check"
AT_ONCE = 512


def keep_made(
    ledger: Ledger, target: Target, made: Made, wishes: Making, baseline: Path, signer: Signer
) -> None:
    """A new baseline: whatever was at its place before counts no more. Raises NotWritten."""
    detail = {
        **_sealed("baseline", baseline, signer), "target": target.kind, "entries": made.entries,
        "algorithm": made.algorithm, "unseen": len(made.unseen),
        "rules": [f"{rule.glob or rule.regex}={rule.mode}" for rule in wishes.rules],
        "only": [os.fsdecode(path) for path in target.only],
    }  # fmt: skip
    _keep(ledger, [Told(POLICY, target.name, detail)])


def keep_check(ledger: Ledger, report: Report, baseline: Path, signer: Signer | None) -> None:
    """All that a check found, its end, and, where one was sealed, the new baseline. Raises
    NotWritten."""
    found = [finding(verdict, item, BY) for verdict in ("added", "removed", "changed")
             for item in getattr(report, verdict)]  # fmt: skip
    end = {
        "event": "full-check" if report.mode == "full" else "quick-check", "by": BY,
        "verdict": "unchanged" if report.same else "differs", "found": len(found),
        "entries": report.checked.entries, "unseen": len(report.unseen),
        "baseline": report.baseline, "sealed_by": report.sealed_by, "sealed_at": report.sealed_at,
    }  # fmt: skip
    records = [*found, Told(EVENT, report.target.name, end)]
    if report.updated and signer is not None:
        detail = {**_sealed("baseline-updated", baseline, signer), "found": len(found),
                  "entries": report.checked.entries}  # fmt: skip
        records.append(Told(POLICY, report.target.name, detail))
    _keep(ledger, records)


@contextlib.contextmanager
def keeping_failure(ledger: Ledger, target: Target, baseline: Path) -> Iterator[None]:
    """A check that comes to no result, above all of a baseline that is not to be trusted, is kept,
    too."""
    try:
        yield
    except RingfenceError as error:
        detail = {"event": "full-check", "by": BY, "verdict": "failed", "why": error.line(),
                  "baseline": shown(bytes(baseline))[0]}  # fmt: skip
        _keep(ledger, [Told(EVENT, target.name, detail)])
        raise


def _sealed(event: str, baseline: Path, signer: Signer) -> dict[str, object]:
    return {
        "event": event, "baseline": shown(os.fsencode(baseline.absolute()))[0],
        "sha256": signer.sealed.hex(), "sealed_by": f"ed25519:{signer.public.hex()}",
        "uid": os.getuid(),
    }  # fmt: skip


def _keep(ledger: Ledger, records: list[Told]) -> None:
    for place in range(0, len(records), AT_ONCE):
        part = [bounded(item) for item in records[place : place + AT_ONCE]]
        ledger.append_all([(item.kind, item.subject, item.detail) for item in part])
