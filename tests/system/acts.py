"""What a capability permits, done by Python's own means: each raises OSError where it is missing.

Nothing of them outlasts the process, but for settings that are set to what they are.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import struct

from tests.system.conditions import ANOTHER, call

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, IMMUTABLE = 0x80086601, 0x40086602, 0x10
SIOCSIFMTU = 0x8922
NETLINK_AUDIT, AUDIT_GET, READLOG = 9, 1000, 1
PR_CAPBSET_DROP, WAKE_ALARM = 24, 35
IPC_RMID, IPC_STAT = 0, 2
LOW_PORT = 997


def become(uid: int) -> None:
    """setresuid(2)."""
    os.setresuid(uid, uid, uid)


def join_group(gid: int) -> None:
    """setresgid(2)."""
    os.setresgid(gid, gid, gid)


def give_away() -> None:
    """A file of one's own to another user."""
    os.fchown(os.memfd_create("act"), ANOTHER, -1)


def opened(path: str, flags: int) -> None:
    """A file, opened and closed again."""
    os.close(os.open(path, flags))


def drop_bounding() -> None:
    """A capability out of one's bounding set (PR_CAPBSET_DROP(2const))."""
    call("prctl", PR_CAPBSET_DROP, WAKE_ALARM, 0, 0, 0)


def make_immutable() -> None:
    """FS_IMMUTABLE_FL on a file in memory (ioctl_iflags(2))."""
    handle = os.memfd_create("act")
    flags = struct.unpack("=Q", fcntl.ioctl(handle, FS_IOC_GETFLAGS, bytes(8)))[0]
    fcntl.ioctl(handle, FS_IOC_SETFLAGS, struct.pack("=Q", flags | IMMUTABLE))


def set_interface() -> None:
    """The size of loopback's packets, to what it is (netdevice(7))."""
    with open("/sys/class/net/lo/mtu") as file:
        size = int(file.read())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SIOCSIFMTU, struct.pack("16si20x", b"lo", size))


def raw_socket() -> None:
    """raw(7)."""
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def low_port() -> None:
    """A port below 1024, of loopback."""
    with socket.socket() as handle:
        handle.bind(("127.0.0.1", LOW_PORT))


def lock_memory() -> None:
    """mlock(2) beyond a limit of nothing."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    page = mmap.mmap(-1, 4096)
    call("mlock", ctypes.addressof(ctypes.c_char.from_buffer(page)), 4096)


def foreign_queue() -> None:
    """The state of a message queue whose mode permits nobody anything."""
    queue = call("msgget", 0, 0o1000)
    try:
        call("msgctl", queue, IPC_STAT, ctypes.addressof(ctypes.create_string_buffer(256)))
    finally:
        call("msgctl", queue, IPC_RMID, 0)


def stop_accounting() -> None:
    """acct(2) off, as it is."""
    call("acct", 0)


def set_host_name() -> None:
    """sethostname(2), to what it is."""
    socket.sethostname(socket.gethostname())


def set_time_zone() -> None:
    """settimeofday(2): the kernel's own time zone, to UTC as it is; the clock is not touched."""
    call("settimeofday", 0, struct.pack("=ii", 0, 0))


def hang_up() -> None:
    """vhangup(2), in a session that has no terminal."""
    os.setsid()
    call("vhangup")


def make_node() -> None:
    """A null device of one's own in /tmp."""
    path = f"/tmp/.act-{os.getpid()}"
    os.mknod(path, 0o020600, os.makedev(1, 3))
    os.unlink(path)


def take_lease() -> None:
    """A read lease on a file of another user's (F_SETLEASE(2const))."""
    handle = os.open("/etc/passwd", os.O_RDONLY)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        pass  # somebody writes it just now: that is asked after the right
    finally:
        signal.signal(signal.SIGIO, signal.SIG_IGN)


def ask_audit() -> None:
    """The state of the audit subsystem (AUDIT_GET), by netlink(7)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT) as handle:
        handle.send(struct.pack("=IHHII", 16, AUDIT_GET, 5, 1, 0))
        handle.settimeout(5)
        answer = handle.recv(4096)
    kind, number = struct.unpack_from("=4xH10xi", answer)
    if kind == 2 and number:
        raise OSError(-number, "AUDIT_GET")


def read_audit() -> None:
    """A reader of the audit log."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT) as handle:
        handle.bind((0, READLOG))


def give_capability() -> None:
    """CAP_SETPCAP as a file's (struct vfs_cap_data of version 2)."""
    value = struct.pack("=IIIII", 0x02000000, 1 << 8, 0, 0, 0)
    os.setxattr(os.memfd_create("act"), "security.capability", value)


def read_log() -> None:
    """The last messages of the kernel (SYSLOG_ACTION_READ_ALL)."""
    call("syslog", 3, ctypes.addressof(ctypes.create_string_buffer(64)), 64)


def count_kernel() -> None:
    """Context switches in the kernel (PERF_COUNT_SW_CONTEXT_SWITCHES)."""
    request = struct.pack("=IIQ", 1, 64, 3).ljust(64, b"\0")
    os.close(call("perf_event_open", request, 0, -1, -1, 8))


def make_map() -> None:
    """A hash map of BPF's (BPF_MAP_TYPE_HASH)."""
    os.close(call("bpf", 0, struct.pack("=IIII", 1, 4, 4, 4).ljust(64, b"\0"), 64))


def follow_mapping() -> None:
    """What a link of /proc/self/map_files leads to: CAP_CHECKPOINT_RESTORE (proc(5))."""
    os.stat(f"/proc/self/map_files/{os.listdir('/proc/self/map_files')[0]}")


def attach(pid: int) -> None:
    """PTRACE_SEIZE, let go with the end of this process."""
    call("ptrace", 0x4206, pid, 0, 0)


def connected(*address: object) -> None:
    """A TCP connection, closed without a byte."""
    with socket.create_connection(address, timeout=1):  # type: ignore[arg-type]
        pass


def routed(host: str) -> None:
    """A route for a datagram, which is not sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as handle:
        handle.connect((host, 53))


def executed(path: str, *words: str) -> None:
    """A program, run to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            nothing = os.open("/dev/null", os.O_RDWR)
            for stream in range(3):
                os.dup2(nothing, stream)
            os.execv(path, [path, *words])  # noqa: S606 - that is what is tried
        except OSError as error:
            os._exit(200 if error.errno is None else error.errno)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code if code > 0 else errno.EINTR, "execve")
