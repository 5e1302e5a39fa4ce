"""Running code of one's own: by mounts, modes, filters, settings and Landlock; each is run for
real, too, by the process itself. And limits, which are read."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ringfence.probe import folders
from tests.system import acts
from tests.system.conditions import (
    NOEXEC,
    SOMEBODY,
    Step,
    bound,
    call,
    forked,
    landlock,
    limit,
    nothing_writable,
    proc,
    refused,
    refused_with,
    run,
    spaces,
    tmpfs,
    user,
    user_space,
    written,
)
from tests.system.probing import (
    CLOSED,
    INJECT,
    JOIN,
    OPEN,
    UNSUPPORTED,
    Act,
    Case,
    attempt,
    check,
    standing,
)

pytestmark = pytest.mark.system

EPERM = "seccomp (errno 1, operation not permitted)"
EACCES = "seccomp (errno 13, permission denied)"
PR_SET_MDWE = 65
EXECUTE = 1
TRUE = "/usr/bin/true"


def _view(flags: int = 0) -> tuple[Step, ...]:
    """A view in which /tmp is all that can be written to, and the working folder."""
    return (spaces("mnt"), partial(os.chdir, "/tmp"), nothing_writable,
            tmpfs("/tmp", flags), partial(os.chdir, "/tmp"))  # fmt: skip


PROTECTED = (
    spaces("mnt"), partial(os.chdir, "/tmp"), nothing_writable,
    *(tmpfs(path, data="mode=755") for path in ("/dev/shm", "/run", "/var/tmp",
                                                                "/tmp")),
    partial(os.chdir, "/tmp"), user(SOMEBODY),
)  # fmt: skip
"""Every folder is there, and on a writable mount is root's alone."""


