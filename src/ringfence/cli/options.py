"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ringfence.cli.delivery import writable

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = {"terminal": "terminal", "json": "json_format", "markdown": "markdown"}
"""Format -> the module of ringfence.report that writes it."""
KINDS = (
    "process", "host", "declared", "bundle", "examined", "guest", "image", "rootfs", "container",
)  # fmt: skip


def measuring(function: F) -> F:
    """The options of every command that measures."""
    for option in reversed(
        (
            click.option(
                "--format",
                "form",
                type=click.Choice(list(FORMATS)),
                default="terminal",
                show_default=True,
            ),
            click.option(
                "-o",
                "--output",
                type=click.Path(path_type=Path),
                callback=writable,
                help="Write to a file instead.",
            ),
            click.option("--kind", type=click.Choice(KINDS), help="What the target is."),
            click.option(
                "--from",
                "start",
                metavar="START",
                help="Where the attacker starts: internet, adjacent, neighbour, local or "
                "supply-chain. Default: the farthest from which something can be reached.",
            ),
            click.option(
                "--scale",
                default="classic",
                show_default=True,
                help="classic, assets, or a TOML file with your own.",
            ),
            click.option(
                "--known",
                multiple=True,
                metavar="VECTOR=CVE",
                help="A published vulnerability that you know of: its vector takes no zero-day. "
                "Repeatable.",
            ),
            click.option("--no-plan", is_flag=True, help="Leave out the plan."),
        )
    ):
        function = option(function)
    return function


def finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A callback for options of seconds: nan is in every range of click's, inf in open ones."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a number of seconds.")
    return value
