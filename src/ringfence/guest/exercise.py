"""The command that drives the guest while it is looked at, on this host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path


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
    """The shell command in a session of its own; whatever it left is killed at the end.

    Its standard output is thrown away, its standard error is ours.
    """
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
