"""Running code of the attacker's own: dropped programs, memory files, loaders, interpreters.

An execution is stopped at the exec event, before the first instruction, and the child is killed
there. Files that it needs have no name (O_TMPFILE, memfd_create(2)) and end with it; where a
file system has no nameless files, one with a name of ours is made and removed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from ringfence.model.mounts import covering
from ringfence.probe.battery.kernel import memory
from ringfence.probe.definition import (
    AT_FDCWD,
    Inside,
    Outcome,
    Probe,
    Seen,
    Tried,
    closed,
    opened,
    undecided,
)
from ringfence.probe.elf import program
from ringfence.probe.view import INTERPRETERS

GROUP = "execution"
O_RDONLY, O_RDWR, O_CREAT, O_EXCL = 0, 2, 0o100, 0o200
O_TMPFILE = 0o20000000 | 0o200000
AT_EMPTY_PATH = 0x1000
READ, WRITE, EXEC = 1, 2, 4
PRIVATE, ANONYMOUS = 2, 0x20


def memory_file(inside: Inside) -> Outcome:
    """Executes a nameless file in memory up to its first instruction."""
    handle = memory(inside)
    if handle < 0:
        return _no_memory_file(inside, handle)
    return _executed(inside, handle, "a file in memory")


def _no_memory_file(inside: Inside, refusal: int) -> Outcome:
    """One that may be executed is refused with EACCES by a setting of the PID namespace's
    (memfd_create(2))."""
    found = inside.judged(refusal)
    if refusal == -errno.EACCES and inside.passes("memfd_create", "ringfence", 0).passes:
        return closed("kernel setting (vm.memfd_noexec)")
    return found


def _executed(inside: Inside, handle: int, detail: str, path: str = "") -> Outcome:
    """Writes the program, opens it again for reading alone (a file that is open for writing does
    not execute), and executes that."""
    inside.call("write", handle, program(), len(program()))
    inside.call("fchmod", handle, 0o700)
    own = f"/proc/self/fd/{handle}"
    again = inside.call("openat", AT_FDCWD, own, O_RDONLY, 0)
    if again >= 0:
        inside.call("close", handle)
    else:
        again = handle
    result = inside.execute("execveat", again, "", 0, 0, AT_EMPTY_PATH, path=path)
    if result < 0 and not inside.passes("execveat", again, "", 0, 0, AT_EMPTY_PATH).passes:
        result = inside.execute("execve", f"/proc/self/fd/{again}", 0, 0, path=path)
    return inside.judged(result, (errno.ETXTBSY,), detail=detail)


def dropped(inside: Inside) -> Outcome:
    """Tries each folder that the workload may write: a nameless file in it is executed up to its
    first instruction."""
    found = refusal = None
    for place in _writable(inside):
        handle = inside.open(place, O_TMPFILE | O_RDWR, 0o700)
        if handle < 0:
            refusal = _more_telling(refusal, handle, inside, place)
            continue
        found = _executed(inside, handle, place, _noexec(inside, place))
        if found.seen is Seen.OPEN:
            return found
    return _nowhere(inside, found or refusal)


def _writable(inside: Inside) -> Iterator[str]:
    """The usual places, and where none of them did, whatever else it may write."""
    yield from inside.view.places
    yield from inside.view.folders.found


def _nowhere(inside: Inside, refusal: Outcome | None) -> Outcome:
    """What it means that no place did: a filter refuses in all places, a mount or a mode in those
    alone that were tried."""
    found = refusal or closed("missing file", "no folder to write in")
    tried = found.tried
    if tried is not None and not inside.passes(tried.name, *tried.arguments).passes:
        return found
    if found.seen is Seen.CLOSED and not inside.view.folders.whole:
        return undecided(f"refused where it was tried ({found.detail}), other folders are left")
    return found


def _more_telling(
    before: Outcome | None, result: int, inside: Inside, place: str
) -> Outcome | None:
    """Why no folder could be written to: the first that is there says it."""
    if before is not None or result in (-errno.ENOENT, -errno.ENOTDIR, -errno.EOPNOTSUPP):
        return before
    return inside.judged(result, detail=place)


def dropped_with_a_name(inside: Inside) -> Outcome:
    """The same by a file with a name of ours, removed right after, as most droppers do it."""
    found = refusal = None
    for place in _writable(inside):
        path = f"{place.rstrip('/')}/.ringfence-{os.getpid()}"
        handle = inside.open(path, O_RDWR | O_CREAT | O_EXCL, 0o700)
        if handle < 0:
            refusal = _more_telling(refusal, handle, inside, place)
            continue
        try:
            inside.call("write", handle, program(), len(program()))
            inside.call("close", handle)
            with inside.child.fork() as runner:
                result = runner.call("execve", path, 0, 0)
                ran = runner.executed
        finally:
            inside.undo("unlinkat", AT_FDCWD, path, 0)
        if ran:
            return opened(place)
        tried = Tried("execve", (path, 0, 0), -result, _noexec(inside, place))
        found = Outcome(Seen.CLOSED, place, tried)
    return _nowhere(inside, found or refusal)


def loader(inside: Inside) -> Outcome:
    """Maps a nameless file of each writable folder executable, as a loader does with a program
    that may not be executed (ld.so PROGRAM): no code of it runs."""
    found = refusal = None
    for place in _writable(inside):
        handle = inside.open(place, O_TMPFILE | O_RDWR, 0o700)
        if handle < 0:
            refusal = _more_telling(refusal, handle, inside, place)
            continue
        inside.call("write", handle, program(), len(program()))
        result = inside.call("mmap", 0, 4096, READ | EXEC, PRIVATE, handle, 0)
        if result >= 0:
            return opened(place)
        found = Outcome(Seen.CLOSED, place, inside.last, layer=_not_mapped(inside, place, result))
    return _nowhere(inside, found or refusal)


def _not_mapped(inside: Inside, place: str, result: int) -> str:
    """mmap(2) answers EPERM for a file of a noexec mount."""
    tried = inside.last
    passes = tried is None or inside.passes(tried.name, *tried.arguments).passes
    noexec = bool(_noexec(inside, place))
    return "mount (noexec)" if result == -errno.EPERM and noexec and passes else ""


def _noexec(inside: Inside, place: str) -> str:
    """The place, where its mount permits no execution: that may have refused a file of ours,
    whose mode did not."""
    mount = covering(inside.view.process.mounts.value or (), place)
    return place if mount is not None and "noexec" in mount.options else ""


def map_memory_file(inside: Inside) -> Outcome:
    """Maps a nameless file in memory executable, and jumps nowhere."""
    handle = memory(inside)
    if handle < 0:
        handle = inside.call("memfd_create", "ringfence", 0)
    if handle < 0:
        return inside.judged(handle)
    inside.call("ftruncate", handle, 4096)
    return inside.judged(inside.call("mmap", 0, 4096, READ | EXEC, PRIVATE, handle, 0))


def writable_and_executable(inside: Inside) -> Outcome:
    """Maps a page of its own writable and executable at once, and puts nothing there."""
    flags = PRIVATE | ANONYMOUS
    return inside.judged(inside.call("mmap", 0, 4096, READ | WRITE | EXEC, flags, -1, 0))


def written_then_executable(inside: Inside) -> Outcome:
    """Makes a page of its own executable after it was writable, as a compiler at run time does."""
    page = inside.call("mmap", 0, 4096, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0)
    if page < 0:
        return inside.judged(page)
    return inside.judged(inside.call("mprotect", page, 4096, READ | EXEC))


def own_code(inside: Inside) -> Outcome:
    """Writes one byte, the one that is there, to a read-only page of its own through
    /proc/self/mem, which passes over the page's protection (mm/gup.c, FOLL_FORCE)."""
    page = inside.call("mmap", 0, 4096, READ, PRIVATE | ANONYMOUS, -1, 0)
    if page < 0:
        return inside.judged(page)
    inside.child.expose()
    handle = inside.open("/proc/self/mem", O_RDWR)
    if handle < 0:
        return inside.judged(handle)
    return inside.judged(inside.call("pwrite64", handle, b"\0", 1, page))


