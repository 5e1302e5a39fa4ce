"""The decider: a process that answers the kernel's questions, and does nothing else.

Started by the standby as `python -m ringfence.watch.live.decider TERMS`. One thread reads the
questions and answers what it can without reading a file: itself first, so that nothing that it
opens can wait for its own answer. Others read files and digest them. No file is opened by
name once the marks are set: the kernel's descriptors come without further questions.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import gc
import os
import resource
import select
import signal
import sys
import threading
import time
from pathlib import Path

import msgspec

from ringfence.watch.live import fanotify
from ringfence.watch.live.allowed import Allowed, Learned, read_learned
from ringfence.watch.live.aloud import aloud
from ringfence.watch.live.awake import PAUSE, Awake
from ringfence.watch.live.deep import named
from ringfence.watch.live.events import parse
from ringfence.watch.live.known import Known
from ringfence.watch.live.layers import Layers
from ringfence.watch.live.looks import process_of
from ringfence.watch.live.naming import Names
from ringfence.watch.live.reading import TOO_MANY, Asked, Readings
from ringfence.watch.live.reporter import Reporter
from ringfence.watch.live.ruling import AWAKE, Question, Ruling, Rulings, question, written
from ringfence.watch.live.terms import (
    ALIVE,
    BEAT,
    EXECUTE,
    GO,
    OPEN,
    READY,
    Asker,
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
MOST_LATE = 170
"""Late questions that are answered between two signs of life: each asks who it was."""


class Decider:
    """Answers until the standby goes away or kills it."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        known = Known(Path(os.fsdecode(terms.baseline)), terms.public)
        learned = None
        if terms.learned:
            path = Path(os.fsdecode(terms.learned))
            learned = read_learned(path, known.header.algorithm)
        layers = Layers(terms.upper, terms.since, written)
        self._rulings = Rulings(Allowed(known, learned), layers, digests=terms.learn)
        self._names = Names(terms.prefix)
        self._reporter = Reporter(terms.report)
        self._census = Census(accounts())
        self._standby = os.getppid()
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._readings = Readings(self._rulings.full, self._read, descriptors)
        self._awake = Awake(terms.patience, descriptors)
        self._learned: set[tuple[bytes, bytes, str]] = set()
        self._beaten = 0.0

    def serve(self) -> None:
        """Say that it is ready, wait for the word, then answer for ever."""
        os.write(self._terms.beat, READY)
        if os.read(self._terms.beat, 64) != GO:
            return
        os.set_blocking(self._terms.beat, False)
        poll = select.poll()
        poll.register(self._terms.group, select.POLLIN)
        poll.register(self._terms.beat, select.POLLIN)
        while True:
            if self._awake:
                time.sleep(PAUSE)  # shorter than a poll can wait
            for fd, _ in poll.poll(0 if self._awake else BEAT * 500):
                if fd == self._terms.group:
                    self._questions()
                elif not self._watched():
                    if not self._terms.deny:
                        return  # nobody watches over us: the kernel allows all, as was asked for
                    poll.unregister(fd)
                    self._reporter.say(Said("lost", "the standby has ended; the decider goes on"))
                    self._beaten = float("inf")
            self._overdue()
            self._come_to_sleep()
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
            if error.errno == errno.EBADF:
                raise
            self._reporter.unopened(error)
            return
        now = time.monotonic()
        for event in parse(data):
            if event.fd >= 0:
                self._question(event.fd, event.pid, now, executed=bool(event.mask & _EXEC))
                self._beat()  # many may be denied, and each asks who it was

    def _question(self, fd: int, thread: int, since: float, *, executed: bool) -> None:
        if ours(thread, self._standby):
            self._end(fd, fanotify.ALLOW)
            return
        try:
            asked = question(fd, thread, self._names, executed=executed)
            ruling = self._rulings.quick(asked)
            if ruling is not None and ruling.later and not self._terms.learn:
                self._awake.keep(asked, since)
                return
            if ruling is None:
                ruling = self._waits(asked)
        except OSError as error:
            ruling = Ruling(False, os.strerror(error.errno or 0).lower())
        if ruling is not None:
            self._answer(fd, thread, ruling, executed=executed)
            os.close(fd)

    def _waits(self, asked: Question) -> Ruling | None:
        """Have a file read; the decision where nobody waits for that. Raises OSError."""
        if self._terms.learn:
            if not self._readings.wanted(asked, None):
                self._reporter.say(Said("dropped", f"a file that ran: {TOO_MANY}"))
            return Ruling(True)
        by = time.monotonic() + self._terms.patience
        if self._readings.wanted(
            asked, Asked(asked.fd, asked.thread, asked.executed, asked.place, by)
        ):
            return None
        return self._by_rule(TOO_MANY, asked.place)

    def _by_rule(self, why: str, path: bytes) -> Ruling:
        """The decision where none can be made in time."""
        return Ruling(not self._terms.deny, why if self._terms.deny else "", path=path)

    def _read(self, read: Question, ruling: Ruling, asked: list[Asked]) -> None:
        """A file has been read; called by the thread that did."""
        if self._terms.learn:
            self._learn(ruling, executed=read.executed)
            if not ruling.digest:
                name = os.fsdecode(named(read.place)).encode("utf-8", "backslashreplace").decode()
                self._reporter.say(Said("dropped", f"a file that ran: {name} was not read"))
        for item in asked:
            self._answered(item, ruling)

    def _overdue(self) -> None:
        """Answer what takes too long by the rule for that; its file goes on being read, so that
        the next time there is a decision."""
        for item in self._readings.late(time.monotonic(), MOST_LATE):
            self._answered(item, self._by_rule(TOO_LONG, item.path))

    def _come_to_sleep(self) -> None:
        """Ask anew of threads that sleep by now, and deny what has waited too long for that: by no
        rule, or whoever keeps a thread awake would choose the answer."""
        for item in self._awake.asleep(time.monotonic()):
            self._question(item.fd, item.thread, item.since, executed=item.executed)
            self._beat()
        for item in self._awake.late(time.monotonic(), MOST_LATE):
            ruling = Ruling(False, AWAKE, path=item.path)
            self._answer(item.fd, item.thread, ruling, executed=item.executed)
            os.close(item.fd)
            self._beat()

    def _answered(self, asked: Asked, ruling: Ruling) -> None:
        self._answer(asked.fd, asked.thread, ruling, executed=asked.executed)
        os.close(asked.fd)

    def _answer(self, fd: int, thread: int, ruling: Ruling, *, executed: bool) -> None:
        allowed = ruling.allowed or self._terms.learn
        if not allowed and not executed and self._terms.watcher.began(process_of(thread)):
            fanotify.answer(self._terms.group, fd, fanotify.ALLOW)
            return
        if allowed:
            fanotify.answer(self._terms.group, fd, fanotify.ALLOW)
            if self._terms.learn:
                self._learn(ruling, executed=executed)
            return
        who = self._census.ask(process_of(thread))  # while it still waits
        fanotify.answer(self._terms.group, fd, fanotify.DENY)
        how = EXECUTE if executed else OPEN
        self._reporter.say(Denied(named(ruling.path), ruling.why, how, Asker.of(who)))

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


def ours(thread: int, standby: int) -> bool:
    """Whether a thread is of this process, or is the standby that started it: whose number is
    anybody's once it has ended, and by then this process has another parent."""
    return thread == standby == os.getppid() or os.path.exists(f"/proc/self/task/{thread}")


_EXEC = fanotify.OPEN_EXEC_PERM


def main() -> None:
    """Terms as base64 of MessagePack are the only argument."""
    terms = msgspec.msgpack.decode(base64.b64decode(sys.argv[1]), type=Terms)
    for number in (signal.SIGINT, signal.SIGIO, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(terms.report, False)
    with contextlib.suppress(OSError):  # whoever executes something waits for this process
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    threading.excepthook = _ended
    decider = Decider(terms)
    gc.freeze()
    decider.serve()


def _ended(args: threading.ExceptHookArgs) -> None:
    """Without one of its threads a decider is none, though it would go on giving signs of life."""
    aloud(f"the decider ends: {args.exc_type.__name__}: {args.exc_value}")
    os._exit(1)


if __name__ == "__main__":
    main()
