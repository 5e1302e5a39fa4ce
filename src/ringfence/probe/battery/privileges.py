"""Identity and privilege: becoming root, set-user-ID programs, and each capability by its use.

Whether a capability works is asked of the call that checks it, with arguments that fail right
after the check or change nothing (capabilities(7); the kernel's functions are named).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterable

from ringfence.model.mounts import covering
from ringfence.probe.definition import (
    AT_FDCWD,
    Inside,
    Outcome,
    Probe,
    Seen,
    closed,
    opened,
    undecided,
    unsupported,
)

GROUP = "privileges"
TECHNIQUE = "T1068"
O_RDONLY, O_WRONLY, O_RDWR, O_NOATIME, O_PATH = 0, 1, 2, 0o1000000, 0o10000000
SOL_SOCKET, AF_UNIX, AF_INET, AF_NETLINK = 1, 1, 2, 16
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 1, 2, 3
SIOCSIFMTU = 0x8922
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL = 0x80086601, 0x40086602, 0x10


# --- identity ------------------------------------------------------------------------------------


SET_USER = {"setresuid": 3, "setuid": 1, "setreuid": 2}
SET_GROUP = {"setresgid": 3, "setgid": 1, "setregid": 2}
"""Calls that come to the same, and how many ids each takes."""


def _root_user(name: str) -> Callable[[Inside], Outcome]:
    def attempt(inside: Inside) -> Outcome:
        """Sets the ids of a child of ours to 0; the child does nothing else and is ended."""
        if inside.call("geteuid") == 0:
            return opened("it is user 0 here already")
        return inside.judged(inside.call(name, *(0,) * SET_USER[name]), capability="CAP_SETUID")

    return attempt


def _other_user(name: str) -> Callable[[Inside], Outcome]:
    def attempt(inside: Inside) -> Outcome:
        """Sets the ids of a child of ours to a user that does not exist; the child is then
        ended."""
        number = inside.view.stranger
        if number is None:
            return unsupported("its user namespace knows nobody else")
        result = inside.call(name, *(number,) * SET_USER[name])
        return inside.judged(result, capability="CAP_SETUID")

    return attempt


def _root_group(name: str) -> Callable[[Inside], Outcome]:
    def attempt(inside: Inside) -> Outcome:
        """Sets the group of a child of ours to 0; the child is then ended."""
        if inside.call("getegid") == 0:
            return opened("it is in group 0 here already")
        return inside.judged(inside.call(name, *(0,) * SET_GROUP[name]), capability="CAP_SETGID")

    return attempt


def _identity(
    name: str,
    title: str,
    attempt: Callable[[str], Callable[[Inside], Outcome]],
    calls: Iterable[str],
    needs: tuple[str | dict[str, list[object]], ...],
    decides: tuple[str, ...] = (),
) -> Probe:
    """Another identity, by each of these calls."""
    first, *others = map(attempt, calls)
    any_call: dict[str, list[object]] = {"any": [f"syscall:{call}" for call in calls]}
    return Probe(f"identity.{name}", GROUP, title, "T1548", first, (*needs, any_call), decides,
                 also=tuple(others))  # fmt: skip


def setuid_program(inside: Inside) -> Outcome:
    """Executes a set-user-ID program up to its first instruction, which is never run: the child
    stands still at the exec event, its user is read from outside, and it is killed."""
    if not inside.view.setuid:
        return closed("no such program", "no set-user-ID program of root's in view")
    if inside.call("geteuid") == 0:
        return unsupported("it is user 0 here already: no program can raise that")
    path = inside.view.setuid[0]
    result = inside.execute("execve", path, 0, 0, path=path)
    if result < 0:
        return inside.judged(result, detail=path)
    with open(f"/proc/{inside.child.pid}/status") as status:
        user = next(line.split()[2] for line in status if line.startswith("Uid:"))
    if int(user) != inside.view.uid:
        return opened(f"{path} ran as another user")
    return _without_privilege(inside, path)


def _without_privilege(inside: Inside, path: str) -> Outcome:
    """Why a set-user-ID program ran as any other (execve(2), *Effect on the effective UID*): also
    because we trace it, where that is all that is left, unless we have CAP_SYS_PTRACE."""
    what = f"{path} ran without its privilege"
    if inside.view.process.no_new_privileges.value:
        return closed("no_new_privs", what)
    mount = covering(inside.view.process.mounts.value or (), path)
    if mount is not None and "nosuid" in mount.options:
        return closed("mount (nosuid)", what)
    if not inside.child.guarded:
        return undecided(f"{what}, as all do that are traced without CAP_SYS_PTRACE: probe as root")
    by = "user namespace" if inside.view.private("user") else "kernel (credentials or a setting)"
    return closed(by, what)


def new_privileges(inside: Inside) -> Outcome:
    """Reads one flag of its own (PR_GET_NO_NEW_PRIVS), from outside where a filter refuses that."""
    result = inside.call("prctl", 39, 0, 0, 0, 0)
    if result < 0:
        seen = inside.view.process.no_new_privileges.value
        if seen is None:
            return inside.judged(result)
        result = int(seen)
    return closed("no_new_privs", "set") if result else opened("not set")


# --- capabilities --------------------------------------------------------------------------------


def _memfd(inside: Inside) -> int:
    return inside.call("memfd_create", "ringfence", 0)


def chown(inside: Inside) -> Outcome:
    """Gives away a file in memory that has no name and ends with the child."""
    fd = _memfd(inside)
    if fd < 0:
        return _no_file(inside)
    number = inside.view.stranger
    if number is None:
        return unsupported("its user namespace knows nobody else")
    result = inside.call("fchown", fd, number, -1 & 0xFFFFFFFF)
    return inside.judged(result, capability="CAP_CHOWN")


def _no_file(inside: Inside) -> Outcome:
    return unsupported("no file in memory to try it on: memfd_create is refused")


def _closed_file(inside: Inside, flags: int, capability: str) -> Outcome:
    fd = _memfd(inside)
    if fd < 0:
        return _no_file(inside)
    inside.call("fchmod", fd, 0)
    result = inside.open(f"/proc/self/fd/{fd}", flags)
    if result == -errno.ENOENT:
        return unsupported("no /proc in view to open it again by")
    return inside.judged(result, capability=capability)


def dac_override(inside: Inside) -> Outcome:
    """Opens for writing a nameless file in memory of its own, of which it took away all its bits;
    the file ends with the child."""
    return _closed_file(inside, O_RDWR, "CAP_DAC_OVERRIDE")


def dac_read_search(inside: Inside) -> Outcome:
    """Asks to open a file by a handle that names none: ESTALE or EINVAL come after the check
    (fs/fhandle.c, may_decode_fh)."""
    root = inside.call("openat", AT_FDCWD, "/", O_RDONLY, 0)
    if root < 0:
        return unsupported("the root folder cannot be opened")
    handle = struct.pack("=Ii", 8, 0x7F) + bytes(8)
    result = inside.call("open_by_handle_at", root, handle, O_RDONLY)
    reached = (errno.ESTALE, errno.EINVAL, errno.EOPNOTSUPP)
    return inside.judged(result, reached, capability="CAP_DAC_READ_SEARCH",
                         absent=frozenset({errno.ENOSYS}))  # fmt: skip


def fowner(inside: Inside) -> Outcome:
    """Opens the root folder for reading with O_NOATIME, which only its owner may; reads nothing."""
    if inside.view.uid == 0 and not inside.view.private("user"):
        with_it = inside.view.holds("CAP_FOWNER")
        return opened("held") if with_it else unsupported("it owns what could be tried")
    result = inside.open("/", O_RDONLY | O_NOATIME)
    return inside.judged(result, capability="CAP_FOWNER")


def kill(inside: Inside) -> Outcome:
    """Signal 0, which is never sent: the kernel only checks (kill(2))."""
    for other in inside.view.others:
        if other.uid != inside.view.uid:
            result = inside.call("kill", other.pid, 0)
            return inside.judged(result, detail=f"process {other.pid}", capability="CAP_KILL")
    return unsupported("no process of another user is in view")


def setpcap(inside: Inside) -> Outcome:
    """Drops a capability from the bounding set of a child of ours, which is then ended."""
    return inside.judged(inside.call("prctl", 24, 40, 0, 0, 0), capability="CAP_SETPCAP")


def immutable(inside: Inside) -> Outcome:
    """Sets a flag of a nameless file in memory that ends with the child."""
    fd = _memfd(inside)
    flags = bytearray(8)
    if fd < 0:
        return _no_file(inside)
    if inside.call("ioctl", fd, FS_IOC_GETFLAGS, flags) < 0:
        return unsupported("files in memory have no such flags here")
    wanted = struct.pack("=Q", struct.unpack("=Q", bytes(flags))[0] | FS_IMMUTABLE_FL)
    result = inside.call("ioctl", fd, FS_IOC_SETFLAGS, wanted)
    return inside.judged(result, capability="CAP_LINUX_IMMUTABLE")


def net_admin(inside: Inside) -> Outcome:
    """Asks for packets of -1 bytes on loopback: EINVAL comes after the check, which is made over
    the network namespace's owner (net/core/dev_ioctl.c, dev_validate_mtu)."""
    fd = inside.any_socket(AF_INET)
    if fd < 0:
        return inside.judged(fd)
    request = struct.pack("=16si20x", b"lo", -1)
    result = inside.call("ioctl", fd, SIOCSIFMTU, request)
    return inside.judged(result, (errno.EINVAL,), capability="CAP_NET_ADMIN")


