"""`ringfence watch check TARGET... --baseline BASELINE --public-key FILE`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ringfence.cli.delivery import colour, deliver, width, writable
from ringfence.cli.ledgered import OWN_KEY, ledgered_beside_a_seal, opened
from ringfence.cli.progress import progress
from ringfence.cli.watch_init import KINDS
from ringfence.errors import UsageError

if TYPE_CHECKING:
    from ringfence.watch.baseline.result import Report
    from ringfence.watch.baseline.seal import Signer
    from ringfence.watch.baseline.targets import Target
    from ringfence.watch.ledger.writer import Ledger

FORMATS = ("terminal", "json", "sarif")
WIDTH = 120
FILE = click.Path(path_type=Path)


@click.command("check")
@click.argument("target", nargs=-1, required=True)
@click.option("--baseline", type=FILE, required=True, help="What `watch init` made.")
@click.option("--public-key", type=FILE, required=True, help="The key that it must be sealed by.")
@click.option(
    "--quick",
    is_flag=True,
    help="Read only files whose status (ctime ...) changed: misses some writes.",
)
@click.option("--update", is_flag=True, help="Seal what this check sees as the new baseline.")
@click.option("--key", default="", metavar="FILE|command:CMD", help="The key for --update.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="terminal", show_default=True)
@click.option("-o", "--output", type=FILE, callback=writable, help="Write to a file instead.")
@click.option("--kind", type=click.Choice(KINDS), default=None, help="What the target is.")
@ledgered_beside_a_seal
def command(
    target: tuple[str, ...],
    baseline: Path,
    public_key: Path,
    quick: bool,
    update: bool,
    key: str,
    form: str,
    output: Path | None,
    kind: str | None,
    ledger: Path | None,
    ledger_key: Path | None,
    sinks: tuple[str, ...],
) -> None:
    """What was added, removed or changed in TARGET since its baseline was sealed.

    Exit codes: 0 unchanged; 1 changed; 2 the baseline is not to be trusted, or something cannot
    be read.
    """
    from ringfence.watch.baseline import seal
    from ringfence.watch.baseline.targets import find_target

    if update and quick:
        raise UsageError("--update takes a full check", remedy="leave out --quick")
    if update != bool(key):
        raise UsageError("--update and --key belong together")
    public = seal.read_public(public_key)
    signer = seal.signer(key, public_key) if update else None
    found = find_target(target, kind or "")
    with opened(ledger, ledger_key, sinks, OWN_KEY) as kept, progress("looking at every file"):
        report = _checked(kept, found, baseline, public, quick=quick, signer=signer)
    deliver(_text(report, form, output), output)
    sys.exit(0 if report.same else 1)


def _checked(
    ledger: Ledger | None, target: Target, baseline: Path, public: bytes, *,
    quick: bool, signer: Signer | None,
) -> Report:  # fmt: skip
    from ringfence.watch.baseline.checking import check

    if ledger is None:
        return check(target, baseline, public, quick=quick, update=signer)
    from ringfence.watch.baseline.kept import keep_check, keeping_failure

    with keeping_failure(ledger, target, baseline):
        report = check(target, baseline, public, quick=quick, update=signer)
    keep_check(ledger, report, baseline, signer)
    return report


def _text(report: Report, form: str, output: Path | None) -> str:
    if form == "json":
        from ringfence.report.json_format import text

        return text(report)
    if form == "sarif":
        from ringfence.report.watch_sarif import sarif

        return sarif(report)
    from ringfence.report.look import Look
    from ringfence.report.watch_terminal import terminal

    return terminal(report, Look(colour=colour() and output is None, width=width(WIDTH)))
