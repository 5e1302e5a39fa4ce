"""Who did it: asked of /proc at once, while the process of an event is still there.

An event's pidfd says whether what /proc told is of that process: as long as it can be signalled
after the reading, its number was not given to another one meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import select
import time

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.environment import hint

MOST_COMMAND, MOST_CGROUP = 2048, 1 << 16
MOST_WORDS = 40
RECENT = 5.0
"""Seconds for which a process that has ended is taken to be what had its number before."""
MOST_KNOWN = 4096
HIDDEN = "***"
_FLAG = re.compile(r"--?[A-Za-z][\w-]*")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@")
_ID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}")
_SCOPE = re.compile(r"(?:docker|libpod|crio|cri-containerd)-([0-9a-f]{64})\.scope")


class Who(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process as it was found. `command` has no words that look like secrets. `gone`: it had
    ended before it could be asked; what is told then was seen at most `RECENT` seconds before, or
    nothing. `parent` is the executable, or the name, of the process that started it."""

    pid: int
    uid: int | None = None
    user: str = ""
    executable: str = ""
    command: tuple[str, ...] = ()
    container: str = ""
    parent_pid: int = 0
    parent: str = ""
    gone: bool = False


class Stat(msgspec.Struct, frozen=True):
    """Of /proc/PID/stat (proc(5)): `started` in clock ticks since boot, `arguments` the address
    of the command line, which a new program nearly always has elsewhere."""

    name: str
    parent: int
    started: int
    arguments: int


class Census:
    """Asks, and remembers a process until it runs another program.

    `accounts`: user id -> name, read beforehand. Without it the system is asked for each, which
    opens files: whoever answers for files must not.
    """

    def __init__(self, accounts: dict[int, str] | None = None) -> None:
        self._accounts = accounts
        self._known: dict[int, tuple[Stat, Who, float]] = {}
        # As a service the watcher may have mounts of its own, and the system is not "foreign".
        self._ours = ("", _namespace("self"), _namespace(1))
        self._cgroup = _cgroup("self")
        self._users: dict[int, str] = {}

    def ask(self, pid: int, pidfd: int | None = None) -> Who:
        """The process `pid`; `pidfd` as events give it."""
        if pid <= 0:
            return Who(pid, gone=True)  # of a PID namespace that is not below ours
        former = self._known.get(pid)
        stat = None if pidfd is not None and pidfd < 0 else _stat(pid)
        if stat is None:
            return _gone(pid, former)
        if former is not None and former[0].started == stat.started and (
            stat.arguments in (0, former[0].arguments)
        ):  # fmt: skip
            self._known[pid] = *former[:2], time.monotonic()
            return former[1]
        who = self._read(pid, stat)
        if pidfd is not None and _ended(pidfd):
            who = msgspec.structs.replace(who, gone=True)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[pid] = stat, who, time.monotonic()
        return who

    def _read(self, pid: int, stat: Stat) -> Who:
        uid, executable, container = None, "", ""
        words: tuple[str, ...] = ()
        with contextlib.suppress(OSError, procfs.Vanished, ValueError, IndexError):
            status = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
            uid = int(status["Uid"].split()[0])
        with contextlib.suppress(OSError, procfs.Vanished):
            words = told(procfs.read(pid, "cmdline")[:MOST_COMMAND])
            executable = procfs.link(pid, "exe")
        foreign = _namespace(pid) not in self._ours
        if foreign:
            container = container_of(_cgroup(pid), self._cgroup)
        parent = _name(stat.parent) if stat.parent else ""
        user = "" if uid is None or foreign else self._user(uid)
        return Who(pid, uid, user, executable or stat.name, words, container, stat.parent, parent)

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