def net_raw(inside: Inside) -> Outcome:
    """Makes a raw socket and sends nothing through it; it ends with the child."""
    result = inside.socket(AF_INET, SOCK_RAW, 255)
    return inside.judged(result, capability="CAP_NET_RAW")


def ipc_lock(inside: Inside) -> Outcome:
    """Locks one page of a child of ours whose limit was set to nothing; both end with it."""
    nothing = struct.pack("=QQ", 0, 0)
    if inside.call("prlimit64", 0, 8, nothing, 0) < 0 and inside.call("setrlimit", 8, nothing) < 0:
        return unsupported("its limit cannot be taken away, so that one page fits in it")
    result = inside.call("mlock", inside.child.scratch, 4096)
    return inside.judged(result, (errno.EAGAIN,), capability="CAP_IPC_LOCK")


def ipc_owner(inside: Inside) -> Outcome:
    """Makes a message queue that nobody may use, asks to read its state, and removes it at once."""
    queue = inside.call("msgget", 0, 0o1000)
    if queue < 0:
        return inside.judged(queue)
    try:
        result = inside.call("msgctl", queue, 2, bytearray(120))
        tried = inside.last
    finally:
        inside.undo("msgctl", queue, 0, 0)
    if result >= 0:
        return opened()
    return Outcome(Seen.CLOSED, "", tried, "CAP_IPC_OWNER")


