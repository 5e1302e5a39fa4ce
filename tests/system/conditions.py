"""Conditions that a process of a test's own can put itself under: each function gives one step.

Plain system calls and standard tools, no code of the probe's: what a step forbids is forbidden by
the kernel, and known from its documentation.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import struct
import subprocess
from collections.abc import Callable

from ringfence.collect.process.credentials import CAPABILITIES
from ringfence.collect.process.inside import setns
from ringfence.collect.seccomp.tables import native_calls
from ringfence.run import kernel
from tests.seccomp import ALLOW, ERRNO, Instruction, install, native_refusing

Step = Callable[[], object]
SOMEBODY, ANOTHER = 31337, 31338
"""User numbers that no file of this machine belongs to."""
EVERYTHING = (1 << len(CAPABILITIES)) - 1
NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET, NEWTIME = 0x10000000, 0x20000000, 0x40000000, 0x00000080
SPACES = {"user": NEWUSER, "mnt": NEWNS, "uts": NEWUTS, "ipc": NEWIPC, "pid": NEWPID,
          "net": NEWNET, "cgroup": NEWCGROUP, "time": NEWTIME}  # fmt: skip
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND = 1, 2, 4, 8, 0x20, 0x1000
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
ATTRIBUTE_RDONLY = 1
KILL_PROCESS, TRAP = 0x80000000, 0x00030000
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 4, 8, 38, 47
AMBIENT_RAISE, CAPABILITY_VERSION_3 = 2, 0x20080522
TIOCSCTTY = 0x540E

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(name: str, *arguments: int | bytes | None) -> int:
    """A system call by its name, as C would make it. Raises OSError."""
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(_libc.syscall(ctypes.c_long(native_calls()[name]), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return result


# --- credentials ---------------------------------------------------------------------------------


def user(uid: int, *capabilities: str) -> Step:
    """Become a user who holds these capabilities alone."""

    def step() -> None:
        call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        _holds(_mask(*capabilities))
        for name in capabilities:
            call("prctl", PR_CAP_AMBIENT, AMBIENT_RAISE, CAPABILITIES.index(name[4:]), 0, 0)
        call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)

    return step


def without(*capabilities: str) -> Step:
    """Stay user 0 and give up these capabilities."""

    def step() -> None:
        held = struct.pack("=Ii", CAPABILITY_VERSION_3, 0), ctypes.create_string_buffer(24)
        call("capget", held[0], held[1].raw and ctypes.addressof(held[1]))
        low, _, _, high, _, _ = struct.unpack("=6I", held[1].raw)
        _holds((low | high << 32) & ~_mask(*capabilities))

    return step


def _mask(*names: str) -> int:
    return sum(1 << CAPABILITIES.index(name.removeprefix("CAP_")) for name in names)


def _holds(mask: int) -> None:
    low, high = mask & 0xFFFFFFFF, mask >> 32
    call("capset", struct.pack("=Ii", CAPABILITY_VERSION_3, 0),
         struct.pack("=6I", low, low, low, high, high, high))  # fmt: skip


def no_new_privileges() -> None:
    """Set no_new_privs."""
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def limit(kind: int, soft: int, hard: int | None = None) -> Step:
    """Set a limit of resources."""
    return lambda: resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]
                                             if hard is None else hard))  # fmt: skip


# --- filters -------------------------------------------------------------------------------------


def refused(*names: str, errno: int = 1) -> Step:
    """A seccomp filter that refuses these calls."""
    return lambda: install(native_refusing(*(native_calls()[name] for name in names), errno=errno))


def refused_with(name: str, index: int, value: int, mask: int = 0xFFFFFFFF, errno: int = 1) -> Step:
    """A seccomp filter that refuses a call whose argument, under a mask, has this value."""
    return lambda: install(_about(name, index, value, mask, ERRNO | errno))


def refused_in_64_bits(name: str, index: int, value: int) -> Step:
    """A seccomp filter that refuses a call with this very argument, all 64 bits of it compared, as
    libseccomp does (seccomp_rule_add(3))."""
    low = 16 + 8 * index
    return lambda: install([
        (LOAD, 0, 0, 0), (EQUAL, 0, 5, native_calls()[name]),
        (LOAD, 0, 0, low + 4), (EQUAL, 0, 3, value >> 32),
        (LOAD, 0, 0, low), (EQUAL, 0, 1, value & 0xFFFFFFFF),
        (RETURN, 0, 0, ERRNO | 1), (RETURN, 0, 0, ALLOW),
    ])  # fmt: skip


def answered(name: str, action: int) -> Step:
    """A seccomp filter that takes an action (SECCOMP_RET_*) on a call, whatever its arguments."""
    return lambda: install(_about(name, 0, 0, 0, action))


def _about(name: str, index: int, value: int, mask: int, action: int) -> list[Instruction]:
    return [
        (LOAD, 0, 0, 0), (EQUAL, 0, 4, native_calls()[name]),
        (LOAD, 0, 0, 16 + 8 * index), (AND, 0, 0, mask), (EQUAL, 0, 1, value & mask),
        (RETURN, 0, 0, action), (RETURN, 0, 0, ALLOW),
    ]  # fmt: skip


def landlock(files: int = 0, network: int = 0, scoped: int = 0) -> None:
    """A Landlock domain that handles these rights and grants none of them
    (https://docs.kernel.org/userspace-api/landlock.html)."""
    ruleset = call("landlock_create_ruleset", struct.pack("=QQQ", files, network, scoped), 24, 0)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


# --- namespaces and mounts -----------------------------------------------------------------------


def spaces(*kinds: str) -> Step:
    """New namespaces of these kinds, with nothing else changed in them."""

    def step() -> None:
        kernel.unshare(sum(SPACES[kind] for kind in kinds))
        if "mnt" in kinds:
            kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)

    return step


