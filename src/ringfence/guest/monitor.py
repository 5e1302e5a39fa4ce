"""QEMU's monitor over QMP: registers, texts for people, and whether the machine still runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from qemu.qmp import QMPClient, QMPError

from ringfence.errors import InputError
from ringfence.guest.debugger import Debugger
from ringfence.guest.registers import Registers

PATIENCE = 10.0
"""Seconds until an answer of QEMU is given up: it answers in milliseconds."""
# The library tells of every broken connection; that QEMU has ended we report ourselves.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class Ended(Exception):
    """The machine does not run any more; the message says why, for the report."""


Look = Callable[["Monitor"], Awaitable[Registers]]
"""Reads the state of a processor that stands still: Architecture.look."""


class Monitor:
    """A connected monitor. Every method raises Ended when QEMU, or the guest, has ended, and
    InputError when QEMU does not answer.
    `debugger`: QEMU's other interface, for architectures that need it."""

    def __init__(self, client: QMPClient, look: Look, debugger: Debugger | None = None) -> None:
        self._client = client
        self._look = look
        self.debugger = debugger
        self.ending = ""
        """Why the guest stopped by itself, in QEMU's word; empty while it runs."""

    async def ask(self, command: str, **arguments: Any) -> Any:
        """One QMP command and its answer."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._client.execute(command, arguments or None)
        except TimeoutError:
            # Of the guest this says nothing: the host has no time for QEMU, or has stopped it.
            raise InputError(
                f"QEMU did not answer for {PATIENCE:g} s", where="qemu",
                remedy="see whether it was stopped, or this host is busy",
            ) from None  # fmt: skip
        except (QMPError, OSError) as error:
            said = str(error).splitlines() or ["QEMU has ended"]
            raise Ended(self.ending or said[0]) from None

    async def text(self, command: str) -> str:
        """What the monitor for people answers."""
        answer = await self.ask("human-monitor-command", **{"command-line": command})
        return str(answer)

    async def look(self, inspect: Callable[[Registers], None]) -> Registers:
        """The processor's state, consistent because the machine stands still meanwhile.

        `inspect` is called before it goes on: memory belongs to the registers then.
        """
        if self.ending:
            raise Ended(self.ending)
        await self.ask("stop")
        registers = await self.standing()
        inspect(registers)
        await self.ask("cont")
        return registers

    async def standing(self) -> Registers:
        """The processor's state of a machine that stands still, as after a triple fault."""
        return await self._look(self)

    async def watch(self) -> None:
        """Remember why the guest stops by itself. Runs until cancelled."""
        async for event in self._client.events:
            name = event["event"]
            if name == "SHUTDOWN":
                data = event.get("data", {})
                self.ending = str(data.get("reason", "shutdown"))[:64]  # type: ignore[attr-defined]
            elif name == "GUEST_PANICKED":
                self.ending = "guest-panic"


@contextlib.asynccontextmanager
async def monitor(
    connection: socket.socket, look: Look, debugger: Debugger | None = None
) -> AsyncIterator[Monitor]:
    """A monitor on our end of the socket. Raises Ended when QEMU does not greet."""
    client = QMPClient("guest")
    try:
        async with asyncio.timeout(PATIENCE):
            await client.connect(connection)
    except (QMPError, OSError, TimeoutError):
        raise Ended("QEMU did not start") from None
    found = Monitor(client, look, debugger)
    watching = asyncio.create_task(found.watch())
    try:
        yield found
    finally:
        watching.cancel()
        with contextlib.suppress(QMPError, OSError, EOFError, asyncio.CancelledError):
            await client.disconnect()
