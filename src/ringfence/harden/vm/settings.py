"""What the init of a virtual machine is told (`init.c`), and the kernel's command line. Pure."""

from __future__ import annotations

import os

from ringfence.errors import InputError
from ringfence.harden.policy.needs import Needs
from ringfence.run.fence import HOST_NAME, MASKED, READ_ONLY
from ringfence.run.stopping import stop_signal

OWN = ".ringfence"
"""The folder of what is ours; the init removes it before the service starts."""
PROCESSES, FILES = 512, 65536
"""Limits of the service's user: processes as in a fence, open files as systemd has them at most."""
MOST_SETTINGS, MOST_WORDS = 1 << 20, 1024
"""As in init.c."""

COMMAND_LINE = (
    "console=ttyS0", "quiet", "panic=-1", f"rdinit=/{OWN}/init",
    "rf_address=10.0.2.15/24", "rf_gateway=10.0.2.2",
    "vsyscall=none", "slab_nomerge", "init_on_alloc=1", "randomize_kstack_offset=on",
)  # fmt: skip
"""Console, our init, QEMU's user network (its manual, -netdev user), and what a kernel does better
than its defaults (Documentation/admin-guide/kernel-parameters.txt)."""

KERNEL = (
    ("kernel/hostname", HOST_NAME),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/sysrq", "0"),
    ("kernel/yama/ptrace_scope", "3"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("net/core/bpf_jit_harden", "2"),
    ("dev/tty/ldisc_autoload", "0"),
    ("user/max_user_namespaces", "0"),
)
"""Documentation/admin-guide/sysctl in Linux: the name that a container's host has, too, ports below
1024 without a capability, and what nobody in this machine needs. What a kernel does not have is
passed over."""
LAST = (
    ("/sys/kernel/security/lockdown", "confidentiality"),
    ("/proc/sys/kernel/modules_disabled", "1"),
)
"""Once the drivers are there: kernel_lockdown(7); no module is loaded any more."""


def settings(needs: Needs, program: str, modules: tuple[str, ...]) -> bytes:
    """The file of settings. `program`: path of the service's program in the image; `modules`:
    names to load, in this order. Raises InputError for a command that does not fit."""
    service, who = needs.service, needs.who
    own = [f"/{OWN}/{name}" for name in ("init", "settings", "filter")]
    drivers = [f"/{OWN}/{name}.ko" for name in modules]
    rows = [
        *(("module", path) for path in drivers),
        *(("own", path) for path in (*own, *drivers)),
        *(("write", f"/proc/sys/{name} {value}") for name, value in _kernel(needs)),
        *(("write", f"{path} {value}") for path, value in LAST),
        *(("writable", f"/{item.path}") for item in sorted(needs.writable)),
        *(("mask", path) for path in MASKED),
        *(("readonly", path) for path in READ_ONLY),
        ("uid", str(who.uid)), ("gid", str(who.gid)),
        *(("group", str(group)) for group in who.groups),
        ("processes", str(PROCESSES)), ("files", str(FILES)),
        ("stop", str(stop_signal(service.signal, "the service"))),
        ("folder", service.folder), ("program", f"/{program.strip('/')}"),
        *(("arg", word) for word in service.command),
        *(("env", word) for word in service.environment),
    ]  # fmt: skip
    many = max(len(service.command), len(service.environment))
    found = b"".join(os.fsencode(f"{key}={value}") + b"\0" for key, value in rows)
    if many > MOST_WORDS or len(found) >= MOST_SETTINGS or found.count(b"\0") != len(rows):
        raise InputError("command or environment does not fit into a virtual machine's settings",
                         where=needs.name)  # fmt: skip
    return found


def _kernel(needs: Needs) -> tuple[tuple[str, str], ...]:
    if "io_uring_setup" in needs.calls:
        return KERNEL
    return (*KERNEL, ("kernel/io_uring_disabled", "2"))
