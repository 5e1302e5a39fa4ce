"""A real nginx on loopback, started and stopped by a benchmark."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.demo import web_server


@contextlib.contextmanager
def nginx() -> Iterator[int]:
    """The PID of the master; gone, with its files, afterwards."""
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as folder:
        Path(folder).chmod(0o755)
        with web_server(Path(folder) / "nginx") as pid:
            yield pid
