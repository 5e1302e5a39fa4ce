"""The terminal: in ten lines where it is worst and what to do first, then the detail."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ringfence.model.deployment import Switch
from ringfence.model.measurement import Comparison, Measurement, PlanStep, Vector
from ringfence.report import words
from ringfence.report.hops import hops
from ringfence.report.look import Look

WORST = 3
MOST_COLUMNS = 6
"""Deployments whose differences are shown side by side; the JSON has them for any number."""
NAMED = 6
"""Vectors named in a line of the summary."""
FIRST_STEPS = 3
HEAVY, MIDDLE = 50, 5


def measurements(results: tuple[Measurement, ...], look: Look) -> str:
    """Each measurement: ten lines first, then vectors, plan and what was not seen."""
    console = _console(look)
    for index, result in enumerate(results):
        if index:
            console.print()
        _summary(console, result)
        _vectors(console, result)
        _plan(console, result)
        _mechanisms(console, result)
        _counts(console, result)
        _unseen(console, result)
    return _text(console)


def comparison(result: Comparison, look: Look) -> str:
    """Deployments side by side: counts, then depth, then how far the order can be trusted."""
    console = _console(look)
    first = result.measurements[0]
    console.print(
        f"[bold]{_safe(first.target.name)}[/] in {len(result.measurements)} deployments, "
        f"seen from {_safe(first.start)}, scale {_safe(first.scale)}; least surface first"
    )
    console.print(_side_by_side(result))
    if any(item.deployment.lower_bound for item in result.measurements):
        console.print(words.LOWER_BOUND)
    console.print(words.AT_LEAST)
    console.print(_blast_table(result))
    _differences(console, result)
    _sensitivity(console, result)
    console.print("What each deployment assumes and loses stands in --format markdown and json.")
    return _text(console)


def _console(look: Look) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=look.colour,
        no_color=not look.colour,
        width=look.width,
        highlight=False,
        emoji=False,
    )


def _text(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)  # noqa: S101 - made in _console
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _safe(text: str) -> str:
    """Text from outside: no control characters for the terminal, no markup for rich."""
    return words.printable(text).replace("[", r"\[")


def _cell(text: str) -> Text:
    """Text from outside as a cell of a table."""
    return Text(words.printable(text))


def _style(weight: float) -> str:
    if weight >= HEAVY:
        return "bold red"
    return "yellow" if weight >= MIDDLE else ""


def _summary(console: Console, result: Measurement) -> None:
    """The ten lines."""
    name = _safe(result.deployment.name)
    console.print(f"[bold]{name}[/] ({result.target.kind}): {_safe(words.headline(result))}")
    if caveat := words.in_part(result):
        console.print(_safe(f"  {caveat}"), style="bold")
    zones = " > ".join(result.deployment.zones)
    kinds = ", ".join(f"{line.kind} ({line.zone})" for line in result.deployment.boundaries)
    console.print(_safe(f"  zones {zones}; boundaries {kinds or 'none'}"))
    places = [words.position(place) for place in result.profile]
    reached = ", ".join(f"{spent}: {place}" for spent, place in enumerate(places))
    console.print(_safe(f"  deepest with zero-days spent  {reached}"))
    held = result.blast_radius[1] if len(result.blast_radius) > 1 else ()
    console.print(f"  held with one zero-day        {_safe(', '.join(held)) or 'nothing'}")
    share = result.evidence_coverage
    console.print(
        f"  evidence: {words.percent(share.observed)} observed or better, "
        f"{words.percent(share.probed)} probed; {len(result.unseen)} things not seen"
    )
    for hop in hops(result)[:WORST]:
        names = ", ".join(hop.vectors[:NAMED]) + (" ..." if len(hop.vectors) > NAMED else "")
        way = f"{words.position(hop.source).replace('nothing', 'outside')} to {hop.gives}"
        line = f"  worst: {words.number(hop.weight):>5}  {way}, {len(hop.vectors)} vectors: {names}"
        console.print(_one_line(line, console), style=_style(hop.weight))
    steps = result.plan[:FIRST_STEPS]
    for index, step in enumerate(steps):
        lead = "do first:" if index == 0 else "then:"
        after = words.number(step.surface_after)
        setting = words.setting(step, result.target.kind)
        text = f"  {lead:<9} {step.title} (surface {after})  {setting}"
        console.print(_one_line(text, console), style="green")
    if not steps and result.plan_optimal is not None:
        console.print("  nothing left to turn on: no mechanism of the knowledge base removes more")


def _one_line(text: str, console: Console) -> str:
    """As much of `text` as fits into one line; the rest stands in the tables below."""
    cut = text if len(text) <= console.width else text[: console.width - 4] + " ..."
    return _safe(cut)


def _vectors(console: Console, result: Measurement) -> None:
    table = Table(title="Vectors", title_justify="left", box=None, pad_edge=False)
    for heading in ("weight", "id", "from", "to", "means", "evidence"):
        table.add_column(heading, justify="right" if heading == "weight" else "left")
    for vector in words.reached(result):
        table.add_row(*_vector_cells(vector), style=_style(vector.weight))
    console.print()
    console.print(table)


def _vector_cells(vector: Vector) -> tuple[Text, ...]:
    first = words.telling(vector)
    why = f"{first.grade}: {first.detail or first.source}" if first is not None else "assumed"
    cells = (
        words.number(vector.weight),
        vector.id,
        words.position(vector.needs.position).replace("nothing", "outside"),
        words.position(vector.gives),
        vector.means.value,
        why,
    )
    return tuple(_cell(cell) for cell in cells)


def _plan(console: Console, result: Measurement) -> None:
    if not result.plan:
        return
    proved = "smallest set, proved optimal" if result.plan_optimal else "not proved smallest"
    last = result.plan[-1]
    console.print()
    console.print(
        f"Plan ({proved}): surface {words.number(result.surface.total)} to "
        f"{words.number(last.surface_after)}, zero-days to admin: "
        f"{words.zero_days(last.zero_days_after)}"
    )
    depth = result.zero_days_to_admin
    for index, step in enumerate(result.plan, 1):
        removes = f"removes {len(step.removes)} vectors" if step.removes else "lowers depth"
        after = words.number(step.surface_after)
        changed = words.depth_removed(depth, step.zero_days_after)
        deeper = f", zero-days to admin: {changed}" if changed else ""
        depth = step.zero_days_after
        console.print(
            f"  {index}. {_safe(step.title)} ({step.mechanism}): {removes}, surface {after}{deeper}"
        )
        _settings(console, step)


def _settings(console: Console, step: PlanStep) -> None:
    """Each platform's lines, none of them broken: they are there to be copied."""
    for platform in words.PLATFORMS:
        lines = step.setting.get(platform, "").splitlines()
        for line, lead in zip(lines, (platform, *[""] * len(lines)), strict=False):
            console.print(f"       {lead:<10} {_safe(line)}", soft_wrap=True)


