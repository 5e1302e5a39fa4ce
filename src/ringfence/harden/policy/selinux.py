"""A SELinux module in CIL: one domain, and types for what it executes, reads and writes.

Language: https://github.com/SELinuxProject/selinux/tree/main/secilc/docs. Load it with
`semodule -i`; the domain is NAME_t. The labels of the image's files are apart
(`selinux_contexts`): in the module they would be rules for the host's own /usr and /etc, and
clash with those of its policy.

What lies outside the image (devices, /proc, ports, whoever starts it) has types of the policy
that the module is loaded into. They are named as the reference policy names them
(https://github.com/SELinuxProject/refpolicy), each in an optional block, which a policy without
that type leaves out. What the rules must hold was read from the kernel's own denials
(tests/system/test_mac_in_guest.py).
"""

from __future__ import annotations

import re

from ringfence.harden.policy.needs import Needs

_SOCKETS = {
    ("AF_INET", "SOCK_STREAM"): "tcp_socket",
    ("AF_INET6", "SOCK_STREAM"): "tcp_socket",
    ("AF_INET", "SOCK_DGRAM"): "udp_socket",
    ("AF_INET6", "SOCK_DGRAM"): "udp_socket",
    ("AF_UNIX", "SOCK_STREAM"): "unix_stream_socket",
    ("AF_UNIX", "SOCK_DGRAM"): "unix_dgram_socket",
    ("AF_NETLINK", "SOCK_RAW"): "netlink_route_socket",
}
_STREAM = "create bind connect listen accept getattr setattr getopt setopt read write shutdown"
_OWN = {"unix_stream_socket": " connectto", "unix_dgram_socket": " sendto"}
"""How a service reaches a socket of its own."""
_LOOK = "getattr search read open"
_CALLS = {
    "setrlimit": "setrlimit", "prlimit64": "setrlimit", "sched_setaffinity": "setsched",
    "sched_setscheduler": "setsched", "setpriority": "setsched", "setpgid": "setpgid",
    "getpgid": "getpgid", "capget": "getcap",
}  # fmt: skip
"""System calls for which the kernel asks SELinux, and the permission (security/selinux/hooks.c)."""
_ATTRIBUTES = (("domain", ("_t",)), ("file_type", ("_exec_t", "_ro_t", "_rw_t")),
               ("entry_type", ("_exec_t",)), ("exec_type", ("_exec_t",)))  # fmt: skip
"""Groups of the reference policy that domains and files must be in: its neverallow rules say so."""
_AROUND = (
    ("device_t", f"dir ({_LOOK})"), ("device_t", "lnk_file (read getattr)"),
    ("tmpfs_t", f"dir ({_LOOK})"), ("tmpfs_t", "lnk_file (read getattr)"),
    ("null_device_t", "chr_file (read write append open getattr ioctl)"),
    ("zero_device_t", "chr_file (read write append open getattr map)"),
    ("random_device_t", "chr_file (read open getattr)"),
    ("urandom_device_t", "chr_file (read open getattr)"),
    ("proc_t", f"dir ({_LOOK})"), ("proc_t", "file (read open getattr)"),
    ("proc_t", "lnk_file (read getattr)"),
    ("sysfs_t", f"dir ({_LOOK})"), ("sysfs_t", "file (read open getattr)"),
    ("sysfs_t", "lnk_file (read getattr)"),
    *((kind, f"{what} ({_LOOK if what == 'dir' else 'read open getattr'})")
      for kind in ("sysctl_t", "sysctl_kernel_t", "sysctl_vm_t", "sysctl_net_t")
      for what in ("dir", "file")),
)  # fmt: skip
"""What the C library, language runtimes and links to standard output read of the kernel; /dev is
device_t, or tmpfs_t where a container engine or our own init has made it."""
_STARTERS = ("init_t", "unconfined_t", "container_engine_t", "container_runtime_t", "dockerd_t")
"""Who may start it, and what it has from them: open descriptors, pipes, the log's socket."""
_PORTS = {
    80: "http_port_t", 443: "http_port_t", 8008: "http_port_t", 8443: "http_port_t",
    8080: "http_cache_port_t", 3306: "mysqld_port_t", 5432: "postgresql_port_t",
    6379: "redis_port_t", 11211: "memcache_port_t",
}  # fmt: skip
"""Ports that the reference policy has types of their own for (corenetwork.te.in)."""


