"""A container's first process, as seen from here."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from ringfence.run.engine import Container
from ringfence.run.fence import Fence


def test_one_whose_status_another_took_has_been_killed(tmp_path: Path) -> None:
    container = Container(Fence(tmp_path, ("/x",), (), "/", 1000, 1000), tmp_path)
    process = subprocess.Popen(["sleep", "60"])
    container.pid = process.pid
    assert container.poll() is None
    process.kill()
    os.waitpid(process.pid, 0)  # as a thread of ours does that traces it
    assert container.poll() == -signal.SIGKILL
    assert container.wait(5) == -signal.SIGKILL
    container.output.close()
    process.returncode = -signal.SIGKILL
