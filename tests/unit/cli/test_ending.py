"""A signal's exit status, whatever becomes of the exit on its way out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

CODE = """
import os, signal, sys
import click
from ringfence.cli import main
from ringfence.cli.ending import unwind_on

@click.command("odd")
@click.argument("number", type=int)
def odd(number):
    unwind_on(signal.SIGTERM, signal.SIGHUP)
    try:
        if number:
            os.kill(os.getpid(), number)
        raise ValueError("of its own")
    except SystemExit:
        raise ImportError("initialization failed")

main.ringfence.add_command(odd)
main.COMMANDS["odd"] = ""
main.ringfence.get_command = lambda context, name: odd
sys.argv = ["ringfence", "odd", sys.argv[1]]
main.main()
"""


def ended(number: int) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", CODE, str(number)], capture_output=True,
                          text=True, check=False, env=os.environ)  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_exit_that_a_module_in_c_makes_an_error_of(number: signal.Signals) -> None:
    """What importing highspy does when the signal comes meanwhile."""
    assert ended(number) == (128 + number, "")


def test_an_error_without_a_signal_stays_one() -> None:
    code, said = ended(0)
    assert code == 1 and "ValueError: of its own" in said
