"""Namespaces and mounts: making new ones, entering others, mounting.

All of it is done by a child of ours that is ended at once: its namespaces end with it, and mounts
are made nowhere but in file system contexts that nothing is attached to.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from ringfence.probe.battery.kernel import netfilter
from ringfence.probe.battery.processes import identity
from ringfence.probe.battery.sockets import BY_USERNS, FAMILIES, OPENINGS, making
from ringfence.probe.definition import AT_FDCWD, Inside, Outcome, Probe, closed, opened, unsupported
from ringfence.probe.modules import unloaded

GROUP = "namespaces"
ESCAPE = "T1611"
SPACES = {
    "user": (0x10000000, ""), "mnt": (0x00020000, "CAP_SYS_ADMIN"),
    "uts": (0x04000000, "CAP_SYS_ADMIN"), "ipc": (0x08000000, "CAP_SYS_ADMIN"),
    "pid": (0x20000000, "CAP_SYS_ADMIN"), "net": (0x40000000, "CAP_SYS_ADMIN"),
    "cgroup": (0x02000000, "CAP_SYS_ADMIN"), "time": (0x00000080, "CAP_SYS_ADMIN"),
}  # fmt: skip
NAMES = {"mnt": "NEWNS"}
NEWUSER, NEWNS = 0x10000000, 0x00020000
AT_RECURSIVE, OPEN_TREE_CLONE = 0x8000, 1
MS_SHARED, MS_PRIVATE = 1 << 20, 1 << 18
O_RDONLY = 0


def _flag(kind: str) -> str:
    return f"CLONE_{NAMES.get(kind, 'NEW' + kind.upper())}"


Making = Callable[[Inside, int], int]
"""Puts what tries into new namespaces by these flags: negative for an errno."""


def _unshared(inside: Inside, flags: int) -> int:
    return inside.call("unshare", flags)


def _cloned(inside: Inside, flags: int) -> int:
    return _child(inside, inside.call("clone", flags, 0, 0, 0, 0))


def _cloned3(inside: Inside, flags: int) -> int:
    return _child(inside, inside.call("clone3", struct.pack("=8Q", flags, *(0,) * 7), 64))


def _child(inside: Inside, result: int) -> int:
    """It is in there that the attempt goes on."""
    if result > 0:
        inside.goes_on_in(result)
    return result


def _makings(kind: str) -> tuple[Making, ...]:
    """In clone(2) the flag of time namespaces is part of the exit signal."""
    return (_unshared, _cloned3) if kind == "time" else (_unshared, _cloned, _cloned3)


def _by_any_call(kind: str) -> dict[str, list[object]]:
    """That filters leave one of the calls that make such a namespace."""
    calls = ("unshare", "clone")[: len(_makings(kind)) - 1]
    return {"any": [*(f"syscall:{call}[{_flag(kind)}]" for call in calls), "syscall:clone3"]}


def _new(making: Making, flags: int, capability: str = "") -> Callable[[Inside], Outcome]:
    def attempt(inside: Inside) -> Outcome:
        """A child of ours goes to new namespaces by one of the calls that make them, and is ended
        there, and they with it."""
        return inside.judged(making(inside, flags), capability=capability)

    return attempt


def _unshare(kind: str) -> Probe:
    flag, capability = SPACES[kind]
    needs = ("userns",) if kind == "user" else ("nscap:CAP_SYS_ADMIN", _by_any_call(kind))
    decides = ("probe:user-namespaces",) if kind == "user" else ()
    first, *others = (_new(making, flag, capability) for making in _makings(kind))
    return Probe(f"namespace.unshare-{kind}", GROUP, f"Make a new namespace: {kind}", ESCAPE,
                 first, needs, decides, also=tuple(others))  # fmt: skip


def _in_user_namespace(kind: str) -> Probe:
    first, *others = (_new(making, NEWUSER | SPACES[kind][0]) for making in _makings(kind))
    title = f"Make a user namespace with one of: {kind}"
    return Probe(f"namespace.user-and-{kind}", GROUP, title, ESCAPE, first,
                 ("userns", _by_any_call(kind)), also=tuple(others))  # fmt: skip


def _clone(kind: str) -> Probe:
    flag = SPACES[kind][0]

    def attempt(inside: Inside) -> Outcome:
        """Only what the filter says is asked; no child is made by this call."""
        arguments = flag | 17, 0, 0, 0, 0
        passes = inside.passing("clone", *arguments) is not None
        return opened() if passes else inside.refused("clone", *arguments)

    return Probe(f"namespace.clone-{kind}", GROUP, f"clone(2) with {_flag(kind)} passes the filter",
                 ESCAPE, attempt, (f"syscall:clone[{_flag(kind)}]",),
                 (f"syscall:clone[{_flag(kind)}]",))  # fmt: skip


def clone3(inside: Inside) -> Outcome:
    """Asks clone3(2) for flags that exclude each other: EINVAL comes from the kernel, and there
    is no child."""
    request = struct.pack("=8Q", 0x10000000 | 0x200, 0, 0, 0, 0, 0, 0, 0)
    return inside.judged(inside.call("clone3", request, 64), (errno.EINVAL,),
                         absent=frozenset({errno.ENOSYS}))  # fmt: skip


def _enter(kind: str) -> Probe:
    flag = SPACES[kind][0]

    def attempt(inside: Inside) -> Outcome:
        """A child of ours enters the namespace of process 1 as it sees it, and is ended there
        without another step."""
        if not inside.view.private(kind):
            return closed("same namespace", f"it is in the host's {kind} namespace already")
        path = f"/proc/1/ns/{kind}"
        handle = inside.call("openat", AT_FDCWD, path, O_RDONLY, 0, path=path)
        if handle < 0:
            return inside.judged(handle, detail=path, capability="CAP_SYS_PTRACE")
        own = inside.call("openat", AT_FDCWD, f"/proc/self/ns/{kind}", O_RDONLY, 0)
        if identity(inside, handle) == identity(inside, own):
            return closed("namespace (pid)", "process 1 of its view is in the same one")
        result = inside.call("setns", handle, flag)
        if kind == "pid" and result == -errno.EINVAL:
            return closed("namespace (pid)", "one above its own cannot be entered (setns(2))")
        held = kind == "mnt" and inside.view.holds("CAP_SYS_ADMIN")
        return inside.judged(result, capability="CAP_SYS_CHROOT" if held else "CAP_SYS_ADMIN")

    return Probe(f"namespace.enter-{kind}", GROUP, f"Enter the namespace of process 1: {kind}",
                 ESCAPE, attempt)  # fmt: skip


def mount(inside: Inside) -> Outcome:
    """Asks to make the root mount shared and private at once: EINVAL comes after the check
    (fs/namespace.c, path_mount and flags_to_propagation_type)."""
    result = inside.call("mount", 0, "/", 0, MS_SHARED | MS_PRIVATE, 0)
    return inside.judged(result, (errno.EINVAL,), capability="CAP_SYS_ADMIN",
                         absent=frozenset({errno.ENOSYS}))  # fmt: skip


def pivot_root(inside: Inside) -> Outcome:
    """Asks to make the root the root: EBUSY or EINVAL come after the check (fs/namespace.c)."""
    result = inside.call("pivot_root", "/", "/")
    return inside.judged(result, (errno.EBUSY, errno.EINVAL), capability="CAP_SYS_ADMIN")


def new_mount_api(inside: Inside) -> Outcome:
    """Opens a context for tmpfs and configures nothing; it ends with the child."""
    return inside.judged(inside.call("fsopen", "tmpfs", 1), capability="CAP_SYS_ADMIN")


def clone_tree(inside: Inside) -> Outcome:
    """Copies the mounts from the root down to a detached tree, attached nowhere; it ends with the
    child. All of them: a namespace of less privilege may not uncover what they cover."""
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | 0o2000000
    return inside.judged(inside.call("open_tree", AT_FDCWD, "/", flags), capability="CAP_SYS_ADMIN")


def overlay(inside: Inside) -> Outcome:
    """Opens a context for overlayfs, which ends with the child, and mounts nothing."""
    if unloaded("fs-overlay"):
        return unsupported("trying would load the module overlay")
    return inside.judged(inside.call("fsopen", "overlay", 1), absent=frozenset({errno.ENODEV}))


def in_user_namespace(
    name: str, kind: str, title: str, act: Callable[[Inside], Outcome],
    needs: tuple[str | dict[str, list[object]], ...], decides: tuple[str, ...] = (),
) -> Probe:  # fmt: skip
    """The probe of an act in a user namespace with another one of this kind in it, whichever call
    makes them."""

    def within(making: Making) -> Callable[[Inside], Outcome]:
        def attempt(inside: Inside) -> Outcome:
            """In namespaces of a child's own, which end with it."""
            made = making(inside, NEWUSER | SPACES[kind][0])
            return inside.judged(made) if made < 0 else act(inside)

        return attempt

    first, *others = map(within, _makings(kind))
    safe = " ".join((act.__doc__ or "").split())
    return Probe(name, GROUP, title, "T1068", first, ("userns", *needs), decides, safe=safe,
                 also=tuple(others))  # fmt: skip


