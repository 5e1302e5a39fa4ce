"""Worker processes that share one queue, and give their results back in the queue's order.

Whoever is free takes the next unit (a packet on a socket that all share), so the work balances by
itself. A worker may hand the rest of a unit back, also before it has done its own part. Processes,
not threads: with many small files Python's lock would keep one processor idle.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from ringfence.errors import RingfenceError
from ringfence.watch.whole import write_all

MOST_PACKET = 208 << 10
"""Bytes of a unit: what an unprivileged Unix socket takes in one piece (net.core.wmem_max)."""
MOST_AHEAD = 512
"""Units that may be done before the one whose turn it is: bounds what waits in memory."""
MOST_SENT = 8
"""Units for each worker that are sent and not done. What is handed back is done after those: with
many, the large files of a whole tree would be left for its end, and one worker wait for another."""
MOST_WAITING = 8 << 20
"""Bytes of units that are made while the queue is full, so that it never runs empty."""

Place = tuple[int, int]


class Rest(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """What is left of a unit after its part number `part`, which is still being done."""

    unit: int
    part: int
    body: bytes


class Done(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """A unit or part of one, done: `result` is the worker's own; `more`: there was a rest.

    `error` is set where the worker failed, and ends everything.
    """

    unit: int
    part: int
    result: bytes
    more: bool = False
    error: str = ""


_messages = msgspec.msgpack.Decoder(Done | Rest)


class PoolError(RingfenceError):
    """A worker process failed or was killed."""


Give = Callable[[bytes], None]
"""Hands back the rest of a unit, at most once."""
Work = Callable[[bytes, Give], bytes]
"""From a unit to the result of what was not handed back."""


class Pool:
    """`count` processes forked now. `make` is called in each of them and gives what does a unit."""

    def __init__(self, count: int, make: Callable[[], Work]) -> None:
        try:
            self._queue, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise PoolError(f"worker processes cannot be started: {why}") from None
        self._over = False
        for end in (self._queue, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MOST_PACKET)
        self._queue.setblocking(False)
        self._results: dict[int, int] = {}
        gc.freeze()  # looking for garbage among what is shared from now on would copy it all
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
        sender = _Sender(self._queue, units, MOST_SENT * len(self._results))
        poll = select.poll()
        for handle in self._results:
            poll.register(handle, select.POLLIN)
        ready: dict[Place, Done] = {}
        turn: Place = (0, 0)
        while True:
            sender.send(turn[0] + MOST_AHEAD)
            if sender.finished and turn[0] == sender.count:
                self._queue.close()  # they end by themselves, while there is still work here
                self._over = True
                return
            if sender.blocked:
                poll.register(self._queue, select.POLLOUT)
            # While they have enough to do, there is time to make some ready.
            made = sender.prepare(turn[0] + MOST_AHEAD)
            events = poll.poll(0 if made else None)
            if sender.blocked:
                poll.unregister(self._queue)
            for handle, _ in events:
                if handle in self._results:
                    found = _receive(handle)
                    if isinstance(found, Rest):
                        sender.again(found.unit, found.part + 1, found.body)
                    else:
                        sender.sent -= 1
                        ready[found.unit, found.part] = found
            while turn in ready:
                done = ready.pop(turn)
                turn = (turn[0], turn[1] + 1) if done.more else (turn[0] + 1, 0)
                yield done.result

    def close(self) -> None:
        """End the workers, also in the middle of their work."""
        self._queue.close()
        for handle, pid in self._results.items():
            os.close(handle)
            if not self._over:
                os.kill(pid, signal.SIGKILL)
        for pid in self._results.values():
            with contextlib.suppress(ChildProcessError):  # whoever started us ignores SIGCHLD
                os.waitpid(pid, 0)
        self._results.clear()
        gc.unfreeze()


class _Sender:
    """Puts units on the queue as fast as it takes them, at most `most` before one is done."""

    def __init__(self, queue: socket.socket, units: Iterator[bytes], most: int) -> None:
        self.count = 0
        self.sent = 0
        self.most = most
        self.finished = False
        self.blocked = False
        self._queue = queue
        self._units = units
        self._waiting: deque[bytes] = deque()
        self._bytes = 0

    def again(self, unit: int, part: int, rest: bytes) -> None:
        """The rest of a unit goes before everything else."""
        packet = _packet(unit, part, rest)
        self._waiting.appendleft(packet)
        self._bytes += len(packet)

    def prepare(self, ahead: int) -> bool:
        """Make one unit more, if there may be one; whether there was."""
        return self._bytes < MOST_WAITING and self._next(ahead)

    def send(self, ahead: int) -> None:
        """Send until they have enough, the queue is full, nothing is left, or `ahead` units were
        begun."""
        self.blocked = False
        while self.sent < self.most and (self._waiting or self._next(ahead)):
            try:
                self._queue.send(self._waiting[0])
            except BlockingIOError:
                self.blocked = True
                return
            except OSError as error:
                raise PoolError(f"the workers have gone: {error.strerror}") from None
            self._bytes -= len(self._waiting.popleft())
            self.sent += 1

    def _next(self, ahead: int) -> bool:
        if self.finished or self.count >= ahead:
            return False
        unit = next(self._units, None)
        if unit is None:
            self.finished = True
            return False
        packet = _packet(self.count, 0, unit)
        self._waiting.append(packet)
        self._bytes += len(packet)
        self.count += 1
        return True


def _packet(unit: int, part: int, body: bytes) -> bytes:
    return unit.to_bytes(8, "little") + part.to_bytes(4, "little") + body


def _receive(handle: int) -> Done | Rest:
    head = _exactly(handle, 4)
    found: Done | Rest = _messages.decode(_exactly(handle, int.from_bytes(head, "little")))
    if isinstance(found, Done) and found.error:
        raise PoolError(found.error)
    return found


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
            _tell(write, _done(work, unit, part, bytes(buffer[12:size]), write))
        code = 0
    except BrokenPipeError:
        pass
    finally:
        os._exit(code)


def _done(work: Work, unit: int, part: int, body: bytes, write: int) -> Done:
    more = False

    def give(rest: bytes) -> None:
        nonlocal more
        more = True
        _tell(write, Rest(unit, part, rest))

    try:
        result = work(body, give)
    except RingfenceError as error:
        return Done(unit, part, b"", error=error.line())
    except BrokenPipeError:
        raise
    except Exception as error:
        return Done(unit, part, b"", error=f"a worker failed: {error!r}")
    return Done(unit, part, result, more)


def _tell(write: int, message: Done | Rest) -> None:
    body = msgspec.msgpack.encode(message)
    write_all(write, len(body).to_bytes(4, "little") + body)
