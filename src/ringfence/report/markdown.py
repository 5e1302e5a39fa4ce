"""Markdown: the same report for a pull request or a wiki."""

from __future__ import annotations

from ringfence.model.evidence import Evidence
from ringfence.model.measurement import Comparison, Measurement
from ringfence.report import words
from ringfence.report.commonmark import block, bold, code, fenced, prose, table
from ringfence.report.look import Look


def measurements(results: tuple[Measurement, ...], look: Look) -> str:
    """Each measurement under a heading of its own."""
    return "\n".join(_measurement(result) for result in results)


def comparison(result: Comparison, look: Look) -> str:
    """Deployments side by side, least surface first."""
    first = result.measurements[0]
    by_name = {item.deployment.name: item for item in result.measurements}
    lines = [
        f"# {prose(first.target.name)} in {len(by_name)} deployments",
        "",
        f"Seen from {prose(first.start)}, scale {code(first.scale)}, least surface first.",
        "",
    ]
    headings = [heading for _, heading in words.COUNTS]
    rows = [_row(by_name[name]) for name in result.order]
    columns = ["deployment", *headings, "vectors", "surface", "by zone", "z=1", "z=2"]
    lines += table([*columns, "zero-days to admin", "observed"], rows)
    if any(item.deployment.lower_bound for item in result.measurements):
        lines += ["", words.LOWER_BOUND]
    lines += ["", words.AT_LEAST]
    lines += ["", "## Blast radius", ""]
    lines += table(
        ["deployment", "z=0", "z=1", "z=2", "z=3"],
        [
            [name, *(", ".join(held) or "nothing" for held in by_name[name].blast_radius)]
            for name in result.order
        ],
    )
    lines += ["", "## What makes the difference", ""]
    lines += table(
        ["vector", "open in", "closed by"],
        [
            [
                code(item.vector),
                ", ".join(f"{name} ({words.number(own)})" for name, own in item.weights.items()),
                "; ".join(
                    f"{name}: {fact.grade}: {fact.detail or fact.source}"
                    for name, fact in item.closed_by.items()
                ),
            ]
            for item in result.differences
        ],
    )
    lines += ["", "## Sensitivity", "", *_sensitivity(result), ""]
    notes = [
        f"- {block(item.deployment.name)}: {prose(note)}"
        for item in result.measurements
        for note in item.deployment.notes
    ]
    return "\n".join([*lines, *(["## Notes", "", *notes, ""] if notes else [])])


def _row(item: Measurement) -> list[str]:
    zones = ", ".join(f"{zone} {words.number(part)}" for zone, part in item.surface.by_zone.items())
    return [
        item.deployment.name,
        *(words.count(key, item.counts) for key, _ in words.COUNTS),
        str(len(words.reached(item))),
        words.surface(item),
        zones,
        words.position(item.profile[1]),
        words.position(item.profile[2]),
        words.zero_days(item.zero_days_to_admin),
        words.percent(item.evidence_coverage.observed),
    ]


def _sensitivity(result: Comparison) -> list[str]:
    found = result.sensitivity
    lines = [
        f"The order holds in {words.percent(found.holds)} of {found.draws} draws (seed "
        f"{found.seed}) of worths and discount within a factor of ten.",
        "",
    ]
    lines += [f"- {code(name)}: {prose(', '.join(order))}" for name, order in found.orders.items()]
    lines += [f"- {block(reason)}" for reason in found.reasons]
    lines += [
        f"- {block(swap.first)} and {prose(swap.second)} swap in {words.percent(swap.share)} "
        "of the draws"
        for swap in found.swaps[:10]
    ]
    return lines


def _measurement(result: Measurement) -> str:
    lines = [f"# {prose(result.target.name)}", "", f"{prose(words.headline(result))}.", ""]
    if caveat := words.in_part(result):
        lines += [bold(caveat), ""]
    for part in (_depth, _vectors, _closed, _mechanisms, _counts, _plan, _not_seen):
        lines += part(result)
    return "\n".join([*lines, ""])


def _section(title: str, headings: list[str], rows: list[list[str]]) -> list[str]:
    return [f"## {title}", "", *table(headings, rows), ""]


def _depth(result: Measurement) -> list[str]:
    rows = [
        [str(spent), words.position(place), ", ".join(result.blast_radius[spent]) or "nothing"]
        for spent, place in enumerate(result.profile)
    ]
    return _section("Depth", ["zero-days spent", "deepest position", "held"], rows)


def _vectors(result: Measurement) -> list[str]:
    headings = ["weight", "id", "title", "from", "to", "means", "evidence", "blocked by"]
    rows = [
        [
            words.number(vector.weight),
            code(vector.id),
            vector.title,
            str(vector.needs.position),
            str(vector.gives),
            vector.means.value,
            _why(vector.evidence[:3]),
            ", ".join(vector.blocked_by),
        ]
        for vector in words.reached(result)
    ]
    return _section("Vectors", headings, rows)


def _closed(result: Measurement) -> list[str]:
    rows = [
        [code(vector.id), ", ".join(vector.held_by), _why(vector.evidence[:2])]
        for vector in result.closed
    ]
    return _section("Closed", ["id", "held by", "evidence"], rows)


def _mechanisms(result: Measurement) -> list[str]:
    rows = [
        [f"{line.kind} ({line.zone})", code(item.id), item.state.value, _why(item.evidence[:1])]
        for line in result.deployment.boundaries
        for item in line.mechanisms
    ]
    return _section("Mechanisms", ["boundary", "mechanism", "state", "evidence"], rows)


def _counts(result: Measurement) -> list[str]:
    rows = [
        [name.replace("_", " "), words.count(name, result.counts), _why((item.evidence,))]
        for name, item in result.counts.items()
    ]
    return _section("Counts", ["count", "value", "evidence"], rows)


def _not_seen(result: Measurement) -> list[str]:
    if not result.unseen:
        return []
    return ["## Not seen", "", *(f"- {block(i.what)}: {prose(i.why)}" for i in result.unseen)]


def _plan(result: Measurement) -> list[str]:
    if not result.plan:
        return []
    proved = "proved smallest" if result.plan_optimal else "not proved smallest"
    lines = [f"## Plan ({proved})", ""]
    for index, step in enumerate(result.plan, 1):
        lines.append(
            f"{index}. {bold(step.title)} ({code(step.mechanism)}): surface "
            f"{words.number(step.surface_after)}, zero-days to admin "
            f"{words.zero_days(step.zero_days_after)}"
        )
        for platform, text in step.setting.items():
            lines += _setting(platform, text)
    return [*lines, ""]


def _setting(platform: str, text: str) -> list[str]:
    """An item of a step's list: a setting of several lines is a block, so that they stay lines."""
    if "\n" not in text:
        return [f"   - {block(platform)}: {code(text)}"]
    return [f"   - {block(platform)}:", "", *(f"     {line}" for line in fenced(text)), ""]


def _why(evidence: tuple[Evidence, ...]) -> str:
    return "; ".join(f"{item.grade}: {item.detail or item.source}" for item in evidence)
