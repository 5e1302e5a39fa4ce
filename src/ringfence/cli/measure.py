"""`ringfence measure TARGET...`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ringfence.cli.delivery import deliver, say
from ringfence.cli.options import measuring
from ringfence.cli.progress import progress
from ringfence.cli.rendering import measurements
from ringfence.errors import UsageError

if TYPE_CHECKING:
    from ringfence.model.facts import Facts

WIDTH = 120
"""Columns of a measurement that no terminal shows."""
OF_A_MEASUREMENT = {
    "start": "--from", "scale": "--scale", "no_plan": "--no-plan", "fail_on": "--fail-on",
}  # fmt: skip
"""Parameters that change nothing in a file that is printed, and their words."""


@click.command("measure")
@click.argument("targets", nargs=-1, required=True)
@measuring
@click.option("--as-file", is_flag=True, help="Print the deployment as TOML, to edit and measure.")
@click.option(
    "--facts", type=click.Path(path_type=Path), help="Write all that was read to a JSON file."
)
@click.option(
    "--probe", is_flag=True, help="Try what an attacker inside could do, and measure by that."
)
@click.option(
    "--fail-on",
    multiple=True,
    metavar="LIMIT",
    help="Exit 1 if passed: surface>50, system<2 ... Repeatable.",
)
def command(
    targets: tuple[str, ...],
    form: str,
    output: Path | None,
    kind: str | None,
    start: str | None,
    scale: str,
    known: tuple[str, ...],
    no_plan: bool,
    as_file: bool,
    facts: Path | None,
    probe: bool,
    fail_on: tuple[str, ...],
) -> None:
    """The attack surface of each TARGET now, with the evidence of every number.

    A target is a PID, `host`, a container's name, an image archive or layout, a root file
    system (folder or tar), an OCI bundle, a kernel, unikernel or disk image, a saved examination
    of `ringfence guest` (its JSON), or a deployment written as TOML.
    """
    from ringfence.cli.fail_on import passed
    from ringfence.cli.known import with_known
    from ringfence.cli.probed import tried
    from ringfence.cli.scales import checked_start, chosen_scale
    from ringfence.collect.targets import collect
    from ringfence.knowledge.loader import load
    from ringfence.measure.assemble import Asked, measure
    from ringfence.measure.judge import deployment_of

    if as_file:
        _check_as_file(targets, form)
    knowledge = load()
    asked = Asked(chosen_scale(scale, knowledge), checked_start(start, knowledge), plan=not no_plan)
    passed(fail_on, ())
    with progress("reading"):
        read = [collect(target, knowledge, kind or "") for target in targets]
    deployments = [deployment_of(item, knowledge) for item in read]
    if probe:
        with progress("probing"):
            deployments = [tried(item, one, knowledge)
                           for item, one in zip(read, deployments, strict=True)]  # fmt: skip
    placed = [
        (item.target, with_known(one, known, knowledge))
        for item, one in zip(read, deployments, strict=True)
    ]
    if facts is not None:
        _write_facts(read, facts)
    if as_file:
        from ringfence.measure.mechanisms import describe
        from ringfence.report.as_file import as_file as written

        ((_, only),) = placed
        deliver(written(only, describe(only, knowledge)), output)
        return
    with progress("measuring"):
        results = tuple(measure(target, item, knowledge, asked) for target, item in placed)
    deliver(measurements(results, form, output, WIDTH), output)
    lines = passed(fail_on, results)
    for line in lines:
        say(f"limit passed: {line}")
    if lines:
        sys.exit(1)


def _check_as_file(targets: tuple[str, ...], form: str) -> None:
    """Raise UsageError for words that --as-file would otherwise pass over in silence."""
    if len(targets) > 1:
        raise UsageError("--as-file prints one deployment", remedy="name one target")
    if form != "terminal":
        raise UsageError("--as-file prints TOML", remedy=f"leave out --format {form}")
    context = click.get_current_context()
    for name, word in OF_A_MEASUREMENT.items():
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise UsageError("--as-file measures nothing", remedy=f"leave out {word}")


def _write_facts(read: list[Facts], output: Path) -> None:
    import msgspec

    from ringfence.report.json_format import encoded

    data = encoded(read[0] if len(read) == 1 else read)
    deliver(msgspec.json.format(data, indent=1).decode() + "\n", output)
