"""Who did it: asked of /proc at once, while the process of an event is still there.

An event's pidfd says whether what /proc told is of that process: as long as it can be signalled
after the reading, its number was not given to another one meanwhile. It does not say which program
it was: a process may execute another one between its change and the reading. The kernel tells of
each execution, so what was executed since the queue of events was last empty is known, and said.
"""

from __future__ import annotations

import os
import pwd
import select
import time

import msgspec

from ringfence.watch.live.cmdline import told
from ringfence.watch.live.containers import container_of
from ringfence.watch.live.execs import Execs
from ringfence.watch.live.looks import Look, cgroup, link, look, read_stat

RECENT = 5.0
"""Seconds for which a process that has ended is taken to be what had its number before."""
MOST_KNOWN = 4096
MOST_EARLIER = 8
PROGRAM = "executable: it may have been another program when it made the change"
NO_PROGRAM = "executable: it cannot be told"
USER = "uid: it changed since it was seen last"


class Who(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process as it was found. `command` has no words that look like secrets. `gone`: it had
    ended before it could be asked; what is told then was seen under its number at most `RECENT`
    seconds before, or nothing. `parent` is the executable of the process that started it.

    `uid` is its real user id, `user` that one's name, and `fsuid` the id by which the kernel
    decides about files (credentials(7)): another one in a set-user-ID program. `name` is what it
    calls itself, told only where no executable can be. `unsure` says which fields may be of a time
    after the change, and why; `earlier` are programs that it was seen to be shortly before.
    """

    pid: int
    uid: int | None = None
    user: str = ""
    executable: str = ""
    command: tuple[str, ...] = ()
    container: str = ""
    parent_pid: int = 0
    parent: str = ""
    gone: bool = False
    fsuid: int | None = None
    name: str = ""
    earlier: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()


class _Seen(msgspec.Struct, frozen=True):
    """A process that was looked at, `when` (CLOCK_MONOTONIC, seconds), in which `window`."""

    look: Look
    when: float
    window: int


class Census:
    """Asks what processes are.

    `accounts`: user id -> name, read beforehand. Without it the system is asked for each, which
    opens files: whoever answers for files must not. `execs` tells which processes executed another
    program. Without it they wait while they are asked about, and can become nothing else.
    """

    def __init__(self, accounts: dict[int, str] | None = None, execs: Execs | None = None) -> None:
        self._accounts = accounts
        self._execs = execs
        self._known: dict[int, _Seen] = {}
        # As a service the watcher may have mounts of its own, and the system is not "foreign".
        self._ours = ("", link("self", "ns/mnt"), link(1, "ns/mnt"))
        self._cgroup = cgroup("self")
        self._users: dict[int, str] = {}
        self._answers: dict[int, Who] = {}
        self._read: float | None = None
        # Of the time since the queue of events was last empty, which is a window:
        self._window = 0
        self._became: dict[int, tuple[str, ...]] = {}
        self._shifted: set[int] = set()
        self._blind = False
        self._heard: list[int] = []

    @property
    def fd(self) -> int:
        """Readable when there is something to `follow`; -1 where there never is."""
        return self._execs.fd if self._execs is not None else -1

    def close(self) -> None:
        """End the subscription."""
        if self._execs is not None:
            self._execs.close()

    def quiet(self) -> None:
        """The queue of events is empty: whatever is known to have happened up to now happened
        before every change that is read from now on."""
        self._window += 1
        self._became.clear()
        self._shifted.clear()
        self._blind = False

    def follow(self) -> None:
        """Look at what has executed another program since, before it has ended."""
        if self._execs is None:
            return
        pids, lost = self._execs.read()
        if lost or len(self._became) >= MOST_KNOWN:
            self._became.clear()
            self._blind = True
        self._heard += pids
        for pid in pids:
            self._note(pid, None)
            seen = look(pid)
            if seen is not None:
                self._shift(pid, seen)
                self._keep(pid, seen)

    def heard(self) -> list[int]:
        """Processes that have executed a program since this was asked last."""
        found, self._heard = self._heard, []
        return found

    def ask(self, pid: int, pidfd: int | None = None, read: float | None = None) -> Who:
        """The process `pid`; `pidfd` as events give it. `read` is when the event was read: those
        of one reading are all from before the first is asked about, so one answer holds for all."""
        if pid <= 0:
            return Who(pid, gone=True)  # of a PID namespace that is not below ours
        if read is None or read != self._read:
            self._read, self._answers = read, {}
        there = pidfd is None or pidfd >= 0
        if there and pid in self._answers:
            return self._answers[pid]
        former = self._known.get(pid)
        seen = look(pid) if there else None
        if seen is not None:
            self._shift(pid, seen)
        if seen is None or (seen.stat.ended and seen.file is None) or _ended(pidfd):
            self.follow()
            return self._gone(pid, seen, former)
        self._keep(pid, seen)
        self.follow()
        self._answers[pid] = self._doubted(pid, self._who(pid, seen), former, seen)
        return self._answers[pid]

    def _gone(self, pid: int, seen: Look | None, settled: _Seen | None) -> Who:
        """Of a process that has ended: what was seen of it, or of its number, last."""
        former = self._known.get(pid)
        if former is not None and not _recent(former):
            former = None
        if seen is not None and (
            former is None or not seen.same_process(former.look)
            or (seen.file is not None and seen.uid is not None)
        ):  # fmt: skip
            found, of = self._who(pid, seen), seen
        elif former is not None:
            found, of = self._who(pid, former.look), former.look
        else:
            return Who(pid, gone=True)
        return self._doubted(pid, msgspec.structs.replace(found, gone=True), settled, of)

    def _who(self, pid: int, seen: Look) -> Who:
        foreign = seen.namespace not in self._ours
        container = container_of(cgroup(pid), self._cgroup) if foreign else ""
        user = "" if seen.uid is None or foreign else self._user(seen.uid)
        nameless = seen.file is None
        words = told(seen.command) if seen.command else ()
        return Who(
            pid, seen.uid, user, seen.executable, words, container, seen.stat.parent,
            seen.parent, fsuid=seen.fsuid, name=seen.stat.name if nameless else "",
            unsure=(f"{NO_PROGRAM}: {seen.why}",) if nameless else (),
        )  # fmt: skip

    def _doubted(self, pid: int, found: Who, former: _Seen | None, seen: Look) -> Who:
        """The same with what may not have been so when the change was made."""
        unsure = list(found.unsure)
        blind = self._execs is not None and (self._execs.fd < 0 or self._blind)
        settled = (
            former is not None and former.window < self._window
            and former.look.same_program(seen) and former.look.command == seen.command
        )  # fmt: skip
        if seen.file is not None and (
            seen.torn or pid in self._became or (blind and not settled)
        ):  # fmt: skip
            unsure.append(PROGRAM)
        if pid in self._shifted:
            unsure.append(USER)
        return msgspec.structs.replace(
            found, unsure=tuple(unsure), earlier=self._became.get(pid, ())
        )

    def _shift(self, pid: int, seen: Look) -> None:
        """Note what differs from what was seen of the process before."""
        former = self._known.get(pid)
        if self._execs is None or former is None or not former.look.same_process(seen):
            return
        if seen.file is not None and not former.look.same_program(seen):
            self._note(pid, former.look)
        if seen.uid is not None and (former.look.uid, former.look.fsuid) != (seen.uid, seen.fsuid):
            self._shifted.add(pid)

    def _note(self, pid: int, former: Look | None) -> None:
        """A process became another program in this window."""
        earlier = self._became.get(pid, ())
        if former is not None and former.executable and len(earlier) < MOST_EARLIER:
            earlier = tuple(dict.fromkeys((*earlier, former.executable)))
        self._became[pid] = earlier

    def _keep(self, pid: int, seen: Look) -> None:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[pid] = _Seen(seen, time.monotonic(), self._window)

    def _user(self, uid: int) -> str:
        if self._accounts is not None:
            return self._accounts.get(uid, "")
        if uid not in self._users:
            try:
                self._users[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._users[uid] = ""
        return self._users[uid]


def accounts() -> dict[int, str]:
    """User id -> name of all accounts that the system lists."""
    return {item.pw_uid: item.pw_name for item in pwd.getpwall()}


class Process(msgspec.Struct, frozen=True):
    """A process, and not another one that got its number later: `started` as in `Stat`."""

    pid: int
    started: int

    @classmethod
    def this(cls) -> Process:
        """The one that asks."""
        stat = read_stat(os.getpid())
        return cls(os.getpid(), stat.started if stat else -1)

    def began(self, pid: int, generations: int = 5) -> bool:
        """Whether it is `pid`, or started it or its parents, over so many generations."""
        for _ in range(generations):
            stat = read_stat(pid)
            if stat is None:
                return False
            if pid == self.pid:
                return stat.started == self.started
            pid = stat.parent
        return False


def _recent(seen: _Seen) -> bool:
    return time.monotonic() - seen.when <= RECENT


def _ended(pidfd: int | None) -> bool:
    """Whether the process has ended (a pidfd is readable then, pidfd_open(2))."""
    if pidfd is None:
        return False
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