PROBES = (
    *(_unshare(kind) for kind in SPACES),
    *(_in_user_namespace(kind) for kind in SPACES if kind != "user"),
    # In clone(2) the flag of time namespaces is part of the exit signal.
    *(_clone(kind) for kind in SPACES if kind != "time"),
    Probe("namespace.clone3", GROUP, "clone3(2), whose flags no filter sees", ESCAPE, clone3,
          ("syscall:clone3",), ("syscall:clone3",)),
    *(_enter(kind) for kind in SPACES if kind != "user"),
    Probe("namespace.mount", GROUP, "Mount", ESCAPE, mount,
          ("nscap:CAP_SYS_ADMIN", "syscall:mount"), ("syscall:mount",)),
    Probe("namespace.pivot-root", GROUP, "Change the root mount", ESCAPE, pivot_root,
          ("nscap:CAP_SYS_ADMIN", "syscall:pivot_root")),
    Probe("namespace.new-mount-api", GROUP, "Use the new mount interface", ESCAPE, new_mount_api,
          ("nscap:CAP_SYS_ADMIN", "syscall:fsopen")),
    Probe("namespace.clone-tree", GROUP, "Copy the mount tree", ESCAPE, clone_tree,
          ("nscap:CAP_SYS_ADMIN", "syscall:open_tree")),
    in_user_namespace("namespace.overlay-in-user", "mnt", "overlayfs in a user namespace", overlay,
                      ("feature:overlayfs", "syscall:fsopen")),
    in_user_namespace("namespace.mount-in-user", "mnt", "Mount in a user namespace", mount,
                      ("syscall:mount",)),
    in_user_namespace("namespace.netfilter-in-user", "net", "nf_tables in a user namespace",
                      netfilter, ("feature:nf-tables",
                                  "syscall:socket[AF_NETLINK,*,NETLINK_NETFILTER]"),
                      ("probe:nf-tables",)),
    *(in_user_namespace(f"namespace.{name}-in-user", "net",
                        f"A socket of the family {name} in a user namespace", making(name),
                        (f"feature:{OPENINGS[name]}", f"syscall:socket[{FAMILIES[name]}]"),
                        (f"probe:{OPENINGS[name]}",)) for name in BY_USERNS),
)  # fmt: skip
