"""What cleans up when we are killed: a process that waits for the end of a pipe that we hold.

Nobody can catch SIGKILL. The kernel closes the pipe for us, and the watchdog, a shell of this host
in a session of its own, has the engine remove the container.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ringfence.run.engine import Container

# A word on the pipe says that all has been removed already.
_SCRIPT = 'read -r word || { folder="$1"; shift; "$@"; rm -rf -- "$folder"; }'


def guarded(container: Container, folder: Path) -> contextlib.AbstractContextManager[None]:
    """While this lasts, our sudden end is the end of the container and of `folder`."""
    return removed_with_us(folder, *container.removal())


@contextlib.contextmanager
def removed_with_us(folder: Path, *command: str) -> Iterator[None]:
    """While this lasts, our sudden end runs `command`, if there is one, and removes `folder`."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as waiting:
        watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "ringfence", str(folder), *command],
            stdin=waiting, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            os.write(write, b"removed\n")
        os.close(write)
        watchdog.wait()
