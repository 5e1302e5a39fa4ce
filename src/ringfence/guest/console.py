"""The guest's serial line: always read, so that it never stands still, and handed to one client.

What the guest said while nobody was connected is kept, its last PENDING bytes, and given to the
next client: an exercise can wait for the guest's own "ready".
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator
from pathlib import Path

PENDING = 64 << 10
"""Bytes kept for the next client, and most that may wait for a slow one."""
_CHUNK = 16 << 10
_POLL = 0.05


class Console:
    """Our end of the serial line. `said` counts the bytes that the guest has sent."""

    def __init__(self, line: socket.socket) -> None:
        line.setblocking(False)
        self._line = line
        self._pending = bytearray()
        self._client: asyncio.StreamWriter | None = None
        self.said = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def pump(self) -> None:
        """Read what the guest says, until QEMU closes the line or this is cancelled."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(self._line, _CHUNK):
                self.said += len(data)
                self._deliver(data)
                # A guest that floods the line must not starve everything else.
                await asyncio.sleep(0)

    def _deliver(self, data: bytes) -> None:
        client = self._client
        if client is None:
            self._pending += data
            del self._pending[:-PENDING]
        elif client.transport.get_write_buffer_size() < PENDING:
            client.write(data)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client has connected: serve it in a task that ends with the console."""
        task = asyncio.create_task(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client: what was said before, then both ways. A second one at once is sent away."""
        try:
            if self._client is None:
                await self._both_ways(reader, writer)
        finally:
            writer.close()

    async def _both_ways(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(self._pending))
        self._pending.clear()
        self._client = writer
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(_CHUNK):
                await loop.sock_sendall(self._line, data)
            # A client that has said all it wants may still listen.
            while not writer.transport.is_closing() and not _gone(writer):
                await asyncio.sleep(_POLL)
        except OSError:
            pass
        finally:
            self._client = None


def _gone(writer: asyncio.StreamWriter) -> bool:
    """Whether the client has closed both directions: only poll(2) tells that from half of it."""
    waiting = select.poll()
    waiting.register(writer.get_extra_info("socket").fileno(), 0)
    return any(state & (select.POLLHUP | select.POLLERR) for _, state in waiting.poll(0))


@contextlib.asynccontextmanager
async def console(line: socket.socket, path: Path) -> AsyncIterator[Console]:
    """The serial line, served on the Unix socket `path` while this lasts."""
    found = Console(line)
    found.tasks.add(asyncio.create_task(found.pump()))
    server = await asyncio.start_unix_server(found.accept, path)
    path.chmod(0o600)
    try:
        yield found
    finally:
        server.close()
        ending = list(found.tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
