"""A process of its own that starts the exercise, and ends all that it left when we end.

Nobody can catch SIGKILL, and a death signal reaches the shell alone, not what it has started. So
the exercise runs below a keeper that adopts whatever parts from its parents, and that waits at one
end of a socket whose other end is ours: the kernel closes it for us.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time

from ringfence.collect.process import procfs
from ringfence.run.kernel import adopt_orphans

MODULE = "ringfence.guest.keeper"
_PATIENCE, _AGAIN = 2.0, 0.001
"""Seconds for what was killed to be gone, and between looks. What is another user's by a
set-user-ID program is not ours to kill without root."""


def words(line: int, command: str) -> list[str]:
    """The keeper's command line. `line`: the descriptor of its end of the socket."""
    return [sys.executable, "-P", "-m", MODULE, str(line), command]


def keep(line: socket.socket, command: str) -> int:
    """Run the shell command in a session of its own until it ends or the socket's other end is
    closed, and kill whatever is left of it. A byte says that it has started. Returns its status,
    as a shell gives it: 128 and the signal's number where one ended it."""
    adopt_orphans(True)
    shell = subprocess.Popen(["/bin/sh", "-c", command], start_new_session=True)
    ended = os.pidfd_open(shell.pid)
    with contextlib.suppress(OSError):  # nobody is left to hear it: the wait ends at once
        line.send(b"s")
    select.select([ended, line.fileno()], [], [])
    _end(shell)
    status = shell.wait()
    return status if status >= 0 else 128 - status


def _end(shell: subprocess.Popen[bytes]) -> None:
    """Kill all below us, generation by generation, until none is left."""
    until = time.monotonic() + _PATIENCE
    while (ours := procfs.children(os.getpid())) and time.monotonic() < until:
        for pid in ours:
            for one in (pid, *procfs.below(pid)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(one, signal.SIGKILL)
            if pid == shell.pid:
                shell.poll()
                continue
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(_AGAIN)


def main() -> None:
    """Ends with the command's status."""
    with socket.socket(fileno=int(sys.argv[1])) as line:
        sys.exit(keep(line, sys.argv[2]))


if __name__ == "__main__":
    main()
