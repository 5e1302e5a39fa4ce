"""Interfaces of the kernel that exploits have come through: each is opened and left unused.

What an attempt makes (a descriptor, a counter, a ring) belongs to a child of ours and ends with it.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable

from ringfence.probe.battery.privileges import sys_boot, sys_rawio
from ringfence.probe.definition import (
    ABSENCE,
    ABSENT,
    Inside,
    Outcome,
    Probe,
    Seen,
    closed,
    opened,
    undecided,
    unsupported,
)
from ringfence.probe.domain import layers, version
from ringfence.probe.modules import unloaded

GROUP = "kernel"
TECHNIQUE = "T1068"
AF_INET, AF_NETLINK, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 2, 16, 1, 2, 3
NOWHERE = 1 << 63
O_RDWR, O_CREAT, O_EXCL = 2, 0o100, 0o200
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
GET_SA_INFO = 0x23
"""linux/xfrm.h. Its neighbours flush and delete."""
MFD_EXEC = 0x10
GONE = ABSENT | {errno.ENOENT}


def core(inside: Inside) -> Outcome:
    """Asks for its own number: the least that any program asks of the kernel it shares."""
    return inside.judged(inside.call("getpid"))


def io_uring(inside: Inside) -> Outcome:
    """Makes a ring of one entry and submits nothing."""
    return inside.judged(inside.call("io_uring_setup", 1, bytearray(120)))


def bpf_program(inside: Inside) -> Outcome:
    """Has a program of two instructions (return 0) verified, and attaches it to nothing."""
    program = inside.child.put(
        struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    )
    licence = inside.child.put(b"GPL\0")
    request = struct.pack("=IIQQ", 1, 2, program, licence).ljust(128, b"\0")
    return inside.judged(inside.call("bpf", 5, request, 128), capability="CAP_BPF")


def perf_event(inside: Inside) -> Outcome:
    """Opens a counter of its own time in user mode, switched off."""
    request = struct.pack("=IIQQQQQ", 1, 128, 1, 0, 0, 0, 1 | 1 << 5 | 1 << 6).ljust(128, b"\0")
    return inside.judged(inside.call("perf_event_open", request, 0, -1, -1, 8), (errno.ENOENT,),
                         capability="CAP_PERFMON")  # fmt: skip


def keyring(inside: Inside) -> Outcome:
    """Asks whether it has a keyring of its own, and makes none."""
    return inside.judged(inside.call("keyctl", 0, -2, 0, 0, 0), (errno.ENOKEY,))


def add_key(inside: Inside) -> Outcome:
    """Puts a key of one byte into a keyring of the child's own, which ends with it."""
    return inside.judged(inside.call("add_key", "user", "ringfence-probe", b"x", 1, -2))


def request_key(inside: Inside) -> Outcome:
    """Looks for a key that does not exist, and asks nobody to make it."""
    result = inside.call("request_key", "user", "ringfence-none", 0, 0)
    return inside.judged(result, (errno.ENOKEY,))


def userfaultfd(inside: Inside) -> Outcome:
    """Opens a descriptor for page faults and registers no memory."""
    return inside.judged(inside.call("userfaultfd", 0), capability="CAP_SYS_PTRACE")


def userfaultfd_user_mode(inside: Inside) -> Outcome:
    """The same for faults of user mode alone."""
    return inside.judged(inside.call("userfaultfd", 1))


def modify_ldt(inside: Inside) -> Outcome:
    """Reads its own empty table of descriptors."""
    return inside.judged(inside.call("modify_ldt", 0, bytearray(16), 16))


def finit_module(inside: Inside) -> Outcome:
    """Asks to load a module from no file: EBADF comes after the check (kernel/module/main.c)."""
    result = inside.call("finit_module", -1, "", 0)
    return inside.judged(result, (errno.EBADF, errno.EINVAL), capability="CAP_SYS_MODULE")


def delete_module(inside: Inside) -> Outcome:
    """Asks to unload a module that does not exist: ENOENT comes after the check."""
    result = inside.call("delete_module", "ringfence_none", 0o4000)
    return inside.judged(result, (errno.ENOENT,), capability="CAP_SYS_MODULE")


