"""The command line as a test calls it: in this process, with everything that it printed."""

from __future__ import annotations

import contextlib
import io
import signal
from unittest import mock

import msgspec

from ringfence.cli.main import main

CAUGHT = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""Signals whose handlers a command may set for itself; here the tests' own come back."""


class Outcome(msgspec.Struct, frozen=True):
    """Exit code, standard output and standard error of one command."""

    code: int
    out: str
    err: str


def ringfence(*words: object) -> Outcome:
    """Run `ringfence WORDS`. An exception other than SystemExit is a traceback: it goes on up."""
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    handlers = {number: signal.getsignal(number) for number in CAUGHT}
    with (
        mock.patch("sys.argv", ["ringfence", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Outcome(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())
