"""A SELinux module in CIL: one domain, and types for what it executes, reads and writes.

Language: https://github.com/SELinuxProject/selinux/tree/main/secilc/docs. Load it with
`semodule -i`, label the unpacked root with `restorecon`; the domain is NAME_t.
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
_LEVEL = "((s0) (s0))"


def write(needs: Needs) -> str:
    """The module."""
    name = re.sub(r"\W", "_", needs.name)
    domain, program, read, written = (f"{name}{end}" for end in ("_t", "_exec_t", "_ro_t", "_rw_t"))
    lines = [f"; {needs.origin}"]
    lines += [f"(type {kind})" for kind in (domain, program, read, written)]
    lines += [f"(roletype object_r {kind})" for kind in (program, read, written)]
    lines += [
        f"(roletype system_r {domain})",
        f"(allow {domain} self (process (fork sigchld signal sigkill signull getsched)))",
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
    ]
    classes = sorted({_SOCKETS[pair] for pair in needs.sockets if pair in _SOCKETS})
    lines += [f"(allow {domain} self ({kind} ({_STREAM})))" for kind in classes]
    lines += _files(needs, program, read, written)
    return "\n".join([*lines, ""])


def _files(needs: Needs, program: str, read: str, written: str) -> list[str]:
    lines = []
    programs = set(needs.programs)
    for entry in needs.entries:
        kind = {"folder": "dir", "file": "file", "link": "symlink"}[entry.kind]
        label = program if entry.path in programs else read
        lines.append(
            f'(filecon "/{_pattern(entry.path)}" {kind} (system_u object_r {label} {_LEVEL}))'
        )
    for item in needs.writable:
        place = _pattern(item.path)
        lines.append(f'(filecon "/{place}/.*" any (system_u object_r {written} {_LEVEL}))')
    return lines


def _pattern(path: str) -> str:
    return re.sub(r'([.^$?*+|\[\](){}\\"])', r"\\\1", path)
