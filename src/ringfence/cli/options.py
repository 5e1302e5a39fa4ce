"""Options that several commands share, and how results leave: to a file or standard output."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ringfence.errors import InputError

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
                "-o", "--output", type=click.Path(path_type=Path), help="Write to a file instead."
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


def deliver(text: str, output: Path | None) -> None:
    """Print `text`, or write it to `output` whole or not at all. Raises InputError on failure."""
    if output is None:
        put(text)
        return
    try:
        handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    except OSError as error:
        raise InputError(
            f"cannot be written: {os.strerror(error.errno or 0).lower()}", where=str(output)
        ) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(output)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise InputError(
            f"cannot be written: {os.strerror(error.errno or 0).lower()}", where=str(output)
        ) from None


def put(text: str, *, now: bool = True) -> None:
    """Print `text`, `now` or when there is more. Raises InputError when there is no room for it,
    and BrokenPipeError."""
    try:
        sys.stdout.write(text)
        if now:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would be tried again, aloud, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        what = os.strerror(error.errno or 0).lower()
        raise InputError(f"cannot be written: {what}", where="standard output") from None


def colour() -> bool:
    """Whether standard output is a terminal that wants colour (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def width(least: int) -> int:
    """Columns to use: the terminal's, at least `least` where output is not one."""
    import shutil

    return max(shutil.get_terminal_size((least, 24)).columns, least if not colour() else 60)
