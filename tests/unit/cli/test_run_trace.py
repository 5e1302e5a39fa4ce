"""`ringfence run --trace` ended by a signal before its workload is there to be given it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

STARTING = """
import os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace

from ringfence.cli import run
from ringfence.harden import lacks
from ringfence.run import workload

number = int(sys.argv[1])
if sys.argv[2] == "ignored":
    signal.signal(number, signal.SIG_IGN)

def starting(*args, trace, **named):
    assert trace.is_dir()
    os.kill(os.getpid(), number)
    time.sleep(0.1)
    return 7

workload.run_workload = starting
lacks.lacks = lambda *args: ()
fence = SimpleNamespace(root=Path("/"), folder="/")
sys.exit(run._traced(Path("x"), SimpleNamespace(fence=fence), (), (), None))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("handled", ["ignored", "default"])
def test_its_folder_is_removed(number: signal.Signals, handled: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTING, str(int(number)), handled],
        env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=60, check=False,
    )  # fmt: skip
    # One that was ignored (nohup) ends nothing.
    assert done.returncode == (7 if handled == "ignored" else 128 + number)
    assert not list(tmp_path.iterdir())
