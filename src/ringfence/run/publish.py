"""Published ports: connections to this host's loopback, carried into the container's network.

The container has no way out of its own network namespace. A thread of ours that has joined it
connects there for each connection accepted here, and carries the bytes.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import threading

import msgspec

from ringfence.collect.process.inside import CLONE_NEWNET, setns
from ringfence.errors import InputError
from ringfence.run.carry import carry

PIECE = 1 << 16
MOST, RESERVED = 1 << 15, 256
"""Connections at once, and descriptors that are left for all else that this process does."""
PAUSE = 0.1
"""Seconds until the next try where none could be accepted."""


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
        self._carried: set[asyncio.Task[None]] = set()
        for port in ports:
            try:
                family = socket.AF_INET6 if ":" in port.address else socket.AF_INET
                address = (port.address, port.outside)
                listener = socket.create_server(address, family=family, backlog=512)
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
            setns(handle, CLONE_NEWNET)
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        self._room = asyncio.Semaphore(_most_connections())
        self._buffer = memoryview(bytearray(PIECE))
        await asyncio.gather(*(self._accept(listener, port) for listener, port in self._pairs))

    async def _accept(self, listener: socket.socket, port: int) -> None:
        """Whoever comes when there is no room waits in the kernel's queue."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            await self._room.acquire()
            try:
                peer, _ = await loop.sock_accept(listener)
            except OSError:  # gone again, or others in this process took the descriptors
                self._room.release()
                await asyncio.sleep(PAUSE)
                continue
            task = loop.create_task(carry(peer, port, self._buffer))
            self._carried.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._carried.discard(task)
        self._room.release()


def _most_connections() -> int:
    """How many connections this process has descriptors for, once it may use all that it can:
    what it starts from now on are an engine's commands alone."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, min(MOST, (hard - RESERVED) // 2))
