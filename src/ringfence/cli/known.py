"""`--known VECTOR=CVE`: a published vulnerability that the user knows of."""

from __future__ import annotations

import re

import msgspec

from ringfence.errors import UsageError
from ringfence.knowledge.records import Knowledge
from ringfence.knowledge.vocabulary import vector_ids
from ringfence.model.deployment import Deployment, KnownVulnerability
from ringfence.model.evidence import Evidence, Grade

_FORM = re.compile(r"(?P<vector>.+)=(?P<cve>CVE-[0-9]{4}-[0-9]{4,})")


def with_known(deployment: Deployment, stated: tuple[str, ...], knowledge: Knowledge) -> Deployment:
    """`deployment` with what `--known` states. Raises UsageError for what makes no sense."""
    possible = vector_ids((point.id for point in deployment.entry_points), knowledge)
    found = []
    for text in stated:
        match = _FORM.fullmatch(text)
        if match is None:
            raise UsageError(f"--known {text!r} is not understood", remedy="write VECTOR=CVE-...")
        if match["vector"] not in possible:
            remedy = "use an id that the report prints"
            raise UsageError(f"--known: there is no vector {match['vector']!r}", remedy=remedy)
        evidence = Evidence(Grade.DECLARED, "--known", match["cve"])
        found.append(KnownVulnerability(match["vector"], match["cve"], evidence))
    return msgspec.structs.replace(deployment, known=(*deployment.known, *found))
