"""Namespaces and mounts: with the capability and without, with a filter, a setting, a chroot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pytest

from ringfence.collect.process.inside import setns
from ringfence.run import kernel
from tests.system.conditions import (
    KILL_PROCESS,
    SOMEBODY,
    SPACES,
    Step,
    answered,
    bound,
    call,
    entered,
    forked,
    no_new_privileges,
    proc,
    refused,
    refused_in_64_bits,
    refused_with,
    spaces,
    tmpfs,
    user,
    user_space,
    without,
    written,
)
from tests.system.probing import CLOSED, INJECT, OPEN, Act, Case, attempt, check, standing

pytestmark = pytest.mark.system

ADMIN = "CAP_SYS_ADMIN"
EPERM = "seccomp (errno 1, operation not permitted)"
ENOSYS = "seccomp (errno 38, function not implemented)"
OTHERS = tuple(kind for kind in SPACES if kind != "user")
OVERLAY, TMPFS = b"overlay", b"tmpfs"


def _new(*kinds: str) -> Act:
    return partial(kernel.unshare, sum(SPACES[kind] for kind in kinds))


def _mounted() -> None:
    """tmpfs over /mnt, in a mount namespace of one's own that does not reach the host's."""
    kernel.unshare(SPACES["mnt"])
    kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/mnt", "tmpfs")


MAKING = ("unshare", "clone", "clone3")


def _refused_flag(flag: int, *, left: str = "", errno: int = 1) -> tuple[Step, ...]:
    """Filters of the calls that make namespaces, but for the one that is left. Those with a flag
    that they see; clone3, which hides its flags, as kernels without it do, so that forks go on."""
    steps = {
        "unshare": refused_with("unshare", 0, flag, flag, errno),
        "clone": refused_with("clone", 0, flag, flag, errno),
        "clone3": refused("clone3", errno=38),
    }
    return tuple(step for name, step in steps.items() if name != left)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_new_namespace(kind: str) -> None:
    check(Case(f"namespace.unshare-{kind}", (user(SOMEBODY, ADMIN),), (user(SOMEBODY),),
               f"capability {ADMIN}", _new(kind)))  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_a_new_namespace_within_a_user_namespace(kind: str) -> None:
    """In a user namespace the capability counts; a filter that looks at this flag closes it."""
    own = (user_space(f"{SOMEBODY} {SOMEBODY} 1"), user(SOMEBODY, ADMIN))
    flag = SPACES[kind]
    check(Case(f"namespace.unshare-{kind}", own,
               (*own, *_refused_flag(flag)), EPERM, _new(kind)))  # fmt: skip


@pytest.mark.parametrize("left", MAKING)
@pytest.mark.parametrize("kind", ["user", "net"])
def test_a_call_that_filters_leave(kind: str, left: str) -> None:
    """The same namespace by any of three calls."""
    flag = SPACES[kind]
    steps = (user(SOMEBODY), *_refused_flag(flag, left=left))
    probes = ["namespace.unshare-user"] if kind == "user" else []
    with standing(*steps) as there:
        shown = attempt(there.pid, f"namespace.user-and-{'mnt' if probes else kind}", *probes,
                        *(["namespace.netfilter-in-user"] if kind == "net" else []))  # fmt: skip
    assert {one.seen for one in shown.values()} == {OPEN}, shown
    with standing(user(SOMEBODY), *_refused_flag(flag)) as there:
        assert {one.seen for one in attempt(there.pid, *shown).values()} == {CLOSED}


def test_a_call_that_ends_the_process_leaves_the_others() -> None:
    with standing(user(SOMEBODY), answered("unshare", KILL_PROCESS)) as there:
        shown = attempt(there.pid, "namespace.unshare-user", "namespace.mount-in-user")
    assert {one.seen for one in shown.values()} == {OPEN}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_user_namespace_and_another_in_one_call(kind: str) -> None:
    none = _no_more_user_namespaces
    check(Case(f"namespace.user-and-{kind}", (user(SOMEBODY),), (*none, user(SOMEBODY)),
               "kernel setting (user.max_*_namespaces)", _new("user", kind)))  # fmt: skip


_no_more_user_namespaces: tuple[Step, ...] = (
    user_space("0 0 65536"), written("/proc/sys/user/max_user_namespaces", "0"),
)  # fmt: skip
"""The setting belongs to the user namespace that one is in (namespaces(7))."""


@pytest.mark.parametrize(
    ("closed", "by"),
    [((*_no_more_user_namespaces, user(SOMEBODY)), "kernel setting (user.max_*_namespaces)"),
     ((user(SOMEBODY), *_refused_flag(SPACES["user"])), EPERM),
     ((user(SOMEBODY), *_refused_flag(SPACES["user"], errno=38)), ENOSYS),
     ((spaces("mnt"), tmpfs("/mnt"), partial(os.chroot, "/mnt"), partial(os.chdir, "/"),
       user(SOMEBODY)), "kernel (credentials or a setting)")],
    ids=("setting", "filter", "filter-enosys", "chroot"),
)  # fmt: skip
def test_a_user_namespace(closed: tuple[Step, ...], by: str) -> None:
    check(Case("namespace.unshare-user", (user(SOMEBODY),), closed, by, _new("user")))


@pytest.mark.parametrize("kind", [kind for kind in SPACES if kind != "time"])
def test_the_flags_of_clone(kind: str) -> None:
    """Filters see clone's flags: one that looks at this one alone, and one at the one beside it."""
    flag = SPACES[kind]
    beside = SPACES["net" if kind != "net" else "uts"]
    check(Case(f"namespace.clone-{kind}", (refused_with("clone", 0, beside, mask=beside),),
               (refused_with("clone", 0, flag, mask=flag),), EPERM))  # fmt: skip
    # The kernel takes no more of them than the lower half.
    with standing(refused_in_64_bits("clone", 0, flag | 17)) as there:
        shown = attempt(there.pid, f"namespace.clone-{kind}")
    assert {one.seen for one in shown.values()} == {OPEN}


