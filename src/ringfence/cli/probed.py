"""Probing as a step of `measure` and `compare`: one process for each way of being confined."""

from __future__ import annotations

from ringfence.errors import UsageError
from ringfence.knowledge.records import Knowledge
from ringfence.model.deployment import Deployment
from ringfence.model.facts import Facts

LIVE = ("process", "container", "host")


def tried(facts: Facts, deployment: Deployment, knowledge: Knowledge) -> Deployment:
    """The deployment with what probing its processes showed. Raises UsageError for a target that
    does not run, MissingError without the privilege."""
    from ringfence.measure.conditions.scene import scene
    from ringfence.probe.evidence import with_probed
    from ringfence.probe.probing import control_of, probe_process

    if facts.target.kind not in LIVE:
        raise UsageError(
            "does not run, so there is nothing to try", where=facts.target.name,
            remedy="leave out --probe, or start it: ringfence probe TARGET",
        )  # fmt: skip
    view = scene(facts, knowledge)
    pids = [place.process.pid for place in (*view.user, *view.admin) if not place.supposed]
    control = control_of(knowledge)
    probed = tuple(
        probe_process(
            pid,
            knowledge,
            kind=facts.target.kind,
            name=facts.target.name,
            facts=facts,
            control=control,
        )
        for pid in dict.fromkeys(pids)
        if pid is not None
    )
    return with_probed(deployment, probed, knowledge)
