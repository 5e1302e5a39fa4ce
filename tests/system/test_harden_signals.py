"""A hardening that is ended half-way leaves nothing on this host."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import program
from tests.system.hardening import RINGFENCE, static_server
from tests.system.test_harden_small import SERVER

pytestmark = pytest.mark.system


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder that a namespace's root can pass through, as TMPDIR."""
    folder = Path(tempfile.mkdtemp(prefix="h-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def running(word: str) -> list[int]:
    """Processes whose command has this word."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_all_that_was_started(
    number: signal.Signals, tmp_path: Path, room: Path
) -> None:
    program("runc")
    server, seconds = f"/bin/server-{os.urandom(4).hex()}", f"60.{int.from_bytes(os.urandom(3))}"
    tree = static_server(tmp_path / "tree", SERVER)
    (tree / "bin/server").rename(tree / server.strip("/"))
    process = subprocess.Popen(
        [str(RINGFENCE), "harden", str(tree), "-o", str(tmp_path / "result"), "--port", "8080",
         "--exercise", f"sleep {seconds}; true", "--", server],
        env={**os.environ, "TMPDIR": str(room)}, stderr=subprocess.PIPE,
    )  # fmt: skip
    limit = time.monotonic() + 30
    while not running(seconds) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    assert running(seconds) and running(server) and any(room.iterdir())
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert (running(seconds), running(server)) == ([], [])
    assert not any(room.iterdir())
    assert not any(Path("/run/runc").glob(f"ringfence-{process.pid}-*"))
    assert not (tmp_path / "result").exists()
