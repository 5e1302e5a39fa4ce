"""Information: found, never printed. Of what is opened at most one line is looked at, and never
kept."""

from __future__ import annotations

import errno

from ringfence.model.mounts import covering
from ringfence.probe.definition import Inside, Outcome, Probe, Seen, closed, opened, unsupported

GROUP = "information"
O_RDONLY, O_DIRECTORY = 0, 0o200000
FILES = {
    "kernel-log-device": ("/dev/kmsg", "The kernel's log by its device", "T1082"),
    "kernel-image": ("/proc/kcore", "The kernel's memory", "T1005"),
    "key-list": ("/proc/keys", "Everybody's keys, by name", "T1552"),
    "interrupts": ("/proc/interrupts", "Interrupts of all processors", "T1082"),
    "timers": ("/proc/timer_list", "Timers of the kernel", "T1082"),
    "debug-files": ("/sys/kernel/debug/sched/.", "The kernel's debug files", "T1082"),
    "trace-files": ("/sys/kernel/tracing/trace", "The kernel's traces", "T1082"),
    "firmware": ("/sys/firmware/acpi/tables/DSDT", "Firmware tables", "T1082"),
    "serial-number": ("/sys/class/dmi/id/product_uuid", "The machine's identity", "T1082"),
    "boot-line": ("/proc/cmdline", "The kernel's command line", "T1082"),
    "kernel-settings": ("/proc/config.gz", "How the kernel was built", "T1082"),
    "power": ("/sys/class/powercap/intel-rapl:0/energy_uj", "Energy counters", "T1082"),
    "page-map": ("/proc/kpagecount", "Physical pages", "T1082"),
    "swap-file": ("/proc/swaps", "Where the host swaps to", "T1082"),
    "mounts": ("/proc/1/mountinfo", "Mounts of process 1", "T1082"),
    "unix-sockets": ("/proc/net/unix", "Unix sockets of its network namespace", "T1049"),
    "tcp-sockets": ("/proc/net/tcp", "TCP sockets of its network namespace", "T1049"),
    "slabs": ("/proc/slabinfo", "The kernel's allocations", "T1082"),
    "vm-allocations": ("/proc/vmallocinfo", "The kernel's mappings", "T1082"),
}  # fmt: skip
HOMES = ("/root", "/home")


def _file(name: str) -> Probe:
    path, title, technique = FILES[name]

    def attempt(inside: Inside) -> Outcome:
        """Opens a file for reading and reads one byte of it, which is not kept."""
        handle = inside.open(path, O_RDONLY)
        if handle < 0:
            return inside.judged(handle, detail=path)
        result = inside.call("read", handle, bytearray(1), 1)
        if result == 0:
            return _empty(inside, path)
        return inside.judged(result, (errno.EISDIR, errno.EAGAIN, errno.EINVAL), detail=path)

    return Probe(f"information.{name}", GROUP, f"Read: {title}", technique, attempt)


def _empty(inside: Inside, path: str) -> Outcome:
    """Runtimes mount an empty file over what they mask; the rest has nothing to say to it."""
    mount = covering(inside.view.process.mounts.value or (), path)
    masked = mount is not None and mount.path == path
    return closed("masked" if masked else "nothing there", f"{path} is empty")


def kernel_addresses(inside: Inside) -> Outcome:
    """Looks whether the first address of /proc/kallsyms is anything but zeros; it is not kept."""
    handle = inside.open("/proc/kallsyms", O_RDONLY)
    if handle < 0:
        return inside.judged(handle)
    room = bytearray(1 << 14)
    size = inside.call("read", handle, room, len(room))
    if size <= 0:
        return _empty(inside, "/proc/kallsyms")
    # Symbols of per-processor data lie at 0 in truth: one that is not shows that none is hidden.
    shown = any(set(line.split()[0]) - set(b"0") for line in bytes(room[:size]).splitlines()[:-1]
                if line.split())  # fmt: skip
    if shown:
        return opened("addresses are shown")
    # kernel/ksyms_common.c: with kptr_restrict below 2 the capability shows them.
    if not inside.view.holds("CAP_SYSLOG"):
        return closed("capability CAP_SYSLOG")
    private = inside.view.private("user")
    return closed("user namespace" if private else "kernel setting (kernel.kptr_restrict)")


def kernel_log(inside: Inside) -> Outcome:
    """Asks how large the kernel's log is (action 10), after the same check as reading it where
    dmesg_restrict is set; reads none of it."""
    return inside.judged(inside.call("syslog", 10, 0, 0), capability="CAP_SYSLOG")


def environment(inside: Inside) -> Outcome:
    """Counts variables of its environment whose names look like secrets; their values were never
    kept."""
    hints = inside.view.process.environment.value
    if hints is None:
        return unsupported("its environment could not be read")
    if hints:
        return opened(f"{len(hints)} of its variables are named like secrets")
    return closed("nothing there", "no variable is named like a secret")


def homes(inside: Inside) -> Outcome:
    """Opens home folders of others for listing, and lists nothing."""
    found = None
    for path in HOMES:
        found = inside.judged(inside.open(path, O_RDONLY | O_DIRECTORY), detail=path)
        if found.seen is Seen.OPEN:
            return found
    return found or closed("missing file")


def boot_identity(inside: Inside) -> Outcome:
    """Asks for the kernel's version and host name (uname(2)), which every program may."""
    return inside.judged(inside.call("uname", bytearray(390)))


PROBES = (
    *(_file(name) for name in FILES),
    Probe(
        "information.kernel-addresses",
        GROUP,
        "Read: Addresses of the kernel",
        "T1082",
        kernel_addresses,
    ),
    Probe(
        "information.kernel-log",
        GROUP,
        "Read: The kernel's log (syslog)",
        "T1082",
        kernel_log,
        ("opening:kernel-log",),
    ),
    Probe(
        "information.environment-secrets",
        GROUP,
        "Secrets in its own environment",
        "T1552.001",
        environment,
        ("process:environment-secrets",),
        ("process:environment-secrets",),
    ),
    Probe("information.homes", GROUP, "List home folders of others", "T1083", homes),
    Probe("information.kernel-version", GROUP, "The kernel's version", "T1082", boot_identity),
)