def user_space(rows: str) -> Step:
    """A new user namespace with these rows in both its maps, written by a process outside."""

    def step() -> None:
        wait, tell = os.pipe()
        own = os.getpid()
        writer = os.fork()
        if writer == 0:
            os.read(wait, 1)
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{own}/{name}", "w") as file:
                    file.write(rows)
            os._exit(0)
        kernel.unshare(NEWUSER)
        os.write(tell, b"1")
        assert os.waitpid(writer, 0)[1] == 0, "the maps could not be written"
        os.close(wait)
        os.close(tell)

    return step


def forked() -> None:
    """Go on as a child: new PID and time namespaces begin with it."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        os._exit(0)


def entered(pid: int, *kinds: str) -> Step:
    """Join namespaces of another process."""

    def step() -> None:
        handle = os.pidfd_open(pid)
        setns(handle, sum(SPACES[kind] for kind in kinds))
        os.close(handle)

    return step


def tmpfs(path: str, flags: int = 0, data: str = "mode=1777") -> Step:
    """An empty file system in memory over a folder."""
    return lambda: kernel.mount("tmpfs", path, "tmpfs", flags, data)


def bound(source: str, target: str, flags: int = 0) -> Step:
    """A file or folder over another, with the mount's flags."""

    def step() -> None:
        kernel.mount(source, target, "", BIND)
        if flags:
            kernel.mount("", target, "", BIND | REMOUNT | flags)

    return step


def nothing_writable() -> None:
    """Every mount read-only, in a mount namespace of one's own (mount_setattr(2))."""
    change = struct.pack("=QQQQ", ATTRIBUTE_RDONLY, 0, 0, 0)
    call("mount_setattr", AT_FDCWD, b"/", AT_RECURSIVE, change, len(change))


def proc(options: str = "") -> Step:
    """A fresh /proc, of the PID namespace that one is in."""
    return lambda: kernel.mount("proc", "/proc", "proc", 0, options)


# --- the rest ------------------------------------------------------------------------------------


def run(*words: str, given: str = "") -> Step:
    """A program of the system's, which must succeed."""

    def step() -> None:
        done = subprocess.run(words, input=given, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"

    return step


def written(path: str, text: str, mode: int = 0o644, owner: int = 0) -> Step:
    """A file with this text, mode and owner; a setting, where it is one."""

    def step() -> None:
        new = not os.path.exists(path)
        with open(path, "w") as file:
            file.write(text)
        if new:
            os.chmod(path, mode)
            os.chown(path, owner, owner)

    return step


def terminal() -> None:
    """A session of one's own with a new pseudo-terminal as its controlling terminal."""
    os.setsid()
    _, slave = os.openpty()
    fcntl.ioctl(slave, TIOCSCTTY, 0)