def _mechanisms(console: Console, result: Measurement) -> None:
    """What holds each boundary: every mechanism of the knowledge base by its state."""
    console.print()
    console.print("Mechanisms")
    for boundary in result.deployment.boundaries:
        for state in Switch:
            names = [item.id for item in boundary.mechanisms if item.state is state]
            if names:
                line = f"  {boundary.kind} ({boundary.zone}) {state}: {', '.join(names)}"
                console.print(_safe(line))


def _counts(console: Console, result: Measurement) -> None:
    known = [
        f"{name.replace('_', ' ')} {words.count(name, result.counts)}"
        for name, count in result.counts.items()
        if count.value is not None
    ]
    console.print()
    console.print(_safe(f"Counts: {', '.join(known)}"))


def _unseen(console: Console, result: Measurement) -> None:
    for note in result.deployment.notes:
        console.print(f"  note: {_safe(note)}")
    if not result.unseen:
        return
    console.print()
    console.print("Not seen (counted as open, graded assumed):")
    for item in result.unseen[:12]:
        console.print(f"  {_safe(item.what)}: {_safe(item.why)}")
    if len(result.unseen) > 12:
        console.print(f"  and {len(result.unseen) - 12} more: see --format json")


def _side_by_side(result: Comparison) -> Table:
    by_name = {item.deployment.name: item for item in result.measurements}
    table = Table(box=None, pad_edge=False)
    table.add_column("deployment")
    headings = [heading for _, heading in words.COUNTS]
    for heading in (*headings, "vectors", "surface", "on the machine", "z=1", "system", "machine"):
        table.add_column(heading, justify="right")
    table.add_column("seen", justify="right")
    for name in result.order:
        item = by_name[name]
        zone = item.deployment.zones[-1]
        table.add_row(
            _cell(name),
            *(words.count(key, item.counts) for key, _ in words.COUNTS),
            str(len(words.reached(item))),
            words.surface(item),
            words.number(item.surface.by_zone.get(zone, 0.0))
            if len(item.deployment.zones) > 1
            else "=",
            _cell(words.position(item.profile[1])),
            words.days(item.zero_days_to_admin.system),
            words.days(item.zero_days_to_admin.machine),
            words.percent(item.evidence_coverage.observed),
        )
    return table


def _blast_table(result: Comparison) -> Table:
    by_name = {item.deployment.name: item for item in result.measurements}
    table = Table(
        title="Blast radius: held after z zero-days", title_justify="left", box=None, pad_edge=False
    )
    for heading in ("z=1", "z=2", "z=3", "deployments"):
        table.add_column(heading)
    alike: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for name in result.order:
        alike.setdefault(by_name[name].blast_radius, []).append(name)
    for radius, names in alike.items():
        held = (_cell(", ".join(assets) or "nothing") for assets in radius[1:])
        table.add_row(*held, _cell(", ".join(names)))
    return table


def _differences(console: Console, result: Comparison) -> None:
    """Vector by vector, where the columns fit: who has it, and what closes it elsewhere."""
    names = result.order
    if not 1 < len(names) <= MOST_COLUMNS or not result.differences:
        return
    table = Table(title="What makes the difference", title_justify="left", box=None, pad_edge=False)
    table.add_column("vector")
    for name in names:
        table.add_column(_cell(name), justify="right")
    table.add_column("closed by")
    for item in result.differences:
        weights = (words.weight(item.weights.get(name)) for name in names)
        table.add_row(_cell(item.vector), *weights, _cell(words.closing(item)))
    console.print(table)


def _sensitivity(console: Console, result: Comparison) -> None:
    found = result.sensitivity
    console.print(
        f"The order holds in {words.percent(found.holds)} of {found.draws} draws of the scale "
        f"(each worth and the discount within a factor of ten)."
    )
    for swap in found.swaps[:5]:
        console.print(
            f"  {_safe(swap.first)} and {_safe(swap.second)} swap in {words.percent(swap.share)}"
        )
    for reason in found.reasons:
        console.print(f"  {_safe(reason)}")
