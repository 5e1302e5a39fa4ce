"""`ringfence watch init|check|run|log`"""

from __future__ import annotations

import click

from ringfence.cli.lazy import LazyGroup

COMMANDS = {
    "init": "A sealed baseline of what every file is.",
    "check": "What has changed since.",
    "run": "Changes as they happen, with who did it; only known code runs.",
    "log": "The ledger: its records, whether it is whole, proofs.",
}


class WatchCommands(LazyGroup):
    """Each command in a module of its own."""

    table = COMMANDS
    prefix = "ringfence.cli.watch_"


@click.group("watch", cls=WatchCommands)
def command() -> None:
    """See and stop unauthorized change, and keep a record that cannot be quietly altered."""
