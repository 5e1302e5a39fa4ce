"""A command that is started to be probed, and ends with all that it has started.

Between it and us stands a keeper. What the command leaves behind becomes the keeper's child, in
whatever session it is (PR_SET_CHILD_SUBREAPER(2const)), and the keeper outlives us, should we be
killed, until it has ended them all.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator

from ringfence.collect.process import procfs
from ringfence.errors import InputError
from ringfence.probe.holding import hold_only
from ringfence.run import kernel

SETTLED = 0.3
"""Seconds after which something that still runs counts as started."""
PATIENCE = 10.0
"""Seconds for the command to end by itself, and then for what is killed to have ended."""
LOOK = 0.01


@contextlib.contextmanager
def started(command: tuple[str, ...]) -> Iterator[int]:
    """Its process, once that has settled; ended afterwards. Raises InputError."""
    said, say = os.pipe()
    held, hold = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(hold)
        _keep(command, say, held)
    os.close(say)
    os.close(held)
    try:
        yield _settled(said, command[0])
    finally:
        os.close(hold)
        os.close(said)
        os.waitpid(keeper, 0)


def _settled(said: int, name: str) -> int:
    """The number that the keeper tells, if it tells of no end in time."""
    text = _line(said)
    if text.startswith("!"):
        raise InputError(f"cannot be started: {text[1:]}", where=name)
    if select.select([said], [], [], SETTLED)[0]:
        raise InputError(f"ended by itself with status {_line(said) or 'unknown'}", where=name,
                         remedy="it must stay in the foreground")  # fmt: skip
    return int(text)


def _line(said: int) -> str:
    text = b""
    while part := os.read(said, 1).rstrip(b"\n"):
        text += part
    return text.decode()


def _keep(command: tuple[str, ...], say: int, held: int) -> None:
    """Starts it, tells its number and then its status, and ends everything at the end of `held`.
    Never returns."""
    try:
        os.setsid()
        kernel.adopt_orphans(True)
        process = _launched(command, say)
        if process is not None:
            try:
                _wait(process, say, held)
            finally:
                _end(process)
    finally:
        os._exit(0)


def _wait(process: subprocess.Popen[bytes], say: int, held: int) -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    hold_only(say, held)
    told = False
    while not select.select([held], [], [], LOOK)[0]:
        if not told and process.poll() is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(say, f"{process.returncode}\n".encode())
            told = True


def _launched(command: tuple[str, ...], say: int) -> subprocess.Popen[bytes] | None:
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        os.write(say, f"!{error.strerror}\n".encode())
        return None
    os.write(say, f"{process.pid}\n".encode())
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """A request to all; once the command itself has ended, or will not, what remains is killed."""
    _signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    limit = time.monotonic() + PATIENCE
    # Again and again: what is killed may just have started another one.
    while procfs.children(os.getpid()) and time.monotonic() < limit:
        _signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(LOOK)


def _signal(number: int) -> None:
    """To all that stems from us."""
    for pid in procfs.below(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