def sys_module(inside: Inside) -> Outcome:
    """Asks to load a module of no bytes: ENOEXEC comes after the check (kernel/module/main.c)."""
    result = inside.call("init_module", 0, 0, "")
    return inside.judged(result, (errno.ENOEXEC, errno.EFAULT, errno.EINVAL),
                         capability="CAP_SYS_MODULE")  # fmt: skip


def sys_rawio(inside: Inside) -> Outcome:
    """Asks for one port of the machine for a child of ours, which uses none and is ended."""
    result = inside.call("ioperm", 0x80, 1, 1)
    return inside.judged(result, capability="CAP_SYS_RAWIO")


def sys_chroot(inside: Inside) -> Outcome:
    """Changes the root of a child of ours to the root it has."""
    return inside.judged(inside.call("chroot", "/"), capability="CAP_SYS_CHROOT")


def sys_ptrace(inside: Inside) -> Outcome:
    """Compares itself with another user's process (kcmp(2)): it is only asked whether it may."""
    own = inside.call("getpid")
    for other in inside.view.others:
        if other.uid != inside.view.uid:
            result = inside.call("kcmp", own, other.pid, 1, 0, 0)
            return inside.judged(result, capability="CAP_SYS_PTRACE")
    return unsupported("no process of another user is in view")