def kexec_file(inside: Inside) -> Outcome:
    """Asks for a kernel to be loaded from no file with flags that do not exist: EINVAL comes after
    the check (kernel/kexec_file.c), and nothing is loaded."""
    result = inside.call("kexec_file_load", -1, -1, 0, 0, 0xFFFF)
    return inside.judged(result, (errno.EINVAL, errno.EBADF), capability="CAP_SYS_BOOT")


def iopl(inside: Inside) -> Outcome:
    """Raises the privilege of a child of ours over ports that it does not use."""
    return inside.judged(inside.call("iopl", 3), capability="CAP_SYS_RAWIO")


def fanotify(inside: Inside) -> Outcome:
    """Opens a descriptor for file events and marks nothing."""
    result = inside.call("fanotify_init", 4, 0)
    return inside.judged(result, capability="CAP_SYS_ADMIN")


def netfilter(inside: Inside) -> Outcome:
    """Asks nf_tables for its generation number, which changes nothing."""
    if unloaded("net-pf-16-proto-12", "nfnetlink-subsys-10"):
        return unsupported("trying would load the module nf_tables")
    handle = inside.socket(AF_NETLINK, SOCK_RAW, 12)
    if handle < 0:
        return inside.judged(handle)
    message = struct.pack("=IHHII", 20, 10 << 8 | 16, 5, 1, 0) + struct.pack("=BBH", 0, 0, 0)
    return _asked(inside, handle, message, "CAP_NET_ADMIN")


def _asked(inside: Inside, handle: int, message: bytes, capability: str) -> Outcome:
    """One request over netlink, and the errno of its answer."""
    sent = inside.call("sendto", handle, message, len(message), 0, 0, 0)
    if sent < 0:
        return inside.judged(sent, capability=capability)
    answer = bytearray(1024)
    got = inside.call("recvfrom", handle, answer, len(answer), 0x40, 0, 0)
    if got < 20:
        return inside.judged(got if got < 0 else -errno.EPROTO)
    kind, error = struct.unpack_from("=4xH10xi", bytes(answer))
    if kind != 2 or error == 0:
        return opened()
    if -error in (errno.EPERM, errno.EACCES):
        return closed(f"capability {capability}" if not inside.view.holds(capability)
                      else "user namespace", "the request is refused")  # fmt: skip
    return unsupported(f"errno {-error}", ABSENCE)


def x_tables(inside: Inside) -> Outcome:
    """Asks for the state of a table that does not exist: ENOENT or ENOPROTOOPT come after the
    check (net/ipv4/netfilter/ip_tables.c)."""
    if unloaded("ip_tables"):
        return unsupported("trying would load the module ip_tables")
    handle = inside.any_socket(AF_INET)
    if handle < 0:
        return inside.judged(handle)
    request, size = bytearray(b"ringfence-none".ljust(84, b"\0")), bytearray(struct.pack("=I", 84))
    result = inside.call("getsockopt", handle, 0, 64, request, size)
    return inside.judged(result, (errno.ENOENT,), capability="CAP_NET_ADMIN")


def traffic_control(inside: Inside) -> Outcome:
    """Asks to remove the queueing of an interface that does not exist: ENODEV comes after the
    check (net/sched/sch_api.c)."""
    handle = inside.socket(AF_NETLINK, SOCK_RAW, 0)
    if handle < 0:
        return inside.judged(handle)
    nothing = struct.pack("=BBHiIII", 0, 0, 0, 0x7FFFFFF0, 0, 0xFFFFFFFF, 0)
    message = struct.pack("=IHHII", 16 + len(nothing), 37, 5, 1, 0) + nothing
    found = _asked(inside, handle, message, "CAP_NET_ADMIN")
    return opened() if found.detail == f"errno {errno.ENODEV}" else found


def xfrm(inside: Inside) -> Outcome:
    """Asks IPsec for its counters (XFRM_MSG_GETSADINFO), which changes nothing."""
    if unloaded("net-pf-16-proto-6"):
        return unsupported("trying would load the module xfrm_user")
    handle = inside.socket(AF_NETLINK, SOCK_RAW, 6)
    if handle < 0:
        return inside.judged(handle)
    message = struct.pack("=IHHIII", 20, GET_SA_INFO, 5, 1, 0, 0)
    return _asked(inside, handle, message, "CAP_NET_ADMIN")


