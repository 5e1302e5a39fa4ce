"""Answers outside the fence and inside, compared; those that differ from run to run outside the
fence, too, are no fault of the fence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ringfence.errors import InputError
from ringfence.harden.build import Minimal, Observed, Workshop, asked_again, missed_inside
from ringfence.harden.observe.exercise import Answer
from ringfence.harden.observe.session import Run
from ringfence.harden.policy.needs import Needs
from ringfence.harden.record import Report, Retest


def retests(seen: Observed, fenced: Run) -> tuple[Retest, ...]:
    """Every answer outside and inside the fence, side by side."""
    reference = seen.reference
    return (
        *_pairs(reference.answers, fenced.answers, True),
        *_pairs(reference.beyond, fenced.beyond, False),
        *(
            Retest(f"{item.request} (after SIGHUP)", item.expected, item.seen, True)
            for item in _pairs(reference.after_reload, fenced.after_reload, True)
        ),
        Retest(
            f"stop by {seen.plan.stop}", _exit(reference.status), _exit(fenced.status), True,
        ),
    )  # fmt: skip


def _exit(status: int | None) -> str:
    return "it does not stop" if status is None else f"exit {status}"


def _pairs(
    expected: tuple[Answer, ...], seen: tuple[Answer, ...], exercised: bool
) -> tuple[Retest, ...]:
    return tuple(
        Retest(want.request, want.text, got.text, exercised)
        for want, got in zip(expected, seen, strict=True)
    )


def differing(report: Report) -> tuple[Retest, ...]:
    """Answers that are others inside the fence."""
    return tuple(item for item in report.retest if item.expected != item.seen)


def compared(report: Report, seen: Observed, made: Minimal, needs: Needs, shop: Workshop) -> Report:
    """The report, without answers beyond the exercise that differ from run to run outside the
    fence, too. Raises InputError where others differ."""
    broken = differing(report)
    if not broken:
        return report
    outside: dict[str, tuple[str, ...]] = {}
    again: list[Run] = []
    for later in asked_again(seen, shop):
        again.append(later)
        outside = changing(seen, again)
        if all(_by_itself(item, outside) for item in broken):
            break
    settled = without_changing(report, outside)
    broken = differing(settled)
    if not broken:
        return settled
    if all(_by_itself(item, outside) for item in broken):
        raise unsteady(report, broken[0], outside)
    raise unlike(settled, outside, missed_inside(seen, made, needs, shop))


def changing(seen: Observed, again: Iterable[Run]) -> dict[str, tuple[str, ...]]:
    """Requests that are answered differently from run to run outside the fence -> the answers."""
    found: dict[str, dict[str, None]] = {}
    for later in again:
        for item in retests(seen, later):
            found.setdefault(item.request, {item.expected: None})[item.seen] = None
    return {request: tuple(texts) for request, texts in found.items() if len(texts) > 1}


def _by_itself(item: Retest, outside: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether an answer differs as it does outside: there with the same status, too."""
    statuses = {text.partition(" ")[0] for text in outside.get(item.request, ())}
    return item.seen.partition(" ")[0] in statuses


def without_changing(report: Report, outside: Mapping[str, tuple[str, ...]]) -> Report:
    """The report without differing answers that nobody asked for and that change by themselves."""
    gone = [item for item in differing(report)
            if not item.exercised and _by_itself(item, outside)]  # fmt: skip
    notes = [f"{item.request} is answered differently from run to run outside the fence, too: not "
             "compared" for item in gone]  # fmt: skip
    return msgspec.structs.replace(
        report,
        retest=tuple(item for item in report.retest if item not in gone),
        notes=(*report.notes, *notes),
    )


def unsteady(report: Report, item: Retest, outside: Mapping[str, tuple[str, ...]]) -> InputError:
    """The error for an exercise whose answer changes by itself."""
    texts = " and ".join(repr(text) for text in outside[item.request][:2])
    return InputError(
        f"{item.request} is answered differently from run to run outside the fence, too: {texts}",
        where=report.name,
        remedy="leave it out, or give an --exercise whose output stays the same",
    )


def unlike(
    report: Report, outside: Mapping[str, tuple[str, ...]], missed: tuple[str, ...]
) -> InputError:
    """The error for a result whose answers differ. `missed` are files that it looked for in vain
    when it was asked once more."""
    broken = differing(report)
    first = next(item for item in broken if not _by_itself(item, outside))
    words = [f"--allow '{name}'" for name in report.refused] + [
        f"--keep /{path}" for path in missed
    ]
    return InputError(
        f"{len(broken)} of {len(report.retest)} answers differ inside the fence: "
        f"{first.request} gave {first.seen!r} instead of {first.expected!r}",
        where=report.name,
        remedy=f"it was refused or did not find something: try {' '.join(words)}" if words
        else "--keep what it needs, or try again: outside it was the same each time, which may be "
        "by chance",
    )  # fmt: skip
