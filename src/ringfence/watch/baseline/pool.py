"""Worker processes that share one queue, and give their results back in the queue's order.

Whoever is free takes the next unit (a packet on a socket that all share), so the work balances by
itself. A worker may stop in the middle of a unit and hand the rest back. Processes, not threads:
with many small files Python's lock would keep one processor idle.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from ringfence.errors import RingfenceError

MOST_PACKET = 208 << 10
"""Bytes of a unit: what an unprivileged Unix socket takes in one piece (net.core.wmem_max)."""
MOST_AHEAD = 512
"""Units that may be done before the one whose turn it is: bounds what waits in memory."""

Place = tuple[int, int]


class Done(msgspec.Struct, array_like=True, frozen=True):
    """A unit or part of one, done: `result` is the worker's own, `rest` what is left of the unit.

    `error` is set where the worker failed, and ends everything.
    """

    unit: int
    part: int
    result: bytes
    rest: bytes = b""
    error: str = ""


class PoolError(RingfenceError):
    """A worker process failed or was killed."""


Work = Callable[[bytes], tuple[bytes, bytes]]
"""From a unit to a result and the rest that was not done."""


class Pool:
    """`count` processes forked now. `make` is called in each of them and gives what does a unit."""

    def __init__(self, count: int, make: Callable[[], Work]) -> None:
        self._queue, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._queue, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MOST_PACKET)
        self._queue.setblocking(False)
        self._results: dict[int, int] = {}
        for _ in range(count):
            self._start(theirs, make)
        theirs.close()

    def _start(self, theirs: socket.socket, make: Callable[[], Work]) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._queue.close()
            for other in (read, *self._results):
                os.close(other)
            _serve(theirs, write, make)
        os.close(write)
        self._results[read] = pid

    def run(self, units: Iterator[bytes]) -> Iterator[bytes]:
        """The results of all units, in their order. Raises PoolError."""
        sender = _Sender(self._queue, units)
        poll = select.poll()
        for handle in self._results:
            poll.register(handle, select.POLLIN)
        ready: dict[Place, Done] = {}
        turn: Place = (0, 0)
        while True:
            sender.send(turn[0] + MOST_AHEAD)
            if sender.finished and turn[0] == sender.count:
                return
            if sender.blocked:
                poll.register(self._queue, select.POLLOUT)
            events = poll.poll()
            if sender.blocked:
                poll.unregister(self._queue)
            for handle, _ in events:
                if handle in self._results:
                    done = _receive(handle)
                    ready[done.unit, done.part] = done
                    if done.rest:
                        sender.again(done.unit, done.part + 1, done.rest)
            while turn in ready:
                done = ready.pop(turn)
                turn = (turn[0], turn[1] + 1) if done.rest else (turn[0] + 1, 0)
                yield done.result

    def close(self) -> None:
        """End the workers, also in the middle of their work."""
        self._queue.close()
        for handle, pid in self._results.items():
            os.close(handle)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._results.clear()


class _Sender:
    """Puts units on the queue as fast as it takes them."""

    def __init__(self, queue: socket.socket, units: Iterator[bytes]) -> None:
        self.count = 0
        self.finished = False
        self.blocked = False
        self._queue = queue
        self._units = units
        self._waiting: deque[bytes] = deque()

    def again(self, unit: int, part: int, rest: bytes) -> None:
        """The rest of a unit goes before everything else."""
        self._waiting.appendleft(_packet(unit, part, rest))

    def send(self, ahead: int) -> None:
        """Send until the queue is full, nothing is left, or `ahead` units were begun."""
        self.blocked = False
        while self._waiting or self._next(ahead):
            try:
                self._queue.send(self._waiting[0])
            except BlockingIOError:
                self.blocked = True
                return
            except OSError as error:
                raise PoolError(f"the workers have gone: {error.strerror}") from None
            self._waiting.popleft()

    def _next(self, ahead: int) -> bool:
        if self.finished or self.count >= ahead:
            return False
        unit = next(self._units, None)
        if unit is None:
            self.finished = True
            return False
        self._waiting.append(_packet(self.count, 0, unit))
        self.count += 1
        return True


def _packet(unit: int, part: int, body: bytes) -> bytes:
    return unit.to_bytes(8, "little") + part.to_bytes(4, "little") + body


def _receive(handle: int) -> Done:
    head = _exactly(handle, 4)
    done = msgspec.msgpack.decode(_exactly(handle, int.from_bytes(head, "little")), type=Done)
    if done.error:
        raise PoolError(done.error)
    return done


def _exactly(handle: int, size: int) -> bytes:
    parts = []
    while size > 0:
        part = os.read(handle, size)
        if not part:
            raise PoolError(
                "a worker process was killed", remedy="is there memory enough? run it again"
            )
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _serve(queue: socket.socket, write: int, make: Callable[[], Work]) -> None:
    """The life of a worker. Never returns; ends when the queue or the parent does."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
        gc.disable()  # units make no cycles, and the parent's objects stay shared
        work = make()
        buffer = bytearray(MOST_PACKET + 64)
        while size := queue.recv_into(buffer):
            unit, part = (
                int.from_bytes(buffer[:8], "little"),
                int.from_bytes(buffer[8:12], "little"),
            )
            try:
                result, rest = work(bytes(buffer[12:size]))
                done = Done(unit, part, result, rest)
            except RingfenceError as error:
                done = Done(unit, part, b"", error=error.line())
            except Exception as error:
                done = Done(unit, part, b"", error=f"a worker failed: {error!r}")
            body = msgspec.msgpack.encode(done)
            _write_all(write, len(body).to_bytes(4, "little") + body)
        code = 0
    except BrokenPipeError:
        pass
    finally:
        os._exit(code)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
