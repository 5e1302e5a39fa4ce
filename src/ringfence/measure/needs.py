"""Decides a need against a deployment, and remembers which conditions decided it."""

from __future__ import annotations

import msgspec

from ringfence.model.deployment import Deployment
from ringfence.model.evidence import Evidence, Grade, weakest
from ringfence.model.need import All, Leaf, Need, State
from ringfence.model.position import Level


class Verdict(msgspec.Struct, frozen=True):
    """Whether a need is open. `conditions` are the ones that decided, with their evidence.

    For an open need these are the conditions that it rests on (of alternatives, the one that is
    known best); for a closed need they are the closed ones, each of which must be opened.
    """

    open: bool
    conditions: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    @property
    def grade(self) -> Grade:
        """The weakest grade among the evidence."""
        return weakest([item.grade for item in self.evidence])


def decide(need: Need, deployment: Deployment, level: Level) -> Verdict:
    """Whether `need` is open for code at `level` in the workload's zone of `deployment`."""
    if isinstance(need, Leaf):
        return _decide_leaf(need.condition, deployment, level)
    verdicts = [decide(part, deployment, level) for part in need.parts]
    if isinstance(need, All):
        closed = [verdict for verdict in verdicts if not verdict.open]
        return _joined(not closed, closed or verdicts)
    opened = [verdict for verdict in verdicts if verdict.open]
    if opened:
        return max(opened, key=lambda verdict: verdict.grade.rank)
    return _joined(False, verdicts)


def _decide_leaf(condition_id: str, deployment: Deployment, level: Level) -> Verdict:
    condition = deployment.condition(condition_id, level)
    evidence = condition.evidence
    if condition.state is State.UNKNOWN and not evidence:
        evidence = (Evidence(Grade.ASSUMED, condition_id, "not seen: counted as open"),)
    return Verdict(condition.state is not State.CLOSED, (condition_id,), evidence)


def _joined(is_open: bool, verdicts: list[Verdict]) -> Verdict:
    conditions = dict.fromkeys(name for verdict in verdicts for name in verdict.conditions)
    evidence = dict.fromkeys(item for verdict in verdicts for item in verdict.evidence)
    return Verdict(is_open, tuple(conditions), tuple(evidence))
