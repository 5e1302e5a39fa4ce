"""The watcher's end of enforcement: what is marked, the standby's start, what it and the decider
say."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from ringfence.errors import InputError, UsageError
from ringfence.watch.baseline.targets import Target
from ringfence.watch.live import fanotify
from ringfence.watch.live.ending import Ending
from ringfence.watch.live.layers import upper_of
from ringfence.watch.live.learning import Lessons
from ringfence.watch.live.mounts import apart, at, own_filesystem, read_mounts
from ringfence.watch.live.namespaces import Namespaces
from ringfence.watch.live.terms import (
    MARK,
    MARK_WHOLE,
    MOST_MESSAGE,
    STOP,
    UNMARKED,
    Denied,
    Point,
    Ran,
    Said,
    Terms,
    decoder,
)
from ringfence.watch.live.told import EVENT, POLICY, Told, denial
from ringfence.watch.live.who import Process

MODULE = "ringfence.watch.live.standby"
START = 60.0
"""Seconds for the decider to read its baseline."""
END = 5.0


APART = (
    "this run has a mount namespace of its own, and marks a mount: what is executed through mounts "
    "of other namespaces is not asked about"
)
WITHIN = (
    "it has executed a program in a mount namespace made within the target; new mounts there are "
    "marked when the next program is executed"
)


class Rule(msgspec.Struct, frozen=True):
    """What a person chose: see `terms.Terms`. `learning` is the file that --learn writes."""

    baseline: Path
    public: bytes
    learned: Path | None = None
    learning: Path | None = None
    deny: bool = True
    patience: float = 2.0


class Enforcement:
    """Enforcement on a target. `fd` is readable when there is something to `read`."""

    def __init__(self, target: Target, root: int, algorithm: str, rule: Rule) -> None:
        self._target, self._rule = target, rule
        self._lessons = Lessons(rule.learning, algorithm) if rule.learning else None
        self.ended = False
        self._decider, self._began, self._stopping = -1, False, False
        points = marking(target, root)
        # A container's mounts are opened in its own namespace, whichever ours is.
        inside = target.kind in ("container", "process")
        self._namespaces = Namespaces(_pid(target)) if inside else None
        self._gap = APART if not inside and not points[0].whole and apart() else ""
        self._report, report = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        group = fanotify.permission_group()
        self.fd = self._report.fileno()
        prefix = os.readlink(os.fsencode(f"/proc/self/fd/{root}")).rstrip(b"/")
        terms = Terms(
            group, line.fileno(), report.fileno(), prefix, bytes(rule.baseline.resolve()),
            rule.public, bytes(rule.learned.resolve()) if rule.learned else b"",
            rule.learning is not None, rule.deny, rule.patience, Process.this(), _upper(target),
            time.time_ns(),
        )  # fmt: skip
        try:
            handed = (group, terms.beat, terms.report, *(point.handle for point in points))
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE, _text(terms), _text(points)],
                pass_fds=handed, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        finally:
            # Held open here, the group would outlive those who answer for it.
            os.close(group)
            report.close()
            line.close()
            for point in points:
                os.close(point.handle)

    def ready(self, ending: Ending) -> list[Told]:
        """Wait until it decides; the record of that, none where the run is to end before. Raises
        InputError."""
        until = time.monotonic() + START
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.register(ending.fd, select.POLLIN)
        while time.monotonic() < until:
            poll.poll(1000)
            said = [item for item in self._messages() if isinstance(item, Said)]
            if any(item.what == UNMARKED for item in said):
                break
            ready = next((item for item in said if item.what == "ready"), None)
            if ready is not None:
                self._decided_by(ready.pid)
                self._began = True
                return [self._said("on", self._gap)]
            if self.ended or said:
                break
            if ending.reason:
                return []
        self.stop()
        raise InputError("enforcement did not start: a mark was refused, or the decider ended",
                         where=self._target.name)  # fmt: skip

    def read(self) -> Iterator[Told]:
        """What was said since."""
        for message in self._messages():
            if isinstance(message, Denied):
                who = message.who.who()
                yield denial(message.path, message.why, message.how, who, gone=message.gone)
            elif isinstance(message, Ran):
                if self._lessons is not None and self._lessons.take(message.file):
                    yield self._learned(message)
            else:
                if message.what == "ready":
                    self._decided_by(message.pid)
                yield self._said(message.what, message.why)
        if self.ended and not self._stopping:
            yield self._said("lost", "decider and standby have ended: everything may run")

    def mounted(self, paths: Collection[bytes]) -> None:
        """Mark what was mounted in a container, at these paths from its root."""
        if self._namespaces is not None:
            new = {"/" + os.fsdecode(path) for path in paths}
            with contextlib.suppress(OSError):
                self._mark(self._namespaces.points(lambda mount: mount.point in new))

    def executed(self, pid: int) -> Iterator[Told]:
        """A process has executed a program, perhaps in a namespace made within a container: mark
        what that has, and tell of it."""
        if self._namespaces is not None:
            new, points = self._namespaces.executed(pid)
            self._mark(points)
            if new:
                yield self._said("namespace", f"PID {pid}: {WITHIN}")

    def _mark(self, points: list[Point]) -> None:
        for point in points:
            with contextlib.suppress(OSError):
                socket.send_fds(self._line, [MARK_WHOLE if point.whole else MARK], [point.handle])
            os.close(point.handle)

    @property
    def stays(self) -> bool:
        """Whether it goes on without this process: it has begun, and the rule is to deny."""
        return self._began and self._rule.deny

    def leave(self) -> Told:
        """Go, and let decider and standby go on; the record of that. Whoever made this process fail
        must not have ended enforcement by it."""
        self._report.close()
        self._line.close()
        return self._said("left", f"the watcher failed: decider and standby (PID "
                          f"{self._process.pid}) go on until they are killed")  # fmt: skip

    def stop(self) -> Iterator[Told]:
        """End it: everything may run again. What was said until then; nothing the second time."""
        if self._report.fileno() < 0:
            return iter(())
        self._stopping = True
        with contextlib.suppress(OSError):
            self._line.send(STOP)
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        try:
            found = list(self.read())  # who decides, perhaps
        finally:
            self._decided_by(0)
        found += list(self.read())
        self._report.close()
        self._line.close()
        if self._lessons is not None:
            self._lessons.save()
        return iter([*found, self._said("off", "")])

    def _decided_by(self, pid: int) -> None:
        """Hold the decider's pidfd: should the standby die, it is ended by that. 0: end it."""
        if self._decider >= 0:
            if pid == 0:
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(self._decider, signal.SIGKILL)
            os.close(self._decider)
            self._decider = -1
        if pid:
            with contextlib.suppress(OSError):
                self._decider = os.pidfd_open(pid)

    def _messages(self) -> Iterator[Denied | Ran | Said]:
        """Messages that are there now; at the standby's end, `ended`."""
        self._report.setblocking(False)
        for _ in range(1000):
            try:
                data = self._report.recv(MOST_MESSAGE)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.ended = True
                break
            yield decoder.decode(data)
        if self._lessons is not None:
            self._lessons.save_now_and_then()

    def _learned(self, message: Ran) -> Told:
        detail = {"event": "learned", "how": message.file.how}
        if not message.file.known:
            detail["why"] = "not in the baseline as it is: would be denied"
        return Told(EVENT, message.file.path, detail)

    def _said(self, what: str, why: str) -> Told:
        mode = "learn" if self._rule.learning else "exec"
        detail = {
            "event": "enforce", "mode": mode, "verdict": what,
            "when_gone": "deny" if self._rule.deny else "allow",
        }  # fmt: skip
        return Told(POLICY, self._target.name, {**detail, "why": why} if why else detail)


