"""A process of ours that enters where the workload's process stands, and waits there to be driven.

Two of them: the outer one enters cgroups, namespaces and root, and stays to collect the inner one,
which is born into the workload's PID namespace. Nobody in there may look into either: see `join`.
setns(2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from ringfence.collect.process.inside import setns
from ringfence.errors import InputError, MissingError
from ringfence.probe.confinement import SPACES, Confinement
from ringfence.probe.elf import program
from ringfence.probe.holding import hold_only
from ringfence.run import kernel, tracee

PATIENCE = 10.0
"""Seconds that entering may take."""
NAME = "ringfence-empty"
"""What the program in memory is called in /proc/PID/exe."""


@contextlib.contextmanager
def entered(pid: int, wanted: Confinement) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """A process of ours that has entered and waits: its number here, the descriptor of the empty
    program there, and what it says it could not join."""
    try:
        handles = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
                   for kind in wanted.spaces}  # fmt: skip
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        folder = os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"cannot be entered: {error.strerror}", where=f"PID {pid}") from None
    empty = _sealed_program()
    said, say = os.pipe()
    held, hold = os.pipe()
    outer = os.fork()
    if outer == 0:
        os.close(hold)
        os.close(said)
        _outer(handles, root, folder, empty, wanted, say, held)
    for handle in (*handles.values(), root, folder, empty, say, held):
        os.close(handle)
    try:
        child, notes = _answered(said, pid)
        yield child, empty, notes
    finally:
        os.close(hold)
        os.close(said)
        # It collects its child first; where it cannot (frozen with the workload), it is ended.
        _reaped(outer)


def _reaped(outer: int) -> None:
    limit = time.monotonic() + 1.0
    while time.monotonic() < limit:
        if os.waitpid(outer, os.WNOHANG)[0]:
            return
        time.sleep(0.002)
    os.kill(outer, signal.SIGKILL)
    os.waitpid(outer, 0)


def _sealed_program() -> int:
    """The smallest program in memory, which nobody can change (memfd_create(2)). Made here: a
    setting of the workload's PID namespace may forbid such files to be executed."""
    handle = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(handle, program())
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW
                | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)  # fmt: skip
    # The descriptor must not be open for writing anywhere while it is executed.
    again = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(handle)
    return again


def _answered(said: int, pid: int) -> tuple[int, tuple[str, ...]]:
    """`PID` and notes, or a reason after `!`, in lines that end with an empty one."""
    text = b""
    poller = select.poll()
    poller.register(said, select.POLLIN)
    while not text.endswith(b"\n\n"):
        part = os.read(said, 4096) if poller.poll(PATIENCE * 1000) else b""
        if not part:
            raise InputError("joining it did not come to an end", where=f"PID {pid}")
        text += part
    first, *notes = text.decode("utf-8", "replace").strip().splitlines()
    if first.startswith("!"):
        raise MissingError(f"cannot be joined: {first[1:]}", where=f"PID {pid}",
                           remedy="run as root (sudo)")  # fmt: skip
    return int(first), tuple(notes)


def _outer(
    handles: dict[str, int],
    root: int,
    folder: int,
    program: int,
    wanted: Confinement,
    say: int,
    held: int,
) -> None:
    """Joins all but the user namespace; its child, the one to be driven, is in the workload's PID
    namespace. Stays to collect it. Never returns."""
    notes: list[str] = []
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        kernel.die_with_parent()
        if os.geteuid() == 0:
            # Nobody in there may open its program or memory (ptrace(2), access mode checking).
            # Without root there is nothing to be had: it is all the same user's.
            kernel.undumpable()
        for file in wanted.cgroups:
            try:
                Path(file).write_text("0")
            except OSError as error:
                notes.append(f"cgroup not joined: {error.strerror}")
        for kind, handle in handles.items():
            if kind != "user":
                setns(handle, SPACES[kind])
        os.fchdir(root)
        if os.geteuid() == 0:
            os.chroot(".")
            os.fchdir(folder)
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            _inner(handles.get("user"), program, wanted, tell)
        os.close(tell)
        said = os.read(ready, 4096).decode("utf-8", "replace")
        os.read(ready, 1)  # its end is closed once it holds nothing open any more
        if said.startswith("!"):
            raise OSError(0, said[1:].strip())
        notes += said.splitlines()
        os.write(say, "\n".join([str(child), *notes, "", ""]).encode())
        os.read(held, 1)
        with contextlib.suppress(ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, tracee.WALL)
    except BaseException as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        with contextlib.suppress(OSError):
            os.write(say, f"!{reason}\n\n".encode())
    os._exit(0)


def _inner(user: int | None, program: int, wanted: Confinement, tell: int) -> None:
    """Enters the user namespace, drops all other descriptors and waits to be driven. Never
    returns."""
    note = ""
    try:
        kernel.die_with_parent()
        if user is not None:
            setns(user, SPACES["user"])
            # In there it is nobody, and would lose what it has by executing (capabilities(7)).
            kernel.keep_capabilities()
        if wanted.label:
            note = _take_on(wanted.label)
    except OSError as error:
        note = f"!{error.strerror}: {error.filename}"
    hold_only(program, tell)
    os.write(tell, f"{note}\n".encode())
    os.close(tell)
    while not note.startswith("!"):
        signal.pause()
    os._exit(1)


def _take_on(label: str) -> str:
    """AppArmor takes a request, with the mode left out; SELinux the context itself. What was
    refused, '' where it was not."""
    profile, _, mode = label.partition(" (")
    text = f"changeprofile {profile}" if mode else label
    try:
        Path("/proc/thread-self/attr/current").write_text(text)
    except OSError as error:
        return f"the label {label} was not taken on: {error.strerror}"
    return ""