def _interpreter(name: str) -> Probe:
    def attempt(inside: Inside) -> Outcome:
        """Executes a program that is there up to its first instruction."""
        path = inside.view.interpreters.get(name)
        if path is None:
            return closed("missing file", f"none of {', '.join(INTERPRETERS[name])}")
        return inside.judged(inside.execute("execve", path, 0, 0, path=path), detail=path)

    return Probe(f"execution.{name}", GROUP, f"Execute {name}", "T1059", attempt)


def own_program(inside: Inside) -> Outcome:
    """Executes its own program again up to its first instruction."""
    path = inside.view.process.executable
    return inside.judged(inside.execute("execve", path, 0, 0, path=path), detail=path)


PROBES = (
    Probe("execution.memory-file", GROUP, "Execute a file in memory (memfd)", "T1620", memory_file),
    Probe("execution.dropped", GROUP, "Execute a dropped file", "T1105", dropped,
          ("mount:executable-writable", {"any": ["syscall:execve", "syscall:execveat"]})),
    Probe("execution.dropped-by-name", GROUP, "Execute a dropped file by its name", "T1105",
          dropped_with_a_name),
    Probe("execution.loader", GROUP, "Load a dropped file (as ld.so does)", "T1574", loader),
    Probe("execution.map-memory-file", GROUP, "Load a file in memory", "T1620", map_memory_file),
    Probe("execution.writable-executable", GROUP, "Have memory writable and executable", "T1055",
          writable_and_executable),
    Probe("execution.written-executable", GROUP, "Make written memory executable", "T1055",
          written_then_executable),
    Probe("execution.own-code", GROUP, "Rewrite its own code (/proc/self/mem)", "T1055", own_code),
    Probe("execution.own-program", GROUP, "Execute its own program again", "T1106", own_program),
    *(_interpreter(name) for name in INTERPRETERS),
)  # fmt: skip