def sys_pacct(inside: Inside) -> Outcome:
    """Asks to write accounting records to a file that does not exist: ENOENT comes after the
    check (kernel/acct.c)."""
    result = inside.call("acct", "/ringfence-does-not-exist/file")
    return inside.judged(result, (errno.ENOENT,), capability="CAP_SYS_PACCT")


def sys_admin(inside: Inside) -> Outcome:
    """Asks to end swapping to a file that does not exist: ENOENT comes after the check, which is
    made over the first user namespace (mm/swapfile.c)."""
    result = inside.call("swapoff", "/ringfence-does-not-exist/file")
    return inside.judged(result, (errno.ENOENT, errno.EINVAL), capability="CAP_SYS_ADMIN")


def sys_admin_here(inside: Inside) -> Outcome:
    """Opens a file system context and mounts nothing; it ends with the child (fs/fsopen.c)."""
    return inside.judged(inside.call("fsopen", "tmpfs", 1), capability="CAP_SYS_ADMIN")


def sys_boot(inside: Inside) -> Outcome:
    """Asks for a kernel to be loaded with flags that do not exist: EINVAL comes after the check
    (kernel/kexec.c), and nothing is loaded."""
    result = inside.call("kexec_load", 0, 0, 0, 0xFFFF)
    return inside.judged(result, (errno.EINVAL,), capability="CAP_SYS_BOOT")


def reboot(inside: Inside) -> Outcome:
    """Calls reboot(2) without its magic numbers: EINVAL comes after the check, and nothing else
    can come (kernel/reboot.c)."""
    result = inside.call("reboot", 0, 0, 0, 0)
    return inside.judged(result, (errno.EINVAL,), capability="CAP_SYS_BOOT")


def sys_nice(inside: Inside) -> Outcome:
    """Raises the priority of a child of ours, which does nothing and is ended; lowered first, since
    staying where one is asks for nothing."""
    inside.call("setpriority", 0, 0, 19)
    result = inside.call("setpriority", 0, 0, -1 & 0xFFFFFFFF)
    return inside.judged(result, capability="CAP_SYS_NICE")


def sys_resource(inside: Inside) -> Outcome:
    """Raises a limit of a child of ours, which uses none of it and is ended."""
    now = bytearray(16)
    if inside.call("prlimit64", 0, 4, 0, now) < 0:
        return unsupported("limits cannot be read")
    soft, hard = struct.unpack("=QQ", bytes(now))
    if hard == (1 << 64) - 1:
        inside.call("prlimit64", 0, 4, struct.pack("=QQ", 0, 1 << 20), 0)
        hard = 1 << 20
    result = inside.call("prlimit64", 0, 4, struct.pack("=QQ", min(soft, hard), hard + 1), 0)
    return inside.judged(result, capability="CAP_SYS_RESOURCE")


def sys_time(inside: Inside) -> Outcome:
    """Asks for a clock tick of 0, which no kernel takes: EINVAL comes after the check
    (kernel/time/timekeeping.c, timekeeping_validate_timex)."""
    request = bytearray(struct.pack("=I", 0x4000).ljust(256, b"\0"))
    result = inside.call("adjtimex", request)
    return inside.judged(result, (errno.EINVAL,), capability="CAP_SYS_TIME")


def sys_tty_config(inside: Inside) -> Outcome:
    """Hangs up the terminal of a child of ours that has just left its session and has none."""
    if inside.child.manage("setsid") < 0:
        return unsupported("the child cannot leave its session, whose terminal it would hang up")
    return inside.judged(inside.call("vhangup"), capability="CAP_SYS_TTY_CONFIG")


def mknod(inside: Inside) -> Outcome:
    """Makes a node for the null device in a writable folder and removes it at once."""
    found = None
    for place in inside.view.places:
        name = f"{place.rstrip('/')}/.ringfence-node-{os.getpid()}"
        result = inside.call("mknodat", AT_FDCWD, name, 0o020600, os.makedev(1, 3), path=name)
        if result >= 0:
            inside.undo("unlinkat", AT_FDCWD, name, 0)
            return opened(place)
        if result == -errno.EPERM:
            return Outcome(Seen.CLOSED, place, inside.last, "CAP_MKNOD")
        if result != -errno.ENOENT and found is None:
            found = inside.judged(result, detail=place)
    return found or closed("missing file", "no folder to write in")


