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
from functools import partial
from typing import cast

import msgspec

from ringfence.errors import InputError
from ringfence.run import kernel

PIECE = 1 << 16


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
        loop = asyncio.get_running_loop()
        buffer = memoryview(bytearray(PIECE))
        for listener, inside in self._pairs:
            await loop.create_server(partial(_Front, buffer, inside), sock=listener)
        await loop.create_future()


class _End(asyncio.BufferedProtocol):
    """One end of a carried connection: what arrives here is sent by the other end.

    `buffer` is that of all ends, so what was read into it is copied: a transport keeps what it
    was given until it is sent (from Python 3.12 on).
    """

    other: _End
    transport: asyncio.Transport | None = None

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        if self.other.transport is not None:
            self.other.transport.write(bytes(self._buffer[:count]))

    def eof_received(self) -> bool:
        """The other direction goes on until it has ended, too."""
        self._ended = True
        if self.other.transport is None or self.other._ended:
            return False
        with contextlib.suppress(OSError):  # it was reset, and will be told so
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """What is still to be sent by the other end is, unless this one was reset."""
        if self.other.transport is None:
            return
        if error is None:
            self.other.transport.close()
        else:
            self.other.transport.abort()


class _Front(_End):
    """The end that a client connected to. It makes the other one, inside."""

    def __init__(self, buffer: memoryview, port: int) -> None:
        super().__init__(buffer)
        self.other = _End(buffer)
        self.other.other = self
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect(self.transport))

    async def _connect(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        try:
            inner, _ = await loop.create_connection(lambda: self.other, "127.0.0.1", self._port)
        except OSError:
            transport.abort()
            return
        if transport.is_closing():
            inner.close()
        transport.resume_reading()
