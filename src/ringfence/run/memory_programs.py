"""No program out of memory alone: vm.memfd_noexec of a container's PID namespace (Linux 6.3).

A file of memfd_create(2) is on no mount that could be noexec. With the setting at 2 the kernel
makes all of them without execute permission, and refuses MFD_EXEC. It is a PID namespace's own, is
written from inside, and by the first user namespace's root alone (Documentation/admin-guide/
sysctl/vm.rst, kernel/pid_sysctl.h): so no engine's hook inside a user namespace could, runc's list
of sysctls has no vm.*, and the container cannot take it back. What it does not stop: mapping such
a file executable, as dlopen(3) does.
"""

from __future__ import annotations

import os

from ringfence.collect.process.inside import in_namespace

SETTING = "/proc/sys/vm/memfd_noexec"
_SCRIPT = f"exec 2>/dev/null; echo 2 >{SETTING}"


def forbid(pid: int) -> bool:
    """Set it in the PID namespace of process `pid`; whether it holds there now. False where the
    kernel is older, or the process has ended. What was made before stays as it is."""
    if not os.path.exists(SETTING):
        return False

    def write() -> bool:
        # A shell, for a fork of this process would cost three times as much.
        child = os.posix_spawn("/bin/sh", ["sh", "-c", _SCRIPT], {})
        return os.waitpid(child, 0)[1] == 0

    try:
        return in_namespace(pid, "pid", write)
    except OSError:
        return False
