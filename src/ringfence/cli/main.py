"""The `ringfence` command: its subcommands are imported only when they are called."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from ringfence import __version__
from ringfence.cli.delivery import encode_output, put, reader_left, say
from ringfence.cli.ending import ended_by
from ringfence.cli.lazy import LazyGroup
from ringfence.errors import RingfenceError

COMMANDS = {
    "measure": "The attack surface now, with the evidence of every number.",
    "compare": "The same service in other deployments, side by side.",
    "harden": "The smallest unprivileged container that does the job, with policies.",
    "guest": "Boot a virtual machine or unikernel image and examine its rings and memory.",
    "run": "Run what harden made, inside its fence.",
    "probe": "Assume breach: what an attacker inside could really do.",
    "watch": "Baselines of files, and what has changed since.",
    "explain": "What an id means, why it weighs what it weighs, how to close it.",
    "schema": "The JSON Schema of a result.",
}


class Commands(LazyGroup):
    """Each command in a module of its own."""

    table = COMMANDS
    prefix = "ringfence.cli."

    def make_context(self, *words: Any, **extra: Any) -> click.Context:
        """The context; --help and --version print and end here."""
        with _printing():
            return super().make_context(*words, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command; its --help prints here."""
        with _printing():
            return super().invoke(ctx)


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    """Pages of help that click prints itself: what goes wrong there is told as `put` tells it.
    click would end with 1 where a reader has gone."""
    try:
        yield
    except BrokenPipeError:
        if reader_left():
            raise
        raise click.exceptions.Exit(0) from None
    except OSError:
        # Standard output's, if what is left in its buffer fails once more.
        put("")
        raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ringfence")
def ringfence() -> None:
    """Measure and shrink the attack surface of an application as it is really deployed.

    Exit codes: 0 fine; 1 a --fail-on limit was passed, probe --baseline found more open, watch
    check a change, or watch log --verify that a ledger is not whole; 2 wrong usage or unreadable
    input; 3 a needed privilege or program is missing; 4 watch run failed; 130 interrupted. run ends
    with the service's.
    A reader of standard output that goes away changes none of them.
    """


def program() -> NoReturn:
    """`main`, and the end of the process: the interpreter's own, which takes every object apart,
    lasts longer than a small command. What was printed is out by then, or said not to be."""
    _stand_in()
    encode_output()
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _stand_in() -> None:
    """Something for standard streams that are closed: a file that is opened would be written to in
    their place. To standard output nothing can be written even so: a result would be lost."""
    for number, access in enumerate((os.O_RDWR, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, access)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def main() -> None:
    """Run the command line; every expected failure is one line on standard error."""
    try:
        code = _called()
    except RingfenceError as error:
        _end(error.line(), error.exit_code)
    except click.exceptions.Abort:
        _end("interrupted", 130)
    except click.ClickException as error:
        _end(error.format_message(), 2)
    sys.exit(code if isinstance(code, int) else 0)


def _called() -> object:
    try:
        return ringfence.main(prog_name="ringfence", standalone_mode=False)
    except Exception:
        if number := ended_by():
            sys.exit(128 + number)
        raise


def _end(line: str, code: int) -> None:
    say(line)
    sys.exit(code)