def kernel_tls(inside: Inside) -> Outcome:
    """Asks for TLS on a socket that is not connected: ENOTCONN comes from TLS itself
    (net/tls/tls_main.c)."""
    if unloaded("tcp-ulp-tls"):
        return unsupported("trying would load the module tls")
    handle = inside.socket(AF_INET, SOCK_STREAM, 0)
    if handle < 0:
        return inside.judged(handle)
    result = inside.call("setsockopt", handle, 6, 31, "tls", 4)
    return inside.judged(result, (errno.ENOTCONN,), absent=GONE)


def message_queue(inside: Inside) -> Outcome:
    """Makes a message queue and removes its name in the next call."""
    name = f"ringfence-probe-{os.getpid()}"
    made = inside.call("mq_open", name, O_RDWR | O_CREAT | O_EXCL, 0o600, 0)
    tried = inside.judged(made)
    if made != -errno.EEXIST:  # Landlock refuses to open it once it is made (ipc/mqueue.c)
        inside.undo("mq_unlink", name)
    # Descriptors are not what is short: `Inside.call` has made room for one (mq_open(3)).
    return closed("limit (RLIMIT_MSGQUEUE)") if made == -errno.EMFILE else tried


def shared_memory(inside: Inside) -> Outcome:
    """Makes a segment of one page and removes it in the next call."""
    made = inside.call("shmget", 0, 4096, 0o1600)
    tried = inside.judged(made)
    if made >= 0:
        inside.undo("shmctl", made, 0, 0)
    return tried


def semaphores(inside: Inside) -> Outcome:
    """Makes a set of one semaphore and removes it in the next call."""
    made = inside.call("semget", 0, 1, 0o1600)
    tried = inside.judged(made)
    if made >= 0:
        inside.undo("semctl", made, 0, 0, 0)
    return tried


def messages(inside: Inside) -> Outcome:
    """Makes a System V message queue and removes it in the next call."""
    made = inside.call("msgget", 0, 0o1600)
    tried = inside.judged(made)
    if made >= 0:
        inside.undo("msgctl", made, 0, 0)
    return tried


def secret_memory(inside: Inside) -> Outcome:
    """Makes a descriptor for memory that the kernel does not map, and maps none."""
    return inside.judged(inside.call("memfd_secret", 0))


def name_to_handle(inside: Inside) -> Outcome:
    """Asks for the handle of its root folder with no room for it: EOVERFLOW is the kernel's."""
    result = inside.call("name_to_handle_at", -100, "/", bytearray(8), bytearray(8), 0)
    return inside.judged(result, (errno.EOVERFLOW,))


def personality(inside: Inside) -> Outcome:
    """Switches off address randomisation for what a child of ours would execute; it executes
    nothing."""
    return inside.judged(inside.call("personality", 0x0040000 | 0x0400000))


def prctl(inside: Inside) -> Outcome:
    """Asks to move the end of its program's data to where no program can have it (PR_SET_MM):
    EINVAL comes after the check (kernel/sys.c)."""
    result = inside.call("prctl", 35, 7, NOWHERE, 0, 0)
    return inside.judged(result, (errno.EINVAL, errno.EFAULT), capability="CAP_SYS_RESOURCE")


def _terminal(inside: Inside) -> int | Outcome:
    if not inside.view.process.terminal.value:
        return closed("no controlling terminal")
    if not inside.view.owns:
        return unsupported("the terminal is the process's own: --inject sees it")
    handle = inside.call("openat", -100, "/dev/tty", O_RDWR | 0o400, 0, path="/dev/tty")
    return handle if handle >= 0 else inside.judged(handle)


def terminal_injection(inside: Inside) -> Outcome:
    """Asks to type a character that lies nowhere: EFAULT comes after the checks (drivers/tty,
    tiocsti), and nothing is typed."""
    handle = _terminal(inside)
    if isinstance(handle, Outcome):
        return handle
    result = inside.call("ioctl", handle, TIOCSTI, NOWHERE)
    if result == -errno.EIO:
        return closed("kernel setting (dev.tty.legacy_tiocsti)")
    return inside.judged(result, (errno.EFAULT,), capability="CAP_SYS_ADMIN")