def lease(inside: Inside) -> Outcome:
    """Takes a read lease on a file of another user's that nobody may be writing, and gives it
    back in the next call (fs/locks.c, vfs_setlease)."""
    fd = inside.open("/etc/passwd", O_RDONLY)
    if fd < 0 or (inside.view.uid == 0 and not inside.view.private("user")):
        return unsupported("no file of another user's to try it on")
    result = inside.call("fcntl", fd, 1024, 0)
    tried = inside.last
    inside.call("fcntl", fd, 1024, 2)
    if result >= 0 or result == -errno.EAGAIN:
        return opened()
    return Outcome(Seen.CLOSED, "", tried, "CAP_LEASE")


def audit_control(inside: Inside) -> Outcome:
    """Asks the audit subsystem for its state (AUDIT_GET), which changes nothing."""

    fd = inside.socket(AF_NETLINK, SOCK_RAW, 9)
    if fd < 0:
        return inside.judged(fd)
    request, answer = struct.pack("=IHHII", 16, 1000, 5, 1, 0), bytearray(64)
    sent = inside.call("sendto", fd, request, 16, 0, 0, 0)
    got = inside.call("recvfrom", fd, answer, 64, 0x40, 0, 0) if sent >= 0 else sent
    if got < 20:
        return inside.judged(got if got < 0 else -errno.EPROTO)
    kind, error = struct.unpack_from("=4xH10xi", bytes(answer))
    if kind != 2 or error == 0:
        return opened()
    if error == -errno.ECONNREFUSED:  # kernel/audit.c, audit_netlink_ok
        return closed("user namespace", "the audit subsystem answers the first one alone")
    if not inside.view.holds("CAP_AUDIT_CONTROL"):
        return closed("capability CAP_AUDIT_CONTROL", "the request is refused")
    return closed("namespace (pid)" if inside.view.private("pid") else "user namespace",
                  "the request is refused")  # fmt: skip


def audit_read(inside: Inside) -> Outcome:
    """Joins the audit log's readers with a socket that reads nothing and ends with the child."""
    fd = inside.socket(AF_NETLINK, SOCK_RAW, 9)
    if fd < 0:
        return inside.judged(fd)
    result = inside.call("bind", fd, struct.pack("=HHII", AF_NETLINK, 0, 0, 1), 12)
    return inside.judged(result, capability="CAP_AUDIT_READ")


def setfcap(inside: Inside) -> Outcome:
    """Gives a capability to a nameless file in memory, which is no program and ends with the
    child."""
    fd = _memfd(inside)
    if fd < 0:
        return _no_file(inside)
    value = struct.pack("=IIIII", 0x02000000, 1 << 10, 0, 0, 0)
    result = inside.call("fsetxattr", fd, "security.capability", value, 20, 0)
    return inside.judged(result, capability="CAP_SETFCAP")


def syslog(inside: Inside) -> Outcome:
    """Asks how much of the kernel's log is unread (action 9); reads none of it."""
    return inside.judged(inside.call("syslog", 9, 0, 0), capability="CAP_SYSLOG")


def wake_alarm(inside: Inside) -> Outcome:
    """Makes a timer that is never set and ends with the child."""
    result = inside.call("timer_create", 8, 0, bytearray(8))
    return inside.judged(result, capability="CAP_WAKE_ALARM")


def perfmon(inside: Inside) -> Outcome:
    """Opens a counter of the kernel's own work in a child of ours that does none."""
    attributes = struct.pack("=IIQQQQQ", 1, 128, 1, 0, 0, 0, 1).ljust(128, b"\0")
    result = inside.call("perf_event_open", attributes, 0, -1, -1, 8)
    return inside.judged(result, (errno.ENOENT,), capability="CAP_PERFMON")


def bpf(inside: Inside) -> Outcome:
    """Makes a map of one number, which ends with the child."""
    attributes = struct.pack("=IIII", 2, 4, 4, 1).ljust(128, b"\0")
    result = inside.call("bpf", 0, attributes, 128)
    return inside.judged(result, capability="CAP_BPF")