def told(command: bytes) -> tuple[str, ...]:
    """The words of a /proc/PID/cmdline, without what looks like a secret: values of options and
    variables that are named like one, and user names and passwords in URLs."""
    words = []
    hidden = False
    for raw in command.rstrip(b"\0").split(b"\0")[:MOST_WORDS]:
        word = os.fsdecode(raw)
        name, equals, value = word.partition("=")
        if hidden and not word.startswith("-"):
            words.append(HIDDEN)
        elif equals and value and _secret(name):
            words.append(f"{name}={HIDDEN}")
        else:
            words.append(_URL.sub(rf"\1{HIDDEN}@", word))
        hidden = not equals and _FLAG.fullmatch(word) is not None and _secret(word)
    return tuple(words)


def _secret(name: str) -> bool:
    plain = name.lstrip("-").replace("-", "_")
    return hint(os.fsencode(plain) + b"=x") is not None


def container_of(cgroup: str, ours: str = "") -> str:
    """The container's id or name by a /proc/PID/cgroup: as engines name scopes, else the last
    part of the longest path. What encloses this process, too (`ours`, its own /proc/PID/cgroup),
    is no name of another's."""
    around = _cgroups(ours)
    paths = [_beyond(path, around.get(which, [])) for which, path in _cgroups(cgroup).items()]
    for parts in paths:
        found = _SCOPE.search("/".join(parts))
        if found:
            return found[1]
    parts = max(paths, key=lambda found: len("/".join(found)), default=[])
    return next((part for part in reversed(parts) if _ID.fullmatch(part)),
                parts[-1] if parts else "")  # fmt: skip


def _cgroups(text: str) -> dict[str, list[str]]:
    """Hierarchy -> the parts of the path in it (cgroups(7))."""
    rows = [line.split(":", 2) for line in text.split("\n") if line.count(":") >= 2]
    return {f"{row[0]}:{row[1]}": [part for part in row[2].split("/") if part] for row in rows}


def _beyond(parts: list[str], around: list[str]) -> list[str]:
    while parts and around and parts[0] == around[0]:
        parts, around = parts[1:], around[1:]
    return parts


def parse_stat(text: str) -> Stat | None:
    """A /proc/PID/stat; the name in brackets may hold anything. None where it makes no sense."""
    head, bracket, tail = text.rpartition(")")
    fields = tail.split()
    if not bracket or len(fields) < 46:
        return None
    try:
        return Stat(head.partition("(")[2], int(fields[1]), int(fields[19]), int(fields[45]))
    except ValueError:
        return None


def _stat(pid: int) -> Stat | None:
    try:
        handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return parse_stat(os.read(handle, 4096).decode("utf-8", "replace"))
    except OSError:
        return None
    finally:
        os.close(handle)


class Process(msgspec.Struct, frozen=True):
    """A process, and not another one that got its number later: `started` as in `Stat`."""

    pid: int
    started: int

    @classmethod
    def this(cls) -> Process:
        """The one that asks."""
        stat = _stat(os.getpid())
        return cls(os.getpid(), stat.started if stat else -1)

    def began(self, pid: int, generations: int = 5) -> bool:
        """Whether it is `pid`, or started it or its parents, over so many generations."""
        for _ in range(generations):
            stat = _stat(pid)
            if stat is None:
                return False
            if pid == self.pid:
                return stat.started == self.started
            pid = stat.parent
        return False


def _gone(pid: int, former: tuple[Stat, Who, float] | None) -> Who:
    if former is None or time.monotonic() - former[2] > RECENT:
        return Who(pid, gone=True)
    return msgspec.structs.replace(former[1], gone=True)


def _ended(pidfd: int) -> bool:
    """Whether the process has ended (a pidfd is readable then, pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _name(pid: int) -> str:
    try:
        return procfs.link(pid, "exe")
    except (OSError, procfs.Vanished):
        stat = _stat(pid)
        return stat.name if stat else ""


def _cgroup(pid: int | str) -> str:
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            return file.read(MOST_CGROUP).decode("utf-8", "replace")
    except OSError:
        return ""


def _namespace(pid: int | str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""
