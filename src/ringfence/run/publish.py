"""Published ports: connections to this host's loopback, carried into the container's network.

The container has no way out of its own network namespace. A thread of ours that has joined it
connects there for each connection accepted here, and carries the bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Awaitable, Callable

import msgspec

from ringfence.errors import InputError
from ringfence.run import kernel

PIECE = 1 << 16
Carry = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Published(msgspec.Struct, frozen=True):
    """One port: `address` and `outside` on this host, `inside` in the container."""

    address: str
    outside: int
    inside: int


class Publisher:
    """Listens at once; carries once `serve` has been called."""

    def __init__(self, ports: tuple[Published, ...]) -> None:
        """Raises InputError for a port that is taken."""
        self._pairs: list[tuple[socket.socket, int]] = []
        for port in ports:
            try:
                listener = socket.create_server((port.address, port.outside), backlog=512)
            except OSError as error:
                self.close()
                raise InputError(
                    f"port {port.outside} cannot be published: {error.strerror}",
                    remedy=f"choose another: -p PORT:{port.inside}",
                ) from None
            self._pairs.append((listener, port.inside))

    def serve(self, pid: int) -> None:
        """Carry connections to the network of process `pid`, until this process ends."""
        if self._pairs:
            threading.Thread(target=self._run, args=(pid,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        for listener, _ in self._pairs:
            listener.close()

    def _run(self, pid: int) -> None:
        try:
            handle = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # it has ended already
        with os.fdopen(handle, "rb", 0):
            kernel.setns(handle, kernel.CLONE_NEWNET)
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        servers = [
            await asyncio.start_server(_carrier(inside), sock=listener)
            for listener, inside in self._pairs
        ]
        await asyncio.gather(*(server.serve_forever() for server in servers))


def _carrier(port: int) -> Carry:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        for end in (inner_writer, writer):
            end.close()

    return carry


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(PIECE):
            writer.write(part)
            await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