def test_clone3() -> None:
    check(
        Case("namespace.clone3", (), (refused("clone3", errno=38),), ENOSYS),
        Case("namespace.clone3", (), (refused("clone3"),), EPERM),
    )


# --- those of process 1 --------------------------------------------------------------------------

HOSTS = tuple(kind for kind in OTHERS if kind not in ("pid", "time"))


@pytest.fixture(scope="module")
def first() -> Iterator[int]:
    """Process 1 of a PID namespace of its own, which otherwise stands where the host does (the
    host's own may be out of reach even for root)."""
    with standing(spaces("pid", "mnt"), forked, proc(), orphan=True) as there:
        yield there.pid


@pytest.mark.parametrize("kind", [*HOSTS, "time"])
def test_entering_the_namespace_of_process_1(first: int, kind: str) -> None:
    """From one of its own: as root, and without what it takes."""
    probe = f"namespace.enter-{kind}"
    own = (entered(first, "pid", "mnt"), spaces(kind), forked)
    act = partial(_entered, kind)
    check(
        Case(probe, own, (*own, without(ADMIN)), f"capability {ADMIN}", act),
        Case(probe, own, (*own, user(SOMEBODY, ADMIN)), "capability CAP_SYS_PTRACE", act),
        Case(probe, own, (*own, refused("setns")), EPERM, act),
    )
    if kind == "mnt":
        check(Case(probe, own, (*own, without("CAP_SYS_CHROOT")), "capability CAP_SYS_CHROOT", act))


def _entered(kind: str) -> None:
    handle = os.open(f"/proc/1/ns/{kind}", os.O_RDONLY)
    setns(handle, SPACES[kind])


def test_entering_the_pid_namespace_of_process_1(first: int) -> None:
    """setns(2) goes down in PID namespaces and never up."""
    below = (entered(first, "pid", "mnt"), forked, spaces("pid"), forked)
    with standing(*below, act=partial(_entered, "pid")) as there:
        shown = attempt(there.pid, "namespace.enter-pid")["namespace.enter-pid"]
    assert there.errno != 0
    assert (shown.seen, shown.by) == (CLOSED, "namespace (pid)")


@pytest.mark.parametrize("kind", [kind for kind in HOSTS if kind != "mnt"])
def test_where_process_1_stands_beside_it(first: int, kind: str) -> None:
    """Nowhere to go: the same namespace as process 1's, be it the host's or another."""
    probe = f"namespace.enter-{kind}"
    own = (entered(first, "pid", "mnt"), spaces(kind), forked)
    check(Case(probe, own, (entered(first, "pid", "mnt"), forked), "same namespace"))
    both = (spaces("pid", "mnt", kind), forked, proc())
    check(Case(probe, own, both, "namespace (pid)"))


# --- mounts --------------------------------------------------------------------------------------

FSOPEN = partial(call, "fsopen", TMPFS, 0)
TREE = partial(call, "open_tree", -100, b"/", 0x8001)
MOUNTS: tuple[tuple[str, str, Act | None], ...] = (
    ("namespace.mount", "mount", _mounted),
    ("namespace.pivot-root", "pivot_root", None),
    ("namespace.new-mount-api", "fsopen", FSOPEN),
    ("namespace.clone-tree", "open_tree", TREE),
)


@pytest.mark.parametrize(("probe", "name", "act"), MOUNTS)
def test_mounting(probe: str, name: str, act: Act | None) -> None:
    admin = (user(SOMEBODY, ADMIN),)
    check(
        Case(probe, admin, (user(SOMEBODY),), f"capability {ADMIN}", act),
        Case(probe, admin, (*admin, refused(name)), EPERM, act),
    )


@pytest.mark.parametrize(("probe", "name", "act"), MOUNTS)
def test_mounting_over_the_hosts_view_from_a_user_namespace(
    probe: str, name: str, act: Act | None
) -> None:
    """All capabilities, over a mount namespace of one's own and over the host's."""
    own = (user_space("0 0 65536"),)
    check(Case(probe, (*own, spaces("mnt")), own, "user namespace",
               act if name != "mount" else None))  # fmt: skip


