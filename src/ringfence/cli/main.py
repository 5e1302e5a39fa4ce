"""The `ringfence` command: its subcommands are imported only when they are called."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import NoReturn

import click

from ringfence import __version__
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


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ringfence")
def ringfence() -> None:
    """Measure and shrink the attack surface of an application as it is really deployed.

    Exit codes: 0 fine; 1 a --fail-on limit was passed, probe --baseline found more open, watch
    check a change, or watch log --verify that a ledger is not whole; 2 wrong usage or unreadable
    input; 3 a needed privilege or program is missing; 130 interrupted. run ends with the service's.
    """


def program() -> NoReturn:
    """`main`, and the end of the process: the interpreter's own, which takes every object apart,
    lasts longer than a small command. What was printed is out by then, or said not to be."""
    _stand_in()
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
    their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def main() -> None:
    """Run the command line; every expected failure is one line on standard error."""
    try:
        code = _called()
    except RingfenceError as error:
        _end(f"ringfence: {error.line()}", error.exit_code)
    except click.exceptions.Abort:
        _end("ringfence: interrupted", 130)
    except click.ClickException as error:
        _end(f"ringfence: {error.format_message()}", 2)
    except BrokenPipeError:
        # Whoever read our output has gone: not an error of ours, and nothing more to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        # --help, which click prints: whatever else is written says where that went wrong.
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _end("ringfence: standard output: cannot be written: no space left on device", 2)
    sys.exit(code if isinstance(code, int) else 0)


def _called() -> object:
    try:
        return ringfence.main(prog_name="ringfence", standalone_mode=False)
    except Exception:
        if number := ended_by():
            sys.exit(128 + number)
        raise


def _end(line: str, code: int) -> None:
    click.echo(line, err=True)
    sys.exit(code)