def write(needs: Needs) -> str:
    """The module."""
    name = prefix(needs)
    domain, program, read, written = (f"{name}{end}" for end in ("_t", "_exec_t", "_ro_t", "_rw_t"))
    lines = [f"; {needs.origin}"]
    lines += [f"(type {kind})" for kind in (domain, program, read, written)]
    lines += [f"(roletype object_r {kind})" for kind in (program, read, written)]
    lines += [
        f"(roletype system_r {domain})",
        f"(allow {domain} self (process ({_process(needs)})))",
        f"(allow {domain} {program} (file (entrypoint execute execute_no_trans read open "
        "getattr map)))",
        f"(allow {domain} {read} (file (read open getattr map execute)))",
        f"(allow {domain} {read} (dir (read open getattr search)))",
        f"(allow {domain} {read} (lnk_file (read getattr)))",
        f"(allow {domain} {written} (file (create read write append open getattr setattr lock "
        "rename unlink map)))",
        f"(allow {domain} {written} (dir (create read write open getattr setattr search add_name "
        "remove_name rename rmdir)))",
        f"(allow {domain} {written} (sock_file (create read write open getattr setattr unlink)))",
        f"(allow {domain} self (fifo_file (read write getattr)))",
        f"(allow {domain} self (dir (read open getattr search)))",
        f"(allow {domain} self (file (read open getattr)))",
        f"(allow {domain} self (lnk_file (read getattr)))",
        # Opening /dev/stdout with O_CREAT asks to write to /proc/self/fd, and succeeds without.
        f"(dontaudit {domain} self (dir (write)))",
    ]
    classes = sorted({_SOCKETS[pair] for pair in needs.sockets if pair in _SOCKETS})
    lines += [f"(allow {domain} self ({kind} ({_STREAM}{_OWN.get(kind, '')})))" for kind in classes]
    lines += _around(name, needs, classes)
    return "\n".join([*lines, ""])


def prefix(needs: Needs) -> str:
    """How the names of its types begin: CIL has none that begin with a digit."""
    name = re.sub(r"\W", "_", needs.name, flags=re.ASCII)
    return name if name[0].isalpha() else f"s_{name}"


def _process(needs: Needs) -> str:
    asked = {_CALLS[call] for call in needs.calls if call in _CALLS}
    return " ".join(("fork sigchld signal sigkill signull getsched", *sorted(asked)))


def _around(name: str, needs: Needs, classes: list[str]) -> list[str]:
    """Rules about types of the policy around the module, each in a block of its own."""
    domain = f"{name}_t"
    rules = [f"(typeattributeset {attribute} ({' '.join(name + end for end in ends)}))"
             for attribute, ends in _ATTRIBUTES]  # fmt: skip
    rules += [f"(allow {domain} {kind} ({what}))" for kind, what in _AROUND]
    for kind in sorted({_port(port) for port in needs.ports}):
        rules.append(f"(allow {domain} {kind} (tcp_socket (name_bind)))")
    for kind in sorted({_port(port) for _, port in needs.destinations}):
        rules.append(f"(allow {domain} {kind} (tcp_socket (name_connect)))")
    for kind in classes:
        if kind in ("tcp_socket", "udp_socket"):
            rules.append(f"(allow {domain} node_t ({kind} (node_bind)))")
    found = [_optional(name, number, rule) for number, rule in enumerate(rules)]
    for starter in _STARTERS:
        found.append(_optional(name, len(found), *_started(starter, name)))
    return found


def _started(starter: str, name: str) -> tuple[str, ...]:
    """With no_new_privs a domain changes only where nnp_transition allows it."""
    return (
        f"(allow {starter} {name}_t (process (transition siginh rlimitinh noatsecure)))",
        f"(allow {starter} {name}_t (process2 (nnp_transition nosuid_transition)))",
        f"(allow {name}_t {starter} (process (sigchld)))",
        f"(allow {name}_t {starter} (fd (use)))",
        f"(allow {name}_t {starter} (fifo_file (read write append open getattr ioctl)))",
        f"(allow {name}_t {starter} (unix_stream_socket (read write getattr getopt)))",
    )


def _optional(name: str, number: int, *rules: str) -> str:
    return f"(optional {name}_around_{number} {' '.join(rules)})"


def _port(port: int) -> str:
    """A port's type, by number; by its range where it has none of its own."""
    if port in _PORTS:
        return _PORTS[port]
    if port >= 1024:
        return "unreserved_port_t"
    return "hi_reserved_port_t" if port >= 512 else "reserved_port_t"
