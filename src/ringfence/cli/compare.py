"""`ringfence compare TARGET...`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ringfence.cli.delivery import deliver, say
from ringfence.cli.options import measuring
from ringfence.cli.progress import progress
from ringfence.cli.rendering import comparison
from ringfence.errors import UsageError

WIDTH = 170
"""Columns of a comparison that no terminal shows."""


@click.command("compare")
@click.argument("targets", nargs=-1, required=True)
@click.option(
    "--as",
    "places",
    multiple=True,
    metavar="DEPLOYMENT",
    help="Place it only there. Default: every deployment of the knowledge base. Repeatable.",
)
@click.option("--probe", is_flag=True, help="Try what an attacker inside each target could do.")
@click.option("--targets-only", is_flag=True, help="Compare the targets; place nothing.")
@measuring
@click.option(
    "--fail-on",
    multiple=True,
    metavar="LIMIT",
    help="Exit 1 if the first target passes. Repeatable.",
)
def command(
    targets: tuple[str, ...],
    places: tuple[str, ...],
    probe: bool,
    targets_only: bool,
    form: str,
    output: Path | None,
    kind: str | None,
    start: str | None,
    scale: str,
    known: tuple[str, ...],
    no_plan: bool,
    fail_on: tuple[str, ...],
) -> None:
    """The same service as unikernel, VM, container, plain server, side by side.

    What was observed on TARGET stays observed; what a deployment of the knowledge base supplies
    is graded assumed. With several targets the first one's service is placed, and the others
    stand beside it as they were measured; a guest that `ringfence guest` has examined (its JSON)
    does not show its service: it is taken to run that of the first target that does.
    """
    from ringfence.cli.fail_on import passed
    from ringfence.cli.known import with_known
    from ringfence.cli.placing import placements
    from ringfence.cli.scales import checked_start, chosen_scale
    from ringfence.knowledge.loader import load
    from ringfence.measure.assemble import Asked, compare

    if targets_only and places:
        raise UsageError(
            "--targets-only places nothing", remedy="leave out --as, or --targets-only"
        )
    knowledge = load()
    asked = Asked(chosen_scale(scale, knowledge), checked_start(start, knowledge), plan=not no_plan)
    passed(fail_on, ())
    with progress("reading"):
        wanted = () if targets_only else places or tuple(knowledge.templates)
        placed = [
            (target, with_known(item, known, knowledge))
            for target, item in placements(targets, wanted, kind or "", knowledge, probe=probe)
        ]
    with progress("comparing"):
        result = compare(placed, knowledge, asked)
    deliver(comparison(result, form, output, WIDTH), output)
    lines = passed(fail_on, result.measurements[:1])
    for line in lines:
        say(f"limit passed: {line}")
    if lines:
        sys.exit(1)
