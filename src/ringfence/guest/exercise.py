"""The command that drives the guest while it is looked at, on this host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from ringfence.collect.process import procfs
from ringfence.run.kernel import adopt_orphans

_PATIENCE, _AGAIN = 2.0, 0.001
"""Seconds for what was killed to be gone, and between looks. What is another user's by a
set-user-ID program is not ours to kill without root."""


def environment(serial: Path, ports: Mapping[int, int]) -> dict[str, str]:
    """What the command is told: where the serial line is, and this host's port on loopback for
    each of the guest's."""
    found = {"RINGFENCE_SERIAL": str(serial)}
    for inside, outside in ports.items():
        found.setdefault("RINGFENCE_PORT", str(outside))
        found[f"RINGFENCE_PORT_{inside}"] = str(outside)
    return found


@contextlib.asynccontextmanager
async def running(
    command: str, more: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The shell command in a session of its own; whatever it left is killed at the end, in other
    sessions too. Nothing else may be started meanwhile.

    Its standard output is thrown away, its standard error is ours.
    """
    others = set(procfs.children(os.getpid()))
    # What it leaves becomes our child, however it has parted from its parents and its session.
    adopt_orphans(True)
    try:
        process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "KILL", "--", "/bin/sh", "-c", command,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, **more}, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            await _end(others)
    finally:
        adopt_orphans(False)


async def _end(others: set[int]) -> None:
    """Kill all below us but `others` and theirs, generation by generation, until none is left."""
    until = time.monotonic() + _PATIENCE
    while (ours := set(procfs.children(os.getpid())) - others) and time.monotonic() < until:
        for pid in ours:
            for one in (pid, *procfs.below(pid)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(one, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        await asyncio.sleep(_AGAIN)