def console_injection(inside: Inside) -> Outcome:
    """The same for the console's own commands (TIOCLINUX)."""
    handle = _terminal(inside)
    if isinstance(handle, Outcome):
        return handle
    result = inside.call("ioctl", handle, TIOCLINUX, NOWHERE)
    return inside.judged(result, (errno.EFAULT,), capability="CAP_SYS_ADMIN",
                         absent=ABSENT | {errno.ENOTTY})  # fmt: skip


def landlock(inside: Inside) -> Outcome:
    """Puts Landlock domains over a child of ours, which is then ended, until the kernel takes no
    more: that tells whether the workload is in one. What no domain of the kernel's version can hold
    passes, also where a filter refuses the questions."""
    found = version(inside.child)
    if found < 0:
        return unsupported("no Landlock here", ABSENCE)
    if not inside.view.owns:
        return unsupported("a Landlock domain is the process's own: --inject sees it")
    number = layers(inside.child)
    if number is None:
        return undecided("whether it is in a Landlock domain")
    if not number:
        return unsupported("it is in no Landlock domain")
    holes = [name for since, name in LANDLOCK_SINCE.items() if found < since]
    held = f"{number} domain{'s' if number > 1 else ''}"
    return closed("Landlock", held) if not holes else opened(
        f"{held}, of version {found}, which cannot hold: {', '.join(holes)}")  # fmt: skip


LANDLOCK_SINCE = {
    2: "renaming between folders", 3: "truncation", 4: "TCP", 5: "ioctl on devices",
    6: "abstract Unix sockets and signals", 7: "audit", 8: "threads that are there already",
    9: "Unix sockets by their paths", 10: "UDP",
}  # fmt: skip
"""https://docs.kernel.org/userspace-api/landlock.html#previous-limitations, and facts.md for 8 to
10. Never covered: chmod, chown, xattrs, stat, chdir, fcntl, flock, utime."""


def change_mode(inside: Inside) -> Outcome:
    """Changes the mode of a nameless file in memory: no version of Landlock holds chmod(2)."""
    handle = memory(inside)
    if handle < 0:
        return inside.judged(handle)
    path = f"/proc/self/fd/{handle}"
    first = inside.judged(inside.call("fchmod", handle, 0o700))
    for name, values in (("fchmodat", (-100, path, 0o700)), ("chmod", (path, 0o700)),
                         ("fchmodat2", (-100, path, 0o700, 0))):  # fmt: skip
        if first.seen is Seen.OPEN or inside.call(name, *values) >= 0:
            return opened()
    return first


def memory(inside: Inside) -> int:
    """A nameless file in memory that may be executed; MFD_EXEC says so since Linux 6.3, where
    vm.memfd_noexec=1 would take it for granted that it may not (memfd_create(2))."""
    handle = inside.call("memfd_create", "ringfence", MFD_EXEC)
    return inside.call("memfd_create", "ringfence", 0) if handle == -errno.EINVAL else handle


def _family(
    name: str,
    title: str,
    attempt: Callable[[Inside], Outcome],
    opening: str,
    *also: Callable[[Inside], Outcome],
) -> Probe:
    return Probe(f"kernel.{name}", GROUP, title, TECHNIQUE, attempt, (f"opening:{opening}",),
                 (f"probe:{opening}",), also=also)  # fmt: skip