def _within(*arguments: object) -> None:
    kernel.unshare(SPACES["user"] | SPACES["mnt"])
    call(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probe", "name", "act"),
    [("namespace.overlay-in-user", "fsopen", partial(_within, "fsopen", OVERLAY, 0)),
     ("namespace.mount-in-user", "mount",
      partial(_within, "mount", b"tmpfs", b"/mnt", TMPFS, 0, None)),
     ("namespace.netfilter-in-user", "sendto", None),
     ("namespace.packet-in-user", "socket", None)],
)  # fmt: skip
def test_in_a_user_namespace_of_its_own(probe: str, name: str, act: Act | None) -> None:
    opened = (user(SOMEBODY),)
    setting = "kernel setting (user.max_*_namespaces)"
    check(
        Case(probe, opened, (*_no_more_user_namespaces, user(SOMEBODY)), setting, act),
        Case(probe, opened, (user(SOMEBODY), *_refused_flag(SPACES["user"])), EPERM, act),
        Case(probe, opened, (user(SOMEBODY), refused(name)), EPERM, act),
    )


def test_no_new_privileges_closes_none_of_this() -> None:
    """User namespaces are made all the same: no finding may come from the flag alone."""
    with standing(user(SOMEBODY), no_new_privileges, act=_new("user")) as there:
        shown = attempt(there.pid, "namespace.unshare-user", "namespace.mount-in-user")
    assert there.errno == 0
    assert {one.seen for one in shown.values()} == {OPEN}


# --- ways out by folders -------------------------------------------------------------------------


def _jail(*, stay: bool = False, hold: bool = False) -> tuple[Step, ...]:
    """A root of one's own below /mnt; outside it the working folder, or a folder held open."""

    def step() -> None:
        if hold:
            os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
        os.chroot("/mnt")
        if not stay:
            os.chdir("/")

    return (spaces("mnt"), tmpfs("/mnt"), partial(os.mkdir, "/mnt/proc"),
            bound("/proc", "/mnt/proc"), partial(os.chdir, "/etc"), step)  # fmt: skip


def test_a_working_folder_outside_the_root() -> None:
    check(Case("file.working-folder", _jail(stay=True), _jail(), "namespace (mnt)",
               _out_by(".")))  # fmt: skip


def test_a_folder_held_open_outside_the_root() -> None:
    check(Case("file.open-folders", _jail(hold=True), _jail(), "namespace (mnt)", None, INJECT))


def _moved(number: int) -> None:
    """The folder that is held open gets another number."""
    handle = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    os.dup2(handle, number)
    os.close(handle)


def test_a_folder_held_open_by_a_high_number() -> None:
    opened: tuple[Step, ...] = (partial(_moved, 3000), *_jail())
    check(Case("file.open-folders", opened, _jail(), "namespace (mnt)", None, INJECT))


BEGIN = ("fchdir", "openat", "openat2", "open", "chdir", "execve", "execveat", "open_tree",
         "mkdirat", "unlinkat", "mknodat", "symlinkat", "linkat", "renameat",
         "renameat2")  # fmt: skip
"""Calls that begin a path in a folder that is open, or is worked in."""


@pytest.mark.parametrize("left", ["openat", "chdir", "unlinkat"])
def test_a_folder_held_open_is_left_by_any_call(left: str) -> None:
    """Neither fchdir nor getcwd is needed."""
    names = (*(name for name in BEGIN if name != left), "getcwd")
    check(Case("file.open-folders", (*_jail(hold=True), refused(*names)),
               (*_jail(hold=True), refused(*BEGIN)), EPERM, None, INJECT))  # fmt: skip


def test_a_working_folder_is_left_without_asking_where_it_is() -> None:
    check(Case("file.working-folder", (*_jail(stay=True), refused("getcwd")),
               (*_jail(stay=True), refused(*BEGIN)), EPERM, _out_by(".")),
          Case("file.working-folder", (*_jail(stay=True), refused("getcwd")),
               (*_jail(), refused("getcwd")), "namespace (mnt)", _out_by(".")))  # fmt: skip


def _removed(*, stay: bool) -> tuple[Step, ...]:
    """A folder outside the root, worked in or held open, and then removed: it has no name."""
    place = "/mnt/outside"

    def step() -> None:
        os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        os.chdir(place)
        os.rmdir(place)
        os.chroot("/mnt/root")
        if not stay:
            os.chdir("/")

    return (spaces("mnt"), tmpfs("/mnt"), partial(os.mkdir, place), partial(os.mkdir, "/mnt/root"),
            step)  # fmt: skip


def test_a_removed_folder_leads_out_by_the_one_above() -> None:
    """getcwd knows no name of it (ENOENT), and `..` leads on."""
    check(Case("file.working-folder", _removed(stay=True), _removed(stay=False),
               "namespace (mnt)", partial(os.listdir, "../root")),
          Case("file.open-folders", _removed(stay=False), _jail(), "namespace (mnt)", None,
               INJECT))  # fmt: skip


def _out_by(path: str) -> Act:
    return lambda: os.close(os.open(f"{path}/passwd", os.O_RDONLY))
