"""`ringfence probe TARGET`, `ringfence probe -- COMMAND...`"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ringfence.cli.delivery import colour, deliver, say, width, writable
from ringfence.cli.ending import unwind_on
from ringfence.cli.ledgered import ledgered, recording
from ringfence.errors import UsageError

if TYPE_CHECKING:
    from ringfence.probe.record import ProbeReport

WIDTH = 160


class WithCommand(click.Command):
    """A command whose words after `--` are another command's, and kept apart."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Cut at the first `--`."""
        place = args.index("--") if "--" in args else len(args)
        ctx.obj = tuple(args[place + 1 :])
        return super().parse_args(ctx, args[:place])


@click.command("probe", cls=WithCommand)
@click.argument("target", required=False)
@click.option(
    "--inject", is_flag=True,
    help="Stand inside a clone of the live process itself, which stops for milliseconds.",
)  # fmt: skip
@click.option(
    "--baseline", type=click.Path(path_type=Path), metavar="FILE",
    help="A saved JSON result: exit 1 when something is open that it does not have open.",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(["terminal", "json", "markdown"]), default="terminal",
    show_default=True,
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), callback=writable,
    help="Write to a file instead.",
)  # fmt: skip
@ledgered
@click.pass_context
def command(
    ctx: click.Context,
    target: str | None,
    inject: bool,
    baseline: Path | None,
    form: str,
    output: Path | None,
    ledger: Path | None,
    key: Path | None,
    sinks: tuple[str, ...],
) -> None:
    """Assume breach: what code of an attacker's could do next in a live workload.

    TARGET is a PID, a running container, a result of `ringfence harden` or an image archive (both
    started for the purpose); or a command after --. Everything is tried, and nothing is done: each
    attempt stops before its effect or undoes it at once.
    """
    from ringfence.cli.progress import progress
    from ringfence.knowledge.loader import load
    from ringfence.probe.baseline import check_stance, compared, read_report
    from ringfence.probe.probing import INJECT, JOIN, probe_process
    from ringfence.probe.targets import live
    from ringfence.untrusted import check_path

    # A plain end would leave behind what was started, and the workload half-way.
    unwind_on(signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)
    if not target and not ctx.obj:
        raise UsageError("nothing to probe", remedy="give a target, or a command after --")
    check_path(target or "")
    stance = INJECT if inject else JOIN
    before = None
    if baseline is not None:
        before = read_report(baseline)
        check_stance(before, baseline, stance)
    knowledge = load()
    with recording(ledger, key, sinks) as record:
        with progress("probing"), live(target or "", ctx.obj, knowledge) as found:
            probed = probe_process(
                found.pid, knowledge, stance=stance, kind=found.kind, name=found.name,
                facts=found.facts,
            )  # fmt: skip
        record("probe", found.name, _summary(probed.report))
    deliver(_written(probed.report, form, output), output)
    if before is None:
        return
    comparison = compared(before, probed.report)
    for line in (*comparison.opened, *comparison.left_out):
        say(line)
    if comparison.opened:
        sys.exit(1)


def _summary(report: ProbeReport) -> dict[str, Any]:
    """What the ledger keeps: counts, and what was open, but for the hundreds of calls."""
    opened = [item.id for item in report.attempts
              if item.seen == "open" and not item.id.startswith("call.")]  # fmt: skip
    return {"pid": report.target.pid, "program": report.target.program,
            "stance": report.target.stance, "counts": report.counts, "open": opened,
            "disagreements": list(report.disagreements)}  # fmt: skip


def _written(report: ProbeReport, form: str, output: Path | None) -> str:

    from ringfence.report import json_format, probe
    from ringfence.report.look import Look

    if form == "json":
        return json_format.text(report)
    if form == "markdown":
        return probe.markdown(report)
    return probe.terminal(report, Look(colour=colour() and output is None, width=width(WIDTH)))
