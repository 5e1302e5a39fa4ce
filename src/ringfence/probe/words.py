"""What a probe's id means, in words: what it tries, why that does no harm, what its result says."""

from __future__ import annotations

import re

from ringfence.knowledge.records import Knowledge
from ringfence.model.need import leaves, render
from ringfence.probe.battery import PROBES, calls
from ringfence.probe.definition import Probe
from ringfence.probe.expect import need_of
from ringfence.probe.oracle import EXEMPT


def probe_ids() -> list[str]:
    """The ids of all probes."""
    return sorted(probe.id for probe in PROBES)


def explain_probe(name: str, knowledge: Knowledge) -> str | None:
    """The explanation of a probe, or of a condition that only probes ask for; None where there
    is none of that id."""
    found = next((probe for probe in PROBES if probe.id == name), None)
    call = name.removeprefix("call.")
    if found is None and call != name and (call in EXEMPT or re.fullmatch(r"call-\d{1,4}", call)):
        found = calls.probe(call)  # not of the table
    return _asked(name, knowledge) if found is None else _words(found, knowledge)


def _asked(name: str, knowledge: Knowledge) -> str | None:
    """A condition with arguments, say, that no entry of the knowledge base has."""
    by = [
        probe.id for probe in PROBES
        if name in (*probe.decides, *probe.rules_out) or name in leaves(need_of(probe, knowledge))
    ]  # fmt: skip
    return f"{name}: a condition that probes ask for: {', '.join(by)}" if by else None


def _words(probe: Probe, knowledge: Knowledge) -> str:
    lines = [
        f"{probe.id}: {probe.title}",
        f"  probe of the group {probe.group}",
        f"  tries: {probe.safety}",
    ]
    if probe.needs:
        lines.append(f"  open by configuration with: {render(need_of(probe, knowledge))}")
    else:
        lines.append("  configuration does not tell what will come of it")
    if probe.decides:
        lines.append(f"  its result settles: {', '.join(probe.decides)}")
    if probe.rules_out:
        lines.append(f"  closed, it helps to rule out: {', '.join(probe.rules_out)}")
    return "\n".join([*lines, f"  ATT&CK: {probe.technique}"])
