"""From facts to the deployment to measure: what runs is deduced, what does not is placed."""

from __future__ import annotations

import msgspec

from ringfence.knowledge.records import Knowledge
from ringfence.measure.deduce import deduce
from ringfence.measure.guest import examined_deployment
from ringfence.measure.place import place
from ringfence.model.deployment import Deployment
from ringfence.model.facts import Facts

NOT_RUNNING = "container-default"
"""Where an artefact would run unless someone says otherwise: an engine's defaults."""


def deployment_of(facts: Facts, knowledge: Knowledge, same: Deployment | None = None) -> Deployment:
    """The deployment that `facts` show.

    An image or a root file system encloses nothing by itself: it is placed into a container with
    the engine's defaults, and the notes say so. `same`: the service that is known to run in an
    examined guest, whose examination does not look at services.
    """
    if facts.examined is not None:
        return examined_deployment(facts.examined, knowledge, same)
    service = deduce(facts, knowledge)
    if facts.processes or facts.declared is not None or facts.target.kind == "host":
        return service
    template = knowledge.templates[NOT_RUNNING]
    placed = place(service, template, knowledge)
    note = f"does not run: measured as if started with engine defaults ({NOT_RUNNING})"
    return msgspec.structs.replace(placed, name=facts.target.name, notes=(note, *placed.notes))
