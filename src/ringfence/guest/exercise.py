"""The command that drives the guest while it is looked at, on this host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from ringfence.guest import keeper


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
    """The shell command in a session of its own, once it has started; whatever it left is killed at
    its end, in other sessions too, and so is all of it at ours, however sudden.

    Its standard output is thrown away, its standard error is ours.
    """
    ours, theirs = socket.socketpair()
    with contextlib.closing(ours):
        with contextlib.closing(theirs):
            process = await asyncio.create_subprocess_exec(
                *keeper.words(theirs.fileno(), command),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                env={**os.environ, **more}, pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        try:
            ours.setblocking(False)
            await asyncio.get_running_loop().sock_recv(ours, 1)
            yield process
        finally:
            ours.close()
            await process.wait()