PROBES = (
    _family("core", "Use the shared kernel's core system calls", core, "core-system-calls"),
    _family("io-uring", "Make an io_uring", io_uring, "io-uring"),
    _family("bpf", "Load a BPF program", bpf_program, "bpf"),
    _family("perf-events", "Open a performance counter", perf_event, "perf-events"),
    _family("keyrings", "Use keyrings", keyring, "keyrings", add_key,
            request_key),
    Probe("kernel.add-key", GROUP, "Add a key", TECHNIQUE, add_key,
          ("feature:keyrings", "syscall:add_key")),
    Probe("kernel.request-key", GROUP, "Request a key", TECHNIQUE, request_key,
          ("feature:keyrings", "syscall:request_key")),
    _family("userfaultfd", "Handle page faults of the kernel", userfaultfd, "userfaultfd"),
    Probe("kernel.userfaultfd-user", GROUP, "Handle page faults of user mode", TECHNIQUE,
          userfaultfd_user_mode, ("feature:userfaultfd", "syscall:userfaultfd")),
    _family("modify-ldt", "Use local descriptor tables", modify_ldt, "modify-ldt"),
    _family("kexec", "Load another kernel", sys_boot, "kexec", kexec_file),
    Probe("kernel.finit-module", GROUP, "Load a module from a file", "T1547.006", finit_module,
          ("feature:modules", "cap:CAP_SYS_MODULE", "syscall:finit_module")),
    Probe("kernel.delete-module", GROUP, "Unload a module", "T1562", delete_module,
          ("feature:modules", "cap:CAP_SYS_MODULE", "syscall:delete_module")),
    _family("io-ports", "Raise the port privilege (iopl, ioperm)", iopl, "io-ports", sys_rawio),
    _family("fanotify", "Watch whole file systems", fanotify, "fanotify"),
    # A user namespace is the other way to it: `namespace.netfilter-in-user`.
    Probe("kernel.nf-tables", GROUP, "Use nf_tables with its own privilege", TECHNIQUE, netfilter,
          ("feature:nf-tables", "nscap:CAP_NET_ADMIN",
           "syscall:socket[AF_NETLINK,*,NETLINK_NETFILTER]"), ("probe:nf-tables",)),
    Probe("kernel.x-tables", GROUP, "Use x_tables with its own privilege", TECHNIQUE, x_tables,
          ("feature:x-tables", "nscap:CAP_NET_ADMIN", "syscall:getsockopt")),
    Probe("kernel.traffic-control", GROUP, "Use traffic control with its own privilege", TECHNIQUE,
          traffic_control, ("feature:traffic-control", "nscap:CAP_NET_ADMIN",
                            "syscall:socket[AF_NETLINK,*,NETLINK_ROUTE]")),
    Probe("kernel.xfrm", GROUP, "Use IPsec with its own privilege", TECHNIQUE, xfrm,
          ("feature:xfrm", "nscap:CAP_NET_ADMIN", "syscall:socket[AF_NETLINK,*,NETLINK_XFRM]")),
    _family("kernel-tls", "TLS in the kernel", kernel_tls, "kernel-tls"),
    _family("posix-message-queues", "Make a POSIX message queue", message_queue,
            "posix-message-queues"),
    _family("system-v-ipc", "Make System V objects", shared_memory, "system-v-ipc",
            semaphores, messages),
    Probe("kernel.shared-memory", GROUP, "Make a System V segment", TECHNIQUE, shared_memory,
          ("feature:system-v-ipc", "syscall:shmget")),
    Probe("kernel.semaphores", GROUP, "Make System V semaphores", TECHNIQUE, semaphores,
          ("feature:system-v-ipc", "syscall:semget")),
    Probe("kernel.secret-memory", GROUP, "Make secret memory", TECHNIQUE, secret_memory,
          ("syscall:memfd_secret",)),
    Probe("kernel.file-handle", GROUP, "Ask for file handles", "T1611", name_to_handle,
          ("syscall:name_to_handle_at", "feature:file-handles")),
    Probe("kernel.personality", GROUP, "Switch off randomisation for programs it executes",
          "T1562", personality, ("syscall:personality[0x440000]",)),
    Probe("kernel.prctl-mm", GROUP, "Rearrange its memory description (PR_SET_MM)", TECHNIQUE,
          prctl, ("syscall:prctl[35]", "cap:CAP_SYS_RESOURCE")),
    Probe("kernel.terminal-injection", GROUP, "Type into a shared terminal (TIOCSTI)", "T1611",
          terminal_injection, ("opening:terminal-injection",), ("probe:terminal-injection",)),
    Probe("kernel.console-injection", GROUP, "Use a shared console's commands (TIOCLINUX)",
          "T1611", console_injection,
          ("process:shared-terminal", "syscall:ioctl[*,TIOCLINUX]")),
    Probe("kernel.landlock", GROUP, "Pass by what Landlock does not hold at its version",
          "T1562", landlock),
    Probe("kernel.change-mode", GROUP, "Make a file executable (chmod)", "T1222.002", change_mode,
          ("syscall:fchmod",)),
)  # fmt: skip
