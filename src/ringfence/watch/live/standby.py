"""The standby: watches over the decider, and answers in its place when it is gone.

Started by the watcher as `python -m ringfence.watch.live.standby TERMS POINTS`. It holds a
second descriptor of the group. A process that waits for an answer of a decider that has died would
wait for ever, as long as any descriptor of the group is open; so what the dead one had read is
answered first, then what comes, by --when-gone, and a new decider is started meanwhile. It forks
and executes by itself: subprocess would wait for the child's exec, which waits for this process.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import os
import resource
import select
import signal
import socket
import sys
import time

import msgspec

from ringfence.watch.live import fanotify
from ringfence.watch.live.aloud import aloud
from ringfence.watch.live.awake import PAUSE as LOOK
from ringfence.watch.live.deep import named
from ringfence.watch.live.events import parse
from ringfence.watch.live.looks import process_of
from ringfence.watch.live.naming import Names
from ringfence.watch.live.reporter import Reporter
from ringfence.watch.live.ruling import Question, is_data, loaded, question
from ringfence.watch.live.terms import (
    BEAT,
    EXECUTE,
    GO,
    MARK,
    MARK_WHOLE,
    OPEN,
    READY,
    STOP,
    UNMARKED,
    Asker,
    Denied,
    Point,
    Said,
    Terms,
)
from ringfence.watch.live.who import Census, accounts

MODULE = "ringfence.watch.live.decider"
MASK = fanotify.OPEN_PERM | fanotify.OPEN_EXEC_PERM
START = 30.0
"""Seconds for a new decider to read its baseline."""
PAUSE = 1.0
"""Seconds between two starts."""
READ = 4096
ASLEEP = 0.05
"""Seconds for the threads of all questions that are read together to come to sleep."""
GONE = "the decider is gone"


class Standby:
    """Runs until the watcher says stop. `terms.beat` is its line to the watcher."""

    def __init__(self, terms: Terms, points: list[Point]) -> None:
        self._terms = terms
        self._points = points
        self._control = socket.socket(fileno=terms.beat)
        self._names = Names(terms.prefix)
        self._reporter = Reporter(terms.report)
        self._census = Census(accounts())
        self._decider = 0
        self._line: socket.socket | None = None
        self._ready = False
        self._last = 0.0
        self._marked = False
        self._watched = True

    def run(self) -> None:
        """Serve; at its end the decider is ended, and with it the group. Only where an error ends
        it and the rule is to deny, the decider goes on alone, as it does without a standby."""
        self._start()
        try:
            while self._turn():
                pass
        except BaseException:
            if not self._terms.deny:
                self._kill()
            raise
        self._kill()

    def _turn(self) -> bool:
        poll = select.poll()
        if self._watched:
            poll.register(self._terms.beat, select.POLLIN)
        if self._line is not None:
            poll.register(self._line, select.POLLIN)
        if not self._ready and self._marked:
            poll.register(self._terms.group, select.POLLIN)
        for fd, _ in poll.poll(BEAT * 1000):
            if fd == self._terms.beat:
                if not self._heard():
                    return False
            elif fd == self._terms.group:
                if not self._ready:  # the sign of it may have come with the questions
                    self._questions()
            else:
                self._sign()
        self._watch()
        return True

    def _heard(self) -> bool:
        """Something from the watcher: the word to stop, or its end without one."""
        try:
            data, handles, _, _ = socket.recv_fds(self._control, 64, 4)
        except ConnectionResetError:
            data, handles = b"", []
        if data == STOP:
            return False
        if data in (MARK, MARK_WHOLE):
            self._points += [Point(handle, whole=data == MARK_WHOLE) for handle in handles]
            if self._marked:
                self._mark()
            return True
        self._watched = False
        return self._terms.deny

    def _sign(self) -> None:
        """A sign of life of the decider, or its end."""
        line = self._line
        if line is None:
            return
        try:
            data = line.recv(64)
        except ConnectionResetError:  # it has ended with something unread
            data = b""
        if not data:
            self._lost("it ended")
            return
        self._last = time.monotonic()
        if data == READY:
            if not self._marked:
                self._mark()
            # From here on only the decider reads: an answer names a descriptor by its number, and
            # two that both read may have the same one.
            self._ready = True
            with contextlib.suppress(OSError):  # its end is what is read next
                line.send(GO)
            self._reporter.say(Said("ready", pid=self._decider))

    def _watch(self) -> None:
        """Whether the decider is well; start another where there is none."""
        silent = time.monotonic() - self._last
        if self._line is None:
            if silent >= PAUSE:
                self._start()
        elif silent > (self._terms.patience if self._ready else START) and not self._unread():
            self._lost(f"it gave no sign for {silent:.1f} s")

    def _unread(self) -> bool:
        """Whether a sign waits: it is this process then that was busy, or had no processor."""
        poll = select.poll()
        if self._line is not None:
            poll.register(self._line, select.POLLIN)
        return bool(poll.poll(0))

    def _lost(self, why: str) -> None:
        self._kill()
        was_ready, self._ready = self._ready, False
        # One that was well is followed at once, one that never came up after a pause.
        self._last = 0.0 if was_ready else time.monotonic()
        if was_ready:
            response = fanotify.DENY if self._terms.deny else fanotify.ALLOW
            # Its descriptors' numbers are the names of what it had read and not answered.
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            ended = sum(fanotify.answer(self._terms.group, fd, response) for fd in range(most))
            rule = "denied" if self._terms.deny else "allowed"
            self._reporter.say(Said("gone", f"{why}; {ended} waiting were {rule}"))
        else:
            self._reporter.say(Said("gone", f"{why} before it was ready"))

    def _kill(self) -> None:
        if self._decider:
            with contextlib.suppress(OSError):
                os.kill(self._decider, signal.SIGKILL)
            # A killed process ends once nothing that it waits for is ours to answer.
            with contextlib.suppress(OSError):
                os.waitpid(self._decider, 0)
            self._decider = 0
        # Last: a decider that saw its line end would tell that the standby is lost.
        if self._line is not None:
            self._line.close()
            self._line = None

    def _start(self) -> None:
        self._last = time.monotonic()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        terms = msgspec.structs.replace(self._terms, beat=theirs.fileno())
        text = base64.b64encode(msgspec.msgpack.encode(terms)).decode()
        command = [sys.executable, "-m", MODULE, text]
        try:
            pid = os.fork()
        except OSError as error:  # anybody may use up all processes; it is tried again
            ours.close()
            theirs.close()
            why = os.strerror(error.errno or 0).lower()
            self._reporter.say(Said("gone", f"another cannot be started: {why}"))
            return
        if pid == 0:
            try:
                for fd in (terms.beat, terms.group, terms.report):
                    os.set_inheritable(fd, True)
                os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted
            finally:
                os._exit(127)
        theirs.close()
        self._decider, self._line = pid, ours

    def _mark(self) -> None:
        for point in self._points:
            kind = fanotify.MARK_FILESYSTEM if point.whole else fanotify.MARK_MOUNT
            try:
                fanotify.mark(self._terms.group, fanotify.MARK_ADD | kind, point.handle, MASK)
            except OSError as error:
                self._reporter.say(Said(UNMARKED, os.strerror(error.errno or 0).lower()))
            os.close(point.handle)
        self._points = []
        self._marked = True

    def _questions(self) -> None:
        """In the decider's place: no digests, so code is denied or allowed as such."""
        try:
            data = os.read(self._terms.group, READ)
        except OSError as error:
            self._reporter.unopened(error)
            return
        until = time.monotonic() + ASLEEP
        for event in parse(data):
            if event.fd >= 0:
                try:
                    self._question(event.fd, event.pid, until, executed=bool(event.mask & _EXEC))
                except Exception as error:  # nobody stands behind a standby, and it must not end
                    fanotify.answer(self._terms.group, event.fd, fanotify.DENY)
                    aloud(f"denied: {type(error).__name__}: {error}")
                finally:
                    os.close(event.fd)

    def _question(self, fd: int, thread: int, until: float, *, executed: bool) -> None:
        group = self._terms.group
        # 0 is whoever is in a PID namespace that is not below ours, and no decider.
        if not self._terms.deny or (thread and self._ours(thread)):
            fanotify.answer(group, fd, fanotify.ALLOW)
            return
        shown = b""
        try:
            asked = question(fd, thread, self._names, executed=executed)
            shown, fine = asked.place, _is_fine(asked, until)
        except OSError:
            fine = False
        if fine or (not executed and self._terms.watcher.began(process_of(thread))):
            fanotify.answer(group, fd, fanotify.ALLOW)
            return
        who = self._census.ask(process_of(thread))
        fanotify.answer(group, fd, fanotify.DENY)
        how = EXECUTE if executed else OPEN
        self._reporter.say(Denied(named(shown), GONE, how, Asker.of(who), gone=True))

    def _ours(self, thread: int) -> bool:
        """Whether a thread is of this process or of the decider."""
        return thread in (os.getpid(), self._decider) or any(
            os.path.exists(f"/proc/{process}/task/{thread}") for process in ("self", self._decider)
        )


def _is_fine(asked: Question, until: float) -> bool:
    """Whether it is data, and not for the loader; waits for its thread to sleep until a time. No
    question is kept aside here: its descriptor's number could be one that the next decider has."""
    if not is_data(asked):
        return False
    while (ruling := loaded(asked)) is not None and ruling.later and time.monotonic() < until:
        time.sleep(LOOK)
    return ruling is None or ruling.allowed


_EXEC = fanotify.OPEN_EXEC_PERM


def main() -> None:
    """Terms and points as base64 of MessagePack are the arguments."""
    terms = msgspec.msgpack.decode(base64.b64decode(sys.argv[1]), type=Terms)
    points = msgspec.msgpack.decode(base64.b64decode(sys.argv[2]), type=list[Point])
    for number in (signal.SIGINT, signal.SIGIO, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(terms.report, False)
    standby = Standby(terms, points)
    gc.freeze()
    standby.run()


if __name__ == "__main__":
    main()