def _drop(folder: str = "/tmp") -> None:
    """A copy of true(1), and its end: what a dropper does."""
    path = f"{folder}/dropped-{os.getpid()}"
    try:
        shutil.copyfile(TRUE, path)
        os.chmod(path, 0o700)
        acts.executed(path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _load(folder: str = "/tmp") -> None:
    """A copy of a library, mapped executable as the loader does."""
    path = f"{folder}/dropped-{os.getpid()}"
    try:
        shutil.copyfile(TRUE, path)
        with open(path, "rb") as file:
            mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _in_memory() -> None:
    """true(1) from a file in memory."""
    handle = os.memfd_create("test", 0x10)  # MFD_EXEC
    with open(TRUE, "rb") as file:
        os.write(handle, file.read())
    path = f"/proc/self/fd/{handle}"
    again = os.open(path, os.O_RDONLY)
    os.close(handle)
    os.set_inheritable(again, True)
    acts.executed(f"/proc/self/fd/{again}")


DROPPED: tuple[tuple[str, Act], ...] = (
    ("execution.dropped", _drop), ("execution.dropped-by-name", _drop), ("execution.loader", _load),
)  # fmt: skip


@pytest.mark.parametrize(("probe", "act"), DROPPED)
@pytest.mark.parametrize(
    ("closed", "by"),
    [(_view(NOEXEC), "mount (noexec)"), ((*_view(), nothing_writable), "read-only mount"),
     (PROTECTED, "file mode")],
    ids=("noexec", "read-only", "mode"),
)  # fmt: skip
def test_a_dropped_program(probe: str, act: Act, closed: tuple[Step, ...], by: str) -> None:
    check(Case(probe, (*_view(), user(SOMEBODY)), closed, by, act))


def _elsewhere(mode: int) -> Step:
    """A folder that no list has, on a mount that permits execution, where all others do not."""

    def step() -> None:
        tmpfs("/srv", data="mode=755")()
        os.makedirs("/srv/app/data")
        os.chmod("/srv/app/data", mode)

    return step


@pytest.mark.parametrize(("probe", "load"), [(name, act is _load) for name, act in DROPPED])
def test_a_program_dropped_where_nobody_looks(probe: str, load: bool) -> None:
    act = partial(_load if load else _drop, "/srv/app/data")
    shut = (*_view(NOEXEC), _elsewhere(0o755), user(SOMEBODY))
    check(Case(probe, (*_view(NOEXEC), _elsewhere(0o777), user(SOMEBODY)), shut, "mount (noexec)",
               act))  # fmt: skip


def test_folders_that_were_not_all_looked_at_close_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """But a filter refuses execution wherever it is tried."""
    monkeypatch.setattr(folders, "MOST_LOOKED_AT", 1)
    shut = (*_view(NOEXEC), _elsewhere(0o755), user(SOMEBODY))
    with standing(*shut) as there:
        shown = attempt(there.pid, *(probe for probe, _ in DROPPED))
    assert {one.seen for one in shown.values()} == {UNSUPPORTED}
    with standing(*_view(), refused("execve", "execveat")) as there:
        shown = attempt(there.pid, "execution.dropped", "execution.dropped-by-name")
    assert {one.seen for one in shown.values()} == {CLOSED}


@pytest.mark.parametrize(
    ("probe", "names", "number"),
    [("execution.dropped", ("execve", "execveat"), 1),
     ("execution.dropped", ("execve", "execveat"), 13),
     ("execution.dropped-by-name", ("execve",), 1), ("execution.dropped-by-name", ("execve",), 13)],
)  # fmt: skip
def test_a_filter_that_answers_as_a_mount_would(
    probe: str, names: tuple[str, ...], number: int
) -> None:
    """EACCES from a filter is the filter's, though a noexec mount says the same."""
    by = EPERM if number == errno.EPERM else EACCES
    check(Case(probe, _view(), (*_view(), refused(*names, errno=number)), by, _drop))


def test_one_way_to_execute_is_enough() -> None:
    for left in (("execve",), ("execveat",)):
        check(Case("execution.memory-file", (refused(*left),), (refused("execve", "execveat"),),
                   EPERM))  # fmt: skip


def test_a_landlock_domain_without_execution() -> None:
    """Seen by inject alone. The probe's own files lie in folders that the domain covers."""
    within: tuple[Step, ...] = (*_view(), partial(landlock, EXECUTE))
    for probe in ("execution.dropped", "execution.dropped-by-name"):
        check(Case(probe, _view(), within, "Landlock", _drop, INJECT))
        with standing(*within) as there:
            assert attempt(there.pid, probe, stance=JOIN)[probe].seen == OPEN


def test_a_file_in_memory() -> None:
    opened = (user(SOMEBODY),)
    check(Case("execution.memory-file", opened, (*opened, refused("memfd_create")), EPERM,
               _in_memory))  # fmt: skip


def test_the_setting_of_files_in_memory() -> None:
    """vm.memfd_noexec belongs to a PID namespace: at 1 one has only to ask, at 2 it is refused."""
    path = "/proc/sys/vm/memfd_noexec"
    own = (spaces("pid", "mnt"), forked, proc())
    check(
        Case(
            "execution.memory-file",
            (*own, written(path, "1")),
            (*own, written(path, "2")),
            "kernel setting (vm.memfd_noexec)",
            _in_memory,
        )
    )


def test_files_that_may_not_be_executed_still_serve() -> None:
    """What other probes do with a file in memory is not disturbed by that setting."""
    names = ("capability.chown", "capability.dac-override", "capability.setfcap")
    own = (spaces("pid", "mnt"), forked, proc(), written("/proc/sys/vm/memfd_noexec", "2"))
    with standing(*own) as there:
        shown = attempt(there.pid, *names)
    assert {one.seen for one in shown.values()} == {OPEN}
    with standing(*own, user(SOMEBODY)) as there:
        shown = attempt(there.pid, *names)
    assert {one.seen for one in shown.values()} == {CLOSED}


# --- memory --------------------------------------------------------------------------------------


def _both() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


def _after() -> None:
    place = call("mmap", 0, 4096, 3, 0x22, -1, 0)
    call("mprotect", place, 4096, 5)


def _map_memory() -> None:
    handle = os.memfd_create("test")
    os.ftruncate(handle, 4096)
    mmap.mmap(handle, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)


def _over_code() -> None:
    """A byte of a read-only page, by /proc/self/mem."""
    page = call("mmap", 0, 4096, 1, 0x22, -1, 0)
    handle = os.open("/proc/self/mem", os.O_RDWR)
    os.pwrite(handle, b"\0", page)


@pytest.mark.parametrize(
    ("probe", "closed", "act"),
    [("execution.writable-executable", refused_with("mmap", 2, 6, mask=6), _both),
     ("execution.written-executable", refused_with("mprotect", 2, 4, mask=4), _after),
     ("execution.map-memory-file", refused_with("mmap", 2, 4, mask=6), _map_memory),
     ("execution.own-code", refused("pwrite64"), _over_code)],
)  # fmt: skip
def test_memory_under_a_filter(probe: str, closed: Step, act: Act) -> None:
    check(Case(probe, (), (closed,), EPERM, act))


def test_memory_that_may_not_be_written_and_executed() -> None:
    """PR_SET_MDWE is of the process itself: inject has it, and join does not see it."""
    closed = (partial(call, "prctl", PR_SET_MDWE, 1, 0, 0, 0),)
    by = "process setting (PR_SET_MDWE)"
    check(
        Case("execution.writable-executable", (), closed, by, _both, INJECT),
        Case("execution.written-executable", (), closed, by, _after, INJECT),
    )


def test_ones_own_code() -> None:
    """Without /proc there is no way; a process that changed users only has to ask for its own."""
    hidden = (spaces("mnt"), tmpfs("/proc"))
    check(Case("execution.own-code", (spaces("mnt"),), hidden, "missing file", _over_code))
    dull = (user(SOMEBODY), partial(call, "prctl", 4, 0, 0, 0, 0))
    check(Case("execution.own-code", dull, (*hidden, user(SOMEBODY)), "missing file"))


# --- programs that are there ---------------------------------------------------------------------

INTERPRETERS = {
    "sh": "/bin/sh", "bash": "/bin/bash", "busybox": "/usr/bin/busybox",
    "python": "/usr/bin/python3", "perl": "/usr/bin/perl", "node": "/usr/bin/node",
    "ruby": "/usr/bin/ruby", "lua": "/usr/bin/lua", "php": "/usr/bin/php", "awk": "/usr/bin/awk",
    "openssl": "/usr/bin/openssl", "curl": "/usr/bin/curl", "gcc": "/usr/bin/gcc",
    "apt": "/usr/bin/apt-get",
}  # fmt: skip


def _only(path: str, mode: str, flags: int = 0) -> tuple[Step, ...]:
    """A view whose folder of programs holds one, true(1) under another's name, in a mount with
    these flags."""
    name = os.path.basename(path)
    return (spaces("mnt"), tmpfs("/mnt", data="mode=755"),
            run("sh", "-c", f"cp {TRUE} /mnt/{name} && chmod {mode} /mnt/{name}"),
            tmpfs("/usr/local/bin"), bound("/mnt", "/usr/bin", flags))  # fmt: skip


@pytest.mark.parametrize("name", INTERPRETERS)
def test_an_interpreter(name: str) -> None:
    path = f"/usr/bin/{os.path.basename(INTERPRETERS[name])}"
    probe = f"execution.{name}"
    act = partial(acts.executed, path)
    opened = (*_only(path, "755"), user(SOMEBODY))
    check(
        Case(probe, opened, (*_only(path, "744"), user(SOMEBODY)), "file mode", act),
        Case(probe, opened, (*_only("/usr/bin/other", "755"), user(SOMEBODY)), "missing file", act),
        Case(probe, opened, (*_only(path, "755", NOEXEC), user(SOMEBODY)), "mount (noexec)", act),
    )


def test_its_own_program_again() -> None:
    program = os.path.realpath("/proc/self/exe")
    check(Case("execution.own-program", (), (refused("execve"),), EPERM,
               partial(acts.executed, program, "-c", "")),
          Case("execution.own-program", (spaces("mnt"),),
               (spaces("mnt"), bound(program, program, NOEXEC)), "mount (noexec)",
               partial(acts.executed, program, "-c", "")))  # fmt: skip


# --- limits --------------------------------------------------------------------------------------


LIMITED = (("resource.processes", resource.RLIMIT_NPROC, "RLIMIT_NPROC"),
           ("resource.files", resource.RLIMIT_NOFILE, "RLIMIT_NOFILE"),
           ("resource.core-dumps", resource.RLIMIT_CORE, "RLIMIT_CORE"),
           ("resource.file-size", resource.RLIMIT_FSIZE, "RLIMIT_FSIZE"),
           ("resource.locked-memory", resource.RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"))  # fmt: skip
HELD = 4096


@pytest.mark.parametrize(("probe", "kind", "name"), LIMITED)
def test_a_limit_of_the_process(probe: str, kind: int, name: str) -> None:
    """Soft and hard, for somebody without privilege. Open is only where the hard limit here
    permits it: raising one takes what nobody here has."""
    own = user(SOMEBODY)
    closed = (limit(kind, HELD, HELD), own)
    if resource.getrlimit(kind)[1] == resource.RLIM_INFINITY:
        check(Case(probe, (limit(kind, resource.RLIM_INFINITY), own), closed, f"limit ({name})"),
              Case(probe, (limit(kind, HELD), own), closed, f"limit ({name})"))  # fmt: skip
        raising = refused("prlimit64", "setrlimit")
        check(Case(probe, (limit(kind, HELD), own), (limit(kind, HELD), own, raising),
                   f"limit ({name})"))  # fmt: skip
        return
    with standing(*closed) as there:
        shown = attempt(there.pid, probe)[probe]
    assert (shown.seen, shown.by, shown.detail) == (CLOSED, f"limit ({name})", str(HELD))


def _lock_much() -> None:
    page = mmap.mmap(-1, 8 << 20)
    call("mlock", ctypes.addressof(ctypes.c_char.from_buffer(page)), 8 << 20)


def _fork() -> None:
    """One more process than a limit of one permits."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("probe", "kind", "name", "beyond", "capability"),
    [("resource.processes", resource.RLIMIT_NPROC, "RLIMIT_NPROC", _fork, "CAP_SYS_ADMIN"),
     ("resource.locked-memory", resource.RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK", _lock_much,
      "CAP_IPC_LOCK")],
)  # fmt: skip
def test_a_limit_that_does_not_hold_everybody(
    probe: str, kind: int, name: str, beyond: Step, capability: str
) -> None:
    """The kernel does not look at it for user 0, or with a capability (setrlimit(2))."""
    little, some = limit(kind, 1, 1), limit(kind, HELD, HELD)  # the probe needs processes, too
    closed = (some, user(SOMEBODY))
    for opened in ((little, beyond), (little, user(SOMEBODY, capability), beyond)):
        check(Case(probe, opened, closed, f"limit ({name})"))
    with (
        pytest.raises(AssertionError, match="could not be set up"),
        standing(little, user(SOMEBODY), beyond),
    ):
        pass
    # Over a user namespace of its own a capability passes over no limit.
    own = (user_space(f"0 {SOMEBODY} 1"), user(0, capability), some)
    with standing(*own) as there:
        assert attempt(there.pid, probe)[probe].seen == CLOSED


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A cgroup (version 1) of a test's own."""
    place = Path("/sys/fs/cgroup") / request.param / f"ringfence-test-{os.getpid()}"
    if not place.parent.is_dir():
        pytest.skip(f"no {request.param} cgroup of version 1 here")
    place.mkdir()
    yield place
    place.rmdir()


@pytest.mark.parametrize(
    ("group", "probe", "file", "value", "field"),
    [("memory", "resource.cgroup-memory", "memory.limit_in_bytes", "268435456", "memory_bytes"),
     ("pids", "resource.cgroup-pids", "pids.max", "64", "pids"),
     ("cpu", "resource.cgroup-cpu", "cpu.cfs_quota_us", "50000", "cpu_quota")],
    indirect=["group"],
)  # fmt: skip
def test_a_limit_of_the_cgroup(group: Path, probe: str, file: str, value: str, field: str) -> None:
    inside = partial(_joins, group)
    check(Case(probe, (inside,), (written(str(group / file), value), inside),
               f"cgroup ({field})"))  # fmt: skip


def _joins(place: Path) -> None:
    (place / "cgroup.procs").write_text("0")


def test_making_processes() -> None:
    """Four calls make processes: one that passes is enough."""
    every = ("clone", "clone3", "fork", "vfork")
    for left in every:
        opened = (refused(*(name for name in every if name != left)),)
        check(Case("resource.fork", opened, (refused(*every),), EPERM))
