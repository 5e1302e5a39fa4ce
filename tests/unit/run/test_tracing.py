"""strace is let go of however far its start had come when a signal ended us."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ringfence.run import tracing
from ringfence.run.tracing import strace

STATUS = 143


@pytest.fixture(autouse=True)
def stands_for_strace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that takes strace's options and sleeps."""
    words = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(tracing, "WORDS", words)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


def ended(*args: object, **named: object) -> bool:
    """What a signal's handler does (cli/ending.py)."""
    sys.exit(STATUS)


def test_a_signal_before_it_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", ended)
    with pytest.raises(SystemExit) as caught, strace(os.getpid(), tmp_path):
        pass
    assert caught.value.code == STATUS


def test_a_signal_while_it_attaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **named: object) -> None:
            super().__init__(*args, **named)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    monkeypatch.setattr(tracing, "_traced", ended)
    with pytest.raises(SystemExit) as caught, strace(os.getpid(), tmp_path):
        pass
    assert caught.value.code == STATUS
    assert [one.returncode is not None for one in started] == [True]
