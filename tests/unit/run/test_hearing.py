"""What the first process of a namespace would hear, set up and its opposite."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ringfence.run.hearing import hears

CASES = {
    "handles": ("signal.signal(signal.SIGTERM, lambda *_: None)", True),
    "waits": ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])", True),
    "another": ("signal.signal(signal.SIGHUP, lambda *_: None)", False),
    "ignores": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", False),
    "nothing": ("pass", False),
}


@pytest.mark.parametrize("name", CASES)
def test_a_signal_is_heard_by_whoever_waits_for_it(name: str) -> None:
    act, heard = CASES[name]
    text = f"import signal, sys; {act}; print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", text]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert hears(process.pid, signal.SIGTERM) == heard


def test_one_that_has_ended_hears_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not hears(process.pid, signal.SIGTERM)
