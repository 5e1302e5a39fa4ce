"""`ringfence watch run`: reads events, asks who, starts full checks. `judging` does the rest."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.watch.baseline.targets import Target
from ringfence.watch.live import fanotify
from ringfence.watch.live.denials import Denials
from ringfence.watch.live.ending import FAILED, Ending
from ringfence.watch.live.enforce import Enforcement
from ringfence.watch.live.events import parse
from ringfence.watch.live.happening import Gatherer, Happening
from ringfence.watch.live.judging import Judging
from ringfence.watch.live.marks import Marks
from ringfence.watch.live.mounts import Table, mounted
from ringfence.watch.live.queue import Checked, Entry, Queue
from ringfence.watch.live.rescan import Rescan, begun
from ringfence.watch.live.told import EVENT, Told, unmarked
from ringfence.watch.live.who import Census

READ = 32 << 10
"""Bytes of one read: about 300 events, each of which may bring a descriptor."""
QUEUED = Path("/proc/sys/fs/fanotify/max_queued_events")
TICK = 0.2
ROOT_EVERY = 1.0
"""Seconds between two looks at whether the target's path leads to what is watched."""
UNSEEN = (
    "mounts of this mount namespace changed, and were as before when they were looked at: "
    "something was mounted for a moment, or unmounted, or set anew; what and where was not seen"
)


class Plan(msgspec.Struct, frozen=True):
    """`check_words` are those of `watch check`; `full_every` seconds lie between two full checks,
    0 for none; `first`: one at the start."""

    check_words: list[str]
    full_every: float = 0.0
    first: bool = True


