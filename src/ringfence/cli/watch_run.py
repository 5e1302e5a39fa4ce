"""`ringfence watch run TARGET... --baseline BASELINE --public-key FILE`"""

from __future__ import annotations

from pathlib import Path

import click

from ringfence.cli.delivery import put
from ringfence.cli.options import finite
from ringfence.cli.watch_init import KINDS
from ringfence.errors import UsageError

FILE = click.Path(path_type=Path)


@click.command("run")
@click.argument("target", nargs=-1, required=True)
@click.option("--baseline", type=FILE, required=True, help="What `watch init` made.")
@click.option("--public-key", type=FILE, required=True, help="The key that it must be sealed by.")
@click.option("--ledger", type=FILE, help="Keep all that is told in this ledger, too.")
@click.option("--key", type=FILE, help="The ledger's private key, in PEM.")
@click.option("--sink", "sinks", multiple=True, metavar="SINK",
              help="journald, syslog... get the ledger's records. Repeatable.")  # fmt: skip
@click.option("--full-every", type=click.FloatRange(min=1), metavar="SECONDS", callback=finite,
              help="A full check again and again, against what events can miss.")  # fmt: skip
@click.option("--no-first-check", is_flag=True, help="No full check at the start.")
@click.option("--enforce", type=click.Choice(["exec"]),
              help="Only files of the baseline, with its content, may run.")  # fmt: skip
@click.option("--learn", type=FILE, metavar="FILE",
              help="Deny nothing; write what ran, and what would be denied.")  # fmt: skip
@click.option("--learned", type=FILE, metavar="FILE",
              help="With --enforce: of the baseline only what ran while learning.")  # fmt: skip
@click.option("--when-gone", type=click.Choice(["deny", "allow"]), default=None,
              help="With --enforce: what happens to code while nobody decides. Default deny.",
)  # fmt: skip
@click.option("--patience", type=click.FloatRange(min=0.2, max=60), default=None, callback=finite,
              help="Seconds for a decision, and for the decider's signs of life. Default 2.",
)  # fmt: skip
@click.option("--print-unit", is_flag=True, help="Print a systemd unit for this, and end.")
@click.option("--kind", type=click.Choice(KINDS), default=None, help="What the target is.")
def command(
    target: tuple[str, ...],
    baseline: Path,
    public_key: Path,
    ledger: Path | None,
    key: Path | None,
    sinks: tuple[str, ...],
    full_every: float | None,
    no_first_check: bool,
    enforce: str | None,
    learn: Path | None,
    learned: Path | None,
    when_gone: str | None,
    patience: float | None,
    print_unit: bool,
    kind: str | None,
) -> None:
    """Tell of every change in TARGET as it happens, with who did it, until SIGTERM or Ctrl-C.

    With --enforce exec, code that is not in the baseline does not run. Exit codes: 0 it was
    stopped; 2 the baseline is not to be trusted, something cannot be read, the target's root is not
    at its path any more, or standard output fails without --ledger; 3 root is missing; 4 an error
    that nobody foresaw.
    """
    from ringfence.watch.live.running import PATIENCE, Wishes, run

    if (ledger is None) != (key is None):
        raise UsageError("--ledger and --key belong together")
    if sinks and ledger is None:
        raise UsageError("--sink takes a ledger", remedy="add --ledger DIR --key FILE")
    if enforce and learn:
        raise UsageError("--learn denies nothing", remedy="leave out --enforce until it has ended")
    if learned and not enforce:
        raise UsageError("--learned is for --enforce exec")
    if when_gone and not enforce:
        raise UsageError("--when-gone is for --enforce exec")
    if patience and not (enforce or learn):
        raise UsageError("--patience is for --enforce exec and --learn")
    wishes = Wishes(
        target, kind or "", baseline, public_key, ledger, key, sinks, full_every or 0.0,
        not no_first_check, enforce is not None, learn, learned, when_gone != "allow",
        patience or PATIENCE,
    )  # fmt: skip
    if print_unit:
        from ringfence.watch.live.unit import unit

        put(unit(wishes))
        return
    from ringfence.report.watch_live import line

    run(wishes, line)
