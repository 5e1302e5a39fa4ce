"""Refused system calls, reported by name: the listener of a filter's notifications.

The filter stays what decides: a call that it does not allow comes here, is noted, and fails with
EPERM. Nothing is ever let through from here (seccomp_unotify(2) explains why that would be
unsafe). When we end, the kernel answers ENOSYS in our place.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import functools
import os
import queue
import select
import shutil
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ringfence.collect.seccomp.question import CONSTANTS
from ringfence.collect.seccomp.tables import native_calls, native_names
from ringfence.run.complement import left_over

NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101
"""SECCOMP_IOCTL_NOTIF_RECV and _SEND (include/uapi/linux/seccomp.h)."""
_NOTICE, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
EPERM = 1
NOTIFY = "SCMP_ACT_NOTIFY"
SOCKET_TYPE = 0xF
CLONE_NAMESPACES = 0x7E020000
"""What the rules of harden look at of clone's flags (harden/policy/seccomp.py)."""
WIDTHS: dict[str, dict[int, int]] = {
    "socket": {0: 6}, "clone": {},
}  # fmt: skip
"""Calls whose refused arguments are told, and the bits of an argument that the kernel's own numbers
take (families end at 45): what lies beyond is refused without a word. Each rule more costs a busy
server throughput (bench/fence.py), so that ioctl, prctl and personality are not among them."""
PATIENCE = 2.0
"""Seconds at the end for what is not reported yet."""
MOST_NAMES = 512
"""Kinds of refusals that are told apart: whoever makes up more of them floods nobody."""
UNNOTIFIED = frozenset({"write"})
"""runc refuses to be notified of the call with which it hands the listener over."""


def notifying(profile: dict[str, Any], listener: Path) -> dict[str, Any]:
    """The same profile, but what it does not allow is reported to `listener` and refused: calls
    that it names nowhere, and those that it names with other arguments."""
    named = {name for rule in profile["syscalls"] for name in rule["names"]}
    others = sorted(native_calls().keys() - named - UNNOTIFIED)
    rules = [*profile["syscalls"], {"names": others, "action": NOTIFY}]
    for name in sorted(named & native_calls().keys() & WIDTHS.keys()):
        allowed = [rule.get("args", []) for rule in profile["syscalls"] if name in rule["names"]]
        rules += [{"names": [name], "action": NOTIFY, "args": limits}
                  for limits in left_over(allowed, WIDTHS.get(name))]  # fmt: skip
    return {**profile, "syscalls": rules, "listenerPath": str(listener)}


def shown(name: str, arguments: tuple[int, ...]) -> str:
    """A refused call as `harden --allow` takes it: with the arguments that a filter of ours looks
    at, by name where they have one (collect/seccomp/question.py)."""
    if name in ("socket", "socketpair"):
        family = _constant("AF_", arguments[0])
        return f"{name}[{family},{_constant('SOCK_', arguments[1] & SOCKET_TYPE)}]"
    if name == "ioctl":
        return f"{name}[*,{_constant('TIOC', arguments[1])}]"
    if name == "clone":
        return f"clone[{arguments[0] & CLONE_NAMESPACES:#x}]"
    if name in ("prctl", "personality"):
        return f"{name}[{arguments[0] & 0xFFFFFFFF:#x}]"
    return name


def _constant(prefix: str, value: int) -> str:
    names = (name for name, number in CONSTANTS.items()
             if name.startswith(prefix) and number == value)  # fmt: skip
    return next(names, f"{value & 0xFFFFFFFF:#x}")