class Watching:
    """One run, until `ending` has a reason."""

    def __init__(
        self, target: Target, group: fanotify.Group, marks: Marks, census: Census,
        judging: Judging, queue: Queue, plan: Plan, enforcement: Enforcement | None,
        ending: Ending, mounts: Table, denials: Denials | None = None,
    ) -> None:  # fmt: skip
        """`mounts`: as they were when the start was told. `denials` is closed at the end."""
        self._target, self._group, self._marks = target, group, marks
        self._census, self._judging, self._queue = census, judging, queue
        self._gatherer = Gatherer(marks, census, frozenset([os.getpid()]))
        self._plan, self._enforcement, self._ending = plan, enforcement, ending
        self._denials = denials
        self._rescan: Rescan | None = None
        self._reasons: list[str] = ["start"] if plan.first else []
        self._checks = 0
        self._due = time.monotonic() + plan.full_every
        self._mounts = mounts
        self._covered = False
        self._look = 0.0
        self.astray = ""
        """Why the target's root is not at its path, '' while it is."""
        self._poll, self._events = select.poll(), select.poll()
        self._unsettled, self._most_queued = 0, _most_queued()
        self.overflows = 0
        marks.refused.clear()  # the start's record has them

    def run(self) -> None:
        """Until a signal came, or the target's end. Raises what ended the judging."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._census.close)
            if self._denials is not None:
                stack.callback(self._denials.close)
            mounts = stack.enter_context(_opened(self._target.mountinfo))
            target = stack.enter_context(_process_of(self._target))
            self._register(mounts, target)
            self._judging.thread.start()
            if mounted(self._target).text != self._mounts.text:  # before it was opened to be polled
                self._mounted()
            try:
                while not self._ending.reason:
                    self._turn(mounts, target)
            finally:
                self._finish()

    def _register(self, mounts: int, target: int) -> None:
        for poll in (self._poll, self._events):
            poll.register(self._group.fd, select.POLLIN)
        self._poll.register(self._ending.fd, select.POLLIN)
        if self._census.fd >= 0:
            self._poll.register(self._census.fd, select.POLLIN)
        if mounts >= 0:
            self._poll.register(mounts, select.POLLPRI)
        if target >= 0:
            self._poll.register(target, select.POLLIN)
        if self._enforcement is not None:
            self._poll.register(self._enforcement.fd, select.POLLIN)
        if self._denials is not None and self._denials.fd >= 0:
            self._poll.register(self._denials.fd, select.POLLIN)

    def _turn(self, mounts: int, target: int) -> None:
        if not self._events.poll(0):
            self._census.quiet()
            self._settle(empty=True)
        ready = self._poll.poll(TICK * 1000)
        for fd, what in ready:
            if fd == self._group.fd:
                self._census.follow()
                self._read()
            elif fd == mounts and what & (select.POLLPRI | select.POLLERR):
                self._mounted()
            elif fd == target:
                self._poll.unregister(target)
                self._ending.reason = "the target has ended"
            elif fd == self._census.fd:
                self._census.follow()
            elif fd == self._ending.fd:
                self._ending.woken()
            elif self._enforcement is not None and fd == self._enforcement.fd:
                self._told(self._enforcement)
            elif self._denials is not None and fd == self._denials.fd:
                self._denied(self._denials)
        if self._denials is not None:
            repeated = self._denials.repeated(blind=self._census.fd < 0)
            if repeated:
                self._queue.put([*repeated])
        self._executed()
        if time.monotonic() >= self._look:
            self._at_its_path()
        self._check()
        if self._judging.error is not None:
            self._ending.reason = FAILED

    def _denied(self, denials: Denials, *, last: bool = False) -> None:
        self._census.follow()  # who began the processes that it is about
        self._queue.put([*denials.read(last=last)])

    def _executed(self) -> None:
        """Have enforcement look at who executed a program since."""
        for pid in self._census.heard():
            if self._enforcement is not None:
                self._queue.put(list(self._enforcement.executed(pid)))

    def _read(self) -> bool:
        """One read of the kernel's queue; whether there was anything."""
        try:
            data = os.read(self._group.fd, READ)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR):
                return False
            raise
        now = time.monotonic()
        entries: list[Entry] = []
        for event in parse(data):
            self._unsettled += 1
            if event.mask & fanotify.Q_OVERFLOW:
                entries += self._overflow()
            if event.mask & fanotify.MOVE_SELF:
                self._look = 0.0
            entries += self._gatherer.gather(event, now)
        self._queue.put(entries + self._unmarked())
        if self._unsettled >= self._most_queued:  # one who writes on and on keeps it from empty
            self._settle(empty=False)
        return True

    def _settle(self, *, empty: bool) -> None:
        """The kernel's queue is empty, or all that was in it the last time was read."""
        self._unsettled = 0
        entries = [*self._gatherer.settle(time.monotonic(), empty=empty), *self._unmarked()]
        if entries:
            self._queue.put(entries)

    def _unmarked(self) -> list[Entry]:
        refused: list[Entry] = [unmarked(*item) for item in self._marks.refused]
        self._marks.refused.clear()
        return refused

    def _overflow(self) -> Iterator[Entry]:
        """Events were lost: it is told, folders that came to be are marked, all is checked."""
        self.overflows += 1
        yield Told(EVENT, self._target.name, {
            "event": "overflow", "why": "the kernel's queue was full: events were lost",
            "number": self.overflows,
        })  # fmt: skip
        yield from self._gatherer.release()
        self._marks.renew()
        self._want("overflow")

    def _told(self, enforcement: Enforcement) -> None:
        records = enforcement.read()
        self._queue.put(list(records))
        if enforcement.ended:
            self._poll.unregister(enforcement.fd)

    def _mounted(self) -> None:
        """Something was mounted or unmounted, perhaps over or in the target."""
        now = mounted(self._target)
        changes = now.since(self._mounts)
        entries: list[Entry] = []
        self._judging.mounts_are(now.paths)
        if self._enforcement is not None:
            self._enforcement.mounted({path for path, did in changes if did == "mount"})
        if now.text == self._mounts.text:
            entries.append(Told(EVENT, self._target.name, {"event": "mounts", "why": UNSEEN}))
        for path, did in changes:
            folder, _, name = path.rpartition(b"/")
            if self._marks.wanted(path):
                entries.append(Happening(folder, name, (did,)))
            if did == "unmount" and path not in now.paths and not self._marks.whole:
                for inside in self._marks.cover(path):
                    entries.append(Happening(*inside, ("found",)))
        self._mounts = now
        if entries:
            self._queue.put(entries)
        covered, self._covered = self._covered, self._marks.covered()
        if self._covered and not covered:
            self._queue.put([Told(EVENT, self._target.name, {
                "event": "mounts", "why": "something else is mounted over the target's root",
            })])  # fmt: skip
            self._want("mounts")

    def _at_its_path(self) -> None:
        """The target's root renamed, removed or replaced is told once. The run ends with it, for
        what is at the path is another folder; one that enforces goes on, for what it holds to the
        baseline would be let go."""
        self._look = time.monotonic() + ROOT_EVERY
        former, self.astray = self.astray, self._marks.astray()
        if self.astray in ("", former):
            return
        self._queue.put([Told(EVENT, self._target.name, {"event": "root", "why": self.astray})])
        if self._enforcement is None:
            self._ending.reason = self._ending.reason or self.astray
        else:
            self._want("root")

    def _want(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.append(reason)

    def _check(self) -> None:
        """Start a full check that is due, take the result of one that has ended."""
        if self._rescan is not None:
            if not self._rescan.ended():
                return
            done = Checked(self._rescan.name, self._rescan.result(), self._rescan.began)
            self._queue.put([done])
            self._rescan = None
        if self._plan.full_every and time.monotonic() >= self._due:
            self._due = time.monotonic() + self._plan.full_every
            self._want("schedule")
        if self._reasons:
            self._checks += 1
            reason, self._reasons = " and ".join(self._reasons), []
            self._rescan = Rescan(reason, self._plan.check_words, self._checks)
            self._queue.put([begun(self._target, self._rescan)])

    def _finish(self) -> None:
        """Take what is in the kernel's queue still, have all of it judged, and let go."""
        try:
            if self._rescan is not None:
                self._rescan.stop()
            if self._judging.error is None:
                for _ in range(200):
                    if not self._read():
                        break
                self._settle(empty=True)
                self._queue.put(list(self._gatherer.release()))
                if self._denials is not None:
                    self._denied(self._denials, last=True)
                    self._queue.put([*self._denials.repeated(last=True)])
            if self._enforcement is not None and not (
                self._ending.failed and self._enforcement.stays
            ):
                said: list[Entry] = list(self._enforcement.stop())
                if self._judging.error is None:
                    self._queue.put(said)
        finally:  # a thread that waits for more would hold up the end of the process
            self._queue.end()
            self._judging.thread.join()
        if self._judging.error is not None:
            raise self._judging.error


def _most_queued() -> int:
    """Events that the kernel's queue holds."""
    try:
        return int(QUEUED.read_text())
    except (OSError, ValueError):
        return 1 << 14


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A mountinfo file: it polls as readable when a mount changes (proc(5)); -1 without one."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield -1
        return
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _process_of(target: Target) -> Iterator[int]:
    """A pidfd of a container's or process's target; -1 for a tree. Raises InputError."""
    if target.kind not in ("container", "process"):
        yield -1
        return
    try:
        handle = os.pidfd_open(int(target.root.parent.name))
    except (OSError, ValueError):
        raise InputError("has ended", where=target.name) from None
    try:
        yield handle
    finally:
        os.close(handle)