def marking(target: Target, root: int) -> list[Point]:
    """Mounts to mark. Raises UsageError where that would reach beyond the target."""
    if target.only:
        raise UsageError("enforcement takes a whole target", remedy="leave out --only in its init")
    if target.kind in ("container", "process"):
        return _inside(target, Namespaces(_pid(target)))
    path = os.path.realpath(target.root)
    mounts = read_mounts(target.mountinfo)
    if path == "/":
        raise UsageError(
            "enforcement is not for the host's root", where=target.name,
            remedy="name a container, or a directory that is a mount of its own",
        )  # fmt: skip
    if at(mounts, path) is None:
        raise UsageError(
            "enforcement takes a mount of its own", where=target.name,
            remedy=f"mount --bind {target.name} {target.name}, or name a container",
        )  # fmt: skip
    handle = os.open(f"/proc/self/fd/{root}", os.O_PATH | os.O_CLOEXEC)
    return [Point(handle, whole=own_filesystem(target))]


def _inside(target: Target, namespaces: Namespaces) -> list[Point]:
    """All mounts of a container in which somebody could put a program."""
    ours, theirs = (os.stat(f"/proc/{name}/ns/mnt") for name in ("self", target.root.parent.name))
    if ours.st_ino == theirs.st_ino:
        raise UsageError("it shares this host's mounts: enforcement would reach all of the host",
                         where=target.name)  # fmt: skip
    points = namespaces.points(lambda mount: mount.point != "/")
    handle = os.open(target.root, os.O_PATH | os.O_CLOEXEC)
    return [Point(handle, whole=own_filesystem(target)), *points]


def _pid(target: Target) -> int:
    """Of a container or process."""
    return int(target.root.parent.name)


def _upper(target: Target) -> bytes:
    """The upper layer of a target that is, or lies on, an overlay."""
    inside = target.kind in ("container", "process")
    point = b"/" if inside else os.fsencode(os.path.realpath(target.root))
    return upper_of(target.mountinfo.read_bytes(), point)


def _text(record: Terms | list[Point]) -> str:
    return base64.b64encode(msgspec.msgpack.encode(record)).decode()