class Listener:
    """Listens at a Unix socket for the descriptor that the engine hands over, then on that."""

    def __init__(self, path: Path, report: Callable[[str, int], None] | None = None) -> None:
        """`report` is called with a call's name and the process, the first time it is refused;
        it must not raise."""
        self.path = path
        self.refused: dict[str, int] = {}
        """Call -> how often it was refused."""
        self._told: queue.SimpleQueue[tuple[str, int] | threading.Event | None]
        self._told = queue.SimpleQueue()
        self._teller = threading.Thread(target=self._tell, args=(report,), daemon=True)
        if report is not None:
            self._teller.start()
        self._orders: queue.SimpleQueue[tuple[Callable[[], None], threading.Event] | None]
        self._orders = queue.SimpleQueue()
        self._woken, self._wake = os.pipe()
        self._poller = select.poll()
        self._filters: set[int] = set()
        """Descriptors of filters, all known to the thread alone."""
        self._handed: set[int] = set()
        """Those among them that the engine handed over."""
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(4)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the threads; calls that are refused from now on are not reported."""
        self._orders.put(None)
        os.write(self._wake, b"x")
        self._thread.join(5)
        self._told.put(None)
        if self._teller.is_alive():
            self._teller.join(PATIENCE)
        self._server.close()
        os.close(self._wake)
        os.close(self._woken)
        self.path.unlink(missing_ok=True)

    @property
    def hears(self) -> bool:
        """Whether any filter is listened to."""
        return bool(self._filters)

    def release(self) -> None:
        """Let go of the filters that the engine handed over: a process has one listener at most,
        and is to get another. Until it has, what they refuse fails with ENOSYS, untold."""

        def all_handed() -> None:
            for handle in tuple(self._handed):
                self._forget(handle)

        self._order(all_handed)

    def listen(self, handle: int) -> None:
        """Listen to one filter more, by the descriptor that seccomp(2) gave for it, which is ours
        from now on."""
        self._order(lambda: self._add(handle))

    def settle(self) -> None:
        """Wait until what was refused up to now is reported, for some seconds at most."""
        self._order(lambda: None)  # a call is answered first and noted then
        reported = threading.Event()
        self._told.put(reported)
        if self._teller.is_alive():
            reported.wait(PATIENCE)

    def _order(self, act: Callable[[], None]) -> None:
        """Done by the thread, and waited for."""
        done = threading.Event()
        self._orders.put((act, done))
        os.write(self._wake, b"x")
        done.wait(PATIENCE)

    def _serve(self) -> None:
        """One thread for the socket and all filters: one that the engine loads, and one more of
        each process that was there when the serving phase began."""
        door = self._server.fileno()
        for handle in (door, self._woken):
            self._poller.register(handle, select.POLLIN)
        while True:
            ready = [handle for handle, _ in self._poller.poll()]
            if self._woken in ready:
                os.read(self._woken, 1)
                order = self._orders.get()
                if order is None:
                    break
                order[0]()
                order[1].set()
                continue  # what was ready may have been let go
            for handle in ready:
                if handle == door:
                    for fresh in self._accept():
                        self._add(fresh)
                        self._handed.add(fresh)
                elif not self._answer(handle):
                    self._forget(handle)
        for handle in self._filters:
            os.close(handle)

    def _add(self, handle: int) -> None:
        self._filters.add(handle)
        self._poller.register(handle, select.POLLIN)

    def _forget(self, handle: int) -> None:
        self._poller.unregister(handle)
        self._filters.remove(handle)
        self._handed.discard(handle)
        os.close(handle)

    def _accept(self) -> list[int]:
        connection, _ = self._server.accept()
        with connection:
            found = array.array("i")
            _, messages, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4))
            for level, kind, data in messages:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    found.frombytes(data[: len(data) - len(data) % 4])
        return list(found)

    def _answer(self, handle: int) -> bool:
        """Refuse one call; False when the last process of the filter has ended."""
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(handle, NOTIF_RECV, notice)
        except FileNotFoundError:
            # The process was killed in between; or there is nobody left.
            return not _hung_up(handle)
        except OSError:
            return False
        number, pid, _, call, _, _, *arguments = _NOTICE.unpack(notice)
        engine = _is_engine(pid)
        with contextlib.suppress(OSError):
            fcntl.ioctl(handle, NOTIF_SEND, bytearray(_ANSWER.pack(number, 0, -EPERM, 0)))
        if not engine:
            self._note(shown(native_names().get(call, str(call)), tuple(arguments)), pid)
        return True

    def _note(self, name: str, pid: int) -> None:
        if name not in self.refused and len(self.refused) >= MOST_NAMES:
            name = "others"
        first = name not in self.refused
        self.refused[name] = self.refused.get(name, 0) + 1
        if first:
            self._told.put((name, pid))

    def _tell(self, report: Callable[[str, int], None]) -> None:
        """From a thread of its own: whoever reads what we report holds up no process."""
        while (entry := self._told.get()) is not None:
            if isinstance(entry, threading.Event):
                entry.set()
            else:
                report(*entry)


def _is_engine(pid: int) -> bool:
    """Whether it is the engine still, before the program: what it is refused there it can bear.
    Told by what it executes, since any process may call itself what it likes."""
    try:
        found = os.stat(f"/proc/{pid}/exe")
        copied = os.readlink(f"/proc/{pid}/exe").startswith("/memfd:runc_cloned:")
    except OSError:
        return False
    # runc executes a copy of itself in memory, or itself through a mount of its own.
    return copied or (found.st_dev, found.st_ino) == _engine_program()


@functools.cache
def _engine_program() -> tuple[int, int] | None:
    program = shutil.which("runc")
    found = os.stat(program) if program else None
    return (found.st_dev, found.st_ino) if found else None


def _hung_up(handle: int) -> bool:
    poller = select.poll()
    poller.register(handle, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poller.poll(0))