def checkpoint_restore(inside: Inside) -> Outcome:
    """Asks for a child with a number that is taken: EEXIST comes after the check, and there is no
    child either way (kernel/pid.c, alloc_pid)."""
    numbers = inside.child.put(struct.pack("=i", max(inside.call("getpid"), 1)))
    request = struct.pack("=11Q", 0, 0, 0, 0, 0, 0, 0, 0, numbers, 1, 0)
    result = inside.call("clone3", request, 88)
    return inside.judged(result, (errno.EEXIST,), capability="CAP_CHECKPOINT_RESTORE")


def net_bind_service(inside: Inside) -> Outcome:
    """Binds a low port of loopback, or where that has no address of every interface, to a socket
    that does not listen and ends with the child."""
    fd = inside.socket(AF_INET, SOCK_STREAM, 0)
    if fd < 0:
        return inside.judged(fd)
    for host in (bytes((127, 0, 0, 1)), bytes(4)):
        address = struct.pack("=H", AF_INET) + struct.pack("!H4s8x", 1, host)
        result = inside.call("bind", fd, address, 16)
        if result != -errno.EADDRNOTAVAIL:
            break
    return inside.judged(result, (errno.EADDRINUSE,), capability="CAP_NET_BIND_SERVICE")


def _capability(
    name: str,
    title: str,
    attempt: Callable[[Inside], Outcome],
    call: str | tuple[str, ...],
    *more: str | dict[str, list[object]],
    first: bool = True,
    name_as: str = "",
    technique: str = TECHNIQUE,
) -> Probe:
    """`call` is what the attempt cannot do without (one of several), `more` what else it takes;
    `first`: checked over the first user namespace, where one that is held over another is worth
    nothing."""
    need = f"{'cap' if first else 'nscap'}:{name}"
    made: str | dict[str, list[object]] = (
        f"syscall:{call}" if isinstance(call, str) else {"any": [f"syscall:{one}" for one in call]}
    )
    word = name_as or name.removeprefix("CAP_").lower().replace("_", "-")
    needs = (need, made, *more)
    return Probe(f"capability.{word}", GROUP, title, technique, attempt, needs, (need,))


OPENS = ("openat", "open")
"""Of which `Inside.open` takes what the filters let through."""


def _or_setting(name: str, *settings: str) -> dict[str, list[object]]:
    return {"any": [f"cap:{name}", "cap:CAP_SYS_ADMIN", *settings]}


def _eased(
    name: str, title: str, attempt: Callable[[Inside], Outcome], needs: Iterable[object]
) -> Probe:
    """A capability that a setting makes needless: the attempt settles nothing about holding it."""
    word = name.removeprefix("CAP_").lower().replace("_", "-")
    return Probe(f"capability.{word}", GROUP, title, TECHNIQUE, attempt, tuple(needs))  # type: ignore[arg-type]


