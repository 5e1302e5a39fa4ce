"""The decider: a process that answers the kernel's questions, and does nothing else.

Started by the standby as `python -m ringfence.watch.live.decider TERMS`. One thread reads the
questions and answers what it can without reading a file: itself first, so that nothing that it
opens can wait for its own answer. The other one reads files and digests them. No file is opened by
name once the marks are set: the kernel's descriptors come without further questions.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import gc
import os
import queue
import select
import signal
import sys
import threading
import time
from pathlib import Path

import msgspec

from ringfence.watch.live import fanotify
from ringfence.watch.live.allowed import Allowed, Learned, read_learned
from ringfence.watch.live.events import parse
from ringfence.watch.live.known import Known
from ringfence.watch.live.layers import Layers
from ringfence.watch.live.naming import Names
from ringfence.watch.live.reporter import Reporter
from ringfence.watch.live.ruling import Question, Ruling, Rulings, question, written
from ringfence.watch.live.terms import (
    ALIVE,
    BEAT,
    EXECUTE,
    GO,
    OPEN,
    READY,
    Denied,
    Ran,
    Said,
    Terms,
)
from ringfence.watch.live.who import Census, accounts

READ = 4096
"""Bytes of one read, 170 events: each brings a descriptor."""
NICE = -15
TOO_LONG = "reading it took longer than --patience"


class _Asked:
    """A question on its way. Whoever takes `open` answers it; the reader of the file closes it."""

    __slots__ = ("by", "fd", "open", "pid", "question")

    def __init__(self, asked: Question, pid: int, by: float) -> None:
        self.question, self.fd, self.pid, self.by = asked, asked.fd, pid, by
        self.open = True


class Decider:
    """Answers until the standby goes away or kills it."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        known = Known(Path(os.fsdecode(terms.baseline)), terms.public)
        learned = None
        if terms.learned:
            path = Path(os.fsdecode(terms.learned))
            learned = read_learned(path, known.header.algorithm)
        self._rulings = Rulings(Allowed(known, learned), Layers(terms.upper, terms.since, written))
        self._names = Names(terms.prefix)
        self._reporter = Reporter(terms.report)
        self._census = Census(accounts())
        self._standby = os.getppid()
        self._work: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        self._waiting: dict[int, _Asked] = {}
        self._lock = threading.Lock()
        self._learned: set[tuple[bytes, bytes, str]] = set()
        self._beaten = 0.0

    def serve(self) -> None:
        """Say that it is ready, wait for the word, then answer for ever."""
        os.write(self._terms.beat, READY)
        if os.read(self._terms.beat, 64) != GO:
            return
        os.set_blocking(self._terms.beat, False)
        threading.Thread(target=self._read_files, daemon=True, name="reading").start()
        poll = select.poll()
        poll.register(self._terms.group, select.POLLIN)
        poll.register(self._terms.beat, select.POLLIN)
        while True:
            for fd, _ in poll.poll(BEAT * 500):
                if fd == self._terms.group:
                    self._questions()
                elif not self._watched():
                    if not self._terms.deny:
                        return  # nobody watches over us: the kernel allows all, as was asked for
                    poll.unregister(fd)
                    self._reporter.say(Said("lost", "the standby has ended; the decider goes on"))
                    self._beaten = float("inf")
            self._overdue()
            self._beat()

    def _watched(self) -> bool:
        try:
            return os.read(self._terms.beat, 64) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beaten >= BEAT:
            self._beaten = now
            with contextlib.suppress(OSError):  # it may be gone, or behind
                os.write(self._terms.beat, ALIVE)

    def _questions(self) -> None:
        try:
            data = os.read(self._terms.group, READ)
        except OSError as error:
            # Of a file that cannot be opened for us the kernel denies the event by itself.
            if error.errno == errno.EBADF:
                raise
            return
        for event in parse(data):
            if event.fd >= 0:
                self._question(event.fd, event.pid, executed=bool(event.mask & _EXEC))

    def _question(self, fd: int, pid: int, *, executed: bool) -> None:
        if ours(pid, self._standby):
            self._end(fd, fanotify.ALLOW)
            return
        try:
            asked = question(fd, pid, self._names, executed=executed)
            ruling = self._rulings.quick(asked)
        except OSError as error:
            ruling = Ruling(False, os.strerror(error.errno or 0).lower())
            self._answer(fd, pid, ruling, executed=executed)
            os.close(fd)
            return
        if ruling is not None:
            self._answer(fd, pid, ruling, executed=executed)
            os.close(fd)
            return
        waiting = _Asked(asked, pid, time.monotonic() + self._terms.patience)
        if self._terms.learn:
            fanotify.answer(self._terms.group, fd, fanotify.ALLOW)
            waiting.open = False
        with self._lock:
            self._waiting[fd] = waiting
        self._work.put(waiting)

    def _read_files(self) -> None:
        while True:
            waiting = self._work.get()
            try:
                ruling = self._rulings.full(waiting.question)
            except OSError as error:
                ruling = Ruling(False, os.strerror(error.errno or 0).lower())
            with self._lock:
                was_open, waiting.open = waiting.open, False
                del self._waiting[waiting.fd]
            executed = waiting.question.executed
            if was_open:
                self._answer(waiting.fd, waiting.pid, ruling, executed=executed)
            elif self._terms.learn:
                self._learn(ruling, executed=executed)
            os.close(waiting.fd)

    def _overdue(self) -> None:
        """Answer what takes too long by the rule for that; its file goes on being read, so that
        the next time there is a decision."""
        now = time.monotonic()
        with self._lock:
            late = [item for item in self._waiting.values() if item.open and item.by <= now]
            for item in late:
                item.open = False
        for item in late:
            why = TOO_LONG if self._terms.deny else ""
            ruling = Ruling(not self._terms.deny, why, path=item.question.path or b"")
            self._answer(item.fd, item.pid, ruling, executed=item.question.executed)

    def _answer(self, fd: int, pid: int, ruling: Ruling, *, executed: bool) -> None:
        allowed = ruling.allowed or self._terms.learn
        if not allowed and not executed and self._terms.watcher.began(pid):
            fanotify.answer(self._terms.group, fd, fanotify.ALLOW)
            return
        if allowed:
            fanotify.answer(self._terms.group, fd, fanotify.ALLOW)
            if self._terms.learn:
                self._learn(ruling, executed=executed)
            return
        who = self._census.ask(pid)  # while it still waits
        fanotify.answer(self._terms.group, fd, fanotify.DENY)
        how = EXECUTE if executed else OPEN
        self._reporter.say(Denied(b"/" + ruling.path.lstrip(b"/"), ruling.why, how, who))

    def _learn(self, ruling: Ruling, *, executed: bool) -> None:
        how = EXECUTE if executed else OPEN
        mark = ruling.path, ruling.digest, how
        if ruling.digest and mark not in self._learned:
            self._learned.add(mark)
            found = Learned.of(ruling.path, ruling.digest, how, known=ruling.allowed)
            self._reporter.say(Ran(found))

    def _end(self, fd: int, response: int) -> None:
        fanotify.answer(self._terms.group, fd, response)
        os.close(fd)


def ours(pid: int, standby: int) -> bool:
    """Whether a question is of this process or of the standby that started it: whose number is
    anybody's once it has ended, and by then this process has another parent."""
    return pid == os.getpid() or pid == standby == os.getppid()


_EXEC = fanotify.OPEN_EXEC_PERM


def main() -> None:
    """Terms as base64 of MessagePack are the only argument."""
    terms = msgspec.msgpack.decode(base64.b64decode(sys.argv[1]), type=Terms)
    for number in (signal.SIGINT, signal.SIGIO, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(terms.report, False)
    with contextlib.suppress(OSError):  # whoever executes something waits for this process
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    decider = Decider(terms)
    gc.freeze()
    decider.serve()


if __name__ == "__main__":
    main()
