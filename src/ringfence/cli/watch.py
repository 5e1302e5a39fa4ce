"""`ringfence watch init|check|run|log`"""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "init": "A sealed baseline of what every file is.",
    "check": "What has changed since.",
    "run": "Changes as they happen, with who did it; only known code runs.",
    "log": "The ledger: its records, whether it is whole, proofs.",
}


class LazyGroup(click.Group):
    """A group whose commands live in `ringfence.cli.watch_NAME`, so that --help imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ringfence.cli.watch_{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group("watch", cls=LazyGroup)
def command() -> None:
    """See and stop unauthorized change, and keep a record that cannot be quietly altered."""