PROBES = (
    _identity("root-user", "Become user 0", _root_user, SET_USER,
              ({"any": ["nscap:CAP_SETUID", "process:root-id"]},)),
    _identity("other-user", "Become another user", _other_user, SET_USER,
              ("nscap:CAP_SETUID",), ("nscap:CAP_SETUID",)),
    _identity("root-group", "Become group 0", _root_group, SET_GROUP,
              ({"any": ["nscap:CAP_SETGID", "process:root-id"]},)),
    Probe("identity.setuid-program", GROUP, "Gain privilege by a set-user-ID program", "T1548.001",
          setuid_program, ("file:setuid", "process:new-privileges", "mount:suid"),
          ("probe:setuid-programs",)),
    Probe("identity.new-privileges", GROUP, "Programs that it executes may gain privilege",
          "T1548.001", new_privileges, ("process:new-privileges",), ("process:new-privileges",)),
    _capability("CAP_CHOWN", "Give files to other users", chown, "fchown", first=False),
    _capability("CAP_DAC_OVERRIDE", "Pass over file modes", dac_override, OPENS, first=False),
    _capability("CAP_DAC_READ_SEARCH", "Open files by handle", dac_read_search,
                "open_by_handle_at", technique="T1611"),
    _capability("CAP_FOWNER", "Act as the owner of others' files", fowner, OPENS, first=False),
    _capability("CAP_KILL", "Signal other users' processes", kill, "kill"),
    _capability("CAP_SETPCAP", "Change the bounding set", setpcap, "prctl[24]", first=False),
    _capability("CAP_LINUX_IMMUTABLE", "Make files immutable", immutable, "ioctl"),
    _capability("CAP_NET_ADMIN", "Configure the network", net_admin, "ioctl", first=False),
    _capability("CAP_NET_RAW", "Make raw sockets", net_raw, "socket[AF_INET,SOCK_RAW]",
                first=False),
    _eased("CAP_NET_BIND_SERVICE", "Bind ports below 1024", net_bind_service,
           ("syscall:bind", {"any": ["nscap:CAP_NET_BIND_SERVICE",
                                     "sysctl:net.ipv4.ip_unprivileged_port_start<=1"]})),
    _capability("CAP_IPC_LOCK", "Lock memory without limit", ipc_lock, "mlock"),
    _capability("CAP_IPC_OWNER", "Use other users' IPC objects", ipc_owner, "msgctl",
                first=False),
    _capability("CAP_SYS_MODULE", "Load kernel modules", sys_module, "init_module",
                technique="T1547.006"),
    _capability("CAP_SYS_RAWIO", "Use input and output ports", sys_rawio, "ioperm",
                "kernel:lockdown-off"),
    _capability("CAP_SYS_CHROOT", "Change the root folder", sys_chroot, "chroot", first=False),
    _capability("CAP_SYS_PTRACE", "Inspect other users' processes", sys_ptrace, "kcmp",
                technique="T1055.008"),
    _capability("CAP_SYS_PACCT", "Configure process accounting", sys_pacct, "acct"),
    _capability("CAP_SYS_ADMIN", "Administer the system", sys_admin, "swapoff"),
    _capability("CAP_SYS_ADMIN", "Administer its own namespaces", sys_admin_here, "fsopen",
                first=False, name_as="sys-admin-here"),
    _capability("CAP_SYS_BOOT", "Load another kernel", sys_boot, "kexec_load",
                "kernel:lockdown-off", "kernel:kexec-permitted"),
    _capability("CAP_SYS_BOOT", "Restart its PID namespace or the machine", reboot, "reboot",
                first=False, name_as="reboot", technique="T1529"),
    _capability("CAP_SYS_NICE", "Raise priorities", sys_nice, "setpriority"),
    _capability("CAP_SYS_RESOURCE", "Raise limits", sys_resource, "prlimit64"),
    _capability("CAP_SYS_TIME", "Set the clock", sys_time, "adjtimex"),
    _capability("CAP_SYS_TTY_CONFIG", "Hang up terminals", sys_tty_config, "vhangup"),
    _capability("CAP_MKNOD", "Make device nodes", mknod, "mknodat", technique="T1611"),
    _capability("CAP_LEASE", "Take leases on others' files", lease, "fcntl"),
    _capability("CAP_AUDIT_CONTROL", "Control auditing", audit_control,
                "socket[AF_NETLINK,*,NETLINK_AUDIT]", technique="T1562.012"),
    _capability("CAP_AUDIT_READ", "Read the audit log", audit_read,
                "socket[AF_NETLINK,*,NETLINK_AUDIT]"),
    _capability("CAP_SETFCAP", "Give capabilities to files", setfcap, "fsetxattr", first=False),
    _capability("CAP_SYSLOG", "Use the kernel's log", syslog, "syslog", technique="T1082"),
    _capability("CAP_WAKE_ALARM", "Wake the machine", wake_alarm, "timer_create"),
    _eased("CAP_PERFMON", "Measure the kernel", perfmon,
           ("syscall:perf_event_open",
            _or_setting("CAP_PERFMON", "sysctl:kernel.perf_event_paranoid<=1"))),
    _eased("CAP_BPF", "Make BPF maps", bpf,
           ("syscall:bpf", _or_setting("CAP_BPF", "sysctl:kernel.unprivileged_bpf_disabled<=0"))),
    _capability("CAP_CHECKPOINT_RESTORE", "Choose process numbers", checkpoint_restore,
                "clone3", first=False),
)  # fmt: skip
