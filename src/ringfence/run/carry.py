"""One connection, carried from the socket that accepted it to a port of this thread's network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import cast

HOST = "127.0.0.1"
LINGER = 300.0
"""Seconds that a client has for the rest once the service has ended its side: who stays longer
takes a place for nothing."""


async def carry(peer: socket.socket, port: int, buffer: memoryview) -> None:
    """Until both ends are closed. `peer` is closed at once where nobody listens on `port`.

    `buffer` may be that of all connections of a loop.
    """
    loop = asyncio.get_running_loop()
    outer, inner = _End(buffer), _End(buffer)
    outer.other, inner.other = inner, outer
    try:
        transport, _ = await loop.create_connection(lambda: inner, HOST, port)
    except OSError:
        peer.close()
        return
    await loop.connect_accepted_socket(lambda: outer, peer)
    transport.resume_reading()
    await inner.ended.wait()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(outer.closed.wait(), LINGER)
    outer.abort()
    await outer.closed.wait()
    await inner.closed.wait()


class _End(asyncio.BufferedProtocol):
    """One end of a carried connection: what arrives here is sent by the other end.

    The buffer is that of all ends, so what was read into it is copied: a transport keeps what it
    was given until it is sent (from Python 3.12 on).
    """

    other: _End
    transport: asyncio.Transport | None = None

    def __init__(self, buffer: memoryview) -> None:
        self.ended, self.closed = asyncio.Event(), asyncio.Event()
        self._buffer = buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.other.transport is None:
            self.transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        self._peer().write(bytes(self._buffer[:count]))

    def eof_received(self) -> bool:
        """The other direction goes on until it has ended, too."""
        self.ended.set()
        if self.other.ended.is_set():
            return False
        with contextlib.suppress(OSError):  # it was reset, and will be told so
            self._peer().write_eof()
        return True

    def pause_writing(self) -> None:
        self._peer().pause_reading()

    def resume_writing(self) -> None:
        self._peer().resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """What is still to be sent by the other end is, unless this one was reset."""
        self.ended.set()
        self.closed.set()
        if error is None:
            self._peer().close()
        else:
            self._peer().abort()

    def abort(self) -> None:
        """Close it at once, if it is not closed."""
        if self.transport is not None:
            self.transport.abort()

    def _peer(self) -> asyncio.Transport:
        """The other end's transport: nothing is read, and so nothing happens, before there is
        one."""
        assert self.other.transport is not None  # noqa: S101
        return self.other.transport
