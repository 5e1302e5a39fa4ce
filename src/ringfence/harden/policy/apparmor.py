"""An AppArmor profile: the files of the image by name, its network families, nothing else.

Language: apparmor.d(5). Load it with `apparmor_parser -r`, name it with
`--security-opt apparmor=NAME`.
"""

from __future__ import annotations

import re

from ringfence.harden.policy.needs import Needs

_NETWORK = {
    ("AF_INET", "SOCK_STREAM"): "network inet stream,",
    ("AF_INET", "SOCK_DGRAM"): "network inet dgram,",
    ("AF_INET6", "SOCK_STREAM"): "network inet6 stream,",
    ("AF_INET6", "SOCK_DGRAM"): "network inet6 dgram,",
    ("AF_NETLINK", "SOCK_RAW"): "network netlink raw,",
}
_SPECIAL = re.compile(r'([*?\[\]{}^"\\])')


def write(needs: Needs) -> str:
    """The profile."""
    lines = [f"# {needs.origin}", "abi <abi/3.0>,", "include <tunables/global>", "",
             f"profile {needs.name} flags=(attach_disconnected,mediate_deleted) {{"]  # fmt: skip
    lines += sorted({f"  {_NETWORK[pair]}" for pair in needs.sockets if pair in _NETWORK})
    if any(family == "AF_UNIX" for family, _ in needs.sockets):
        lines.append(f"  unix peer=(label={needs.name}),")
        lines.append(
            "  unix (create, bind, listen, accept, getattr, setattr, getopt, setopt, shutdown),"
        )
    lines.append(f"  signal peer={needs.name},")
    lines.append("  signal (receive) peer=unconfined,")
    programs = set(needs.programs)
    for entry in needs.entries:
        if entry.kind == "folder":
            lines.append(f"  {_quoted(entry.path + '/')} r,")
        elif entry.kind == "file":
            mode = "mrix" if entry.path in programs else "mr" if _is_library(entry.path) else "r"
            lines.append(f"  {_quoted(entry.path)} {mode},")
    for item in needs.writable:
        lines.append(f"  {_quoted(item.path, '/{,**}')} rwkl,")
    lines += [f"  {line}" for line in _KERNEL]
    return "\n".join([*lines, "}", ""])


_KERNEL = (
    "/dev/{null,zero,full} rw,",
    "/dev/{random,urandom} r,",
    "owner @{PROC}/@{pid}/** r,",
    "owner @{PROC}/@{pid}/fd/* rw,",
    "@{PROC}/{cpuinfo,meminfo,stat,filesystems,loadavg,uptime,version} r,",
    "@{PROC}/sys/{kernel,vm,net}/** r,",
    "@{sys}/devices/system/cpu/** r,",
    "@{sys}/kernel/mm/transparent_hugepage/* r,",
)
"""What the C library, language runtimes and links to standard output read of the kernel."""


def _is_library(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith((".so", ".node")) or ".so." in name


def _quoted(path: str, tail: str = "") -> str:
    plain = _SPECIAL.sub(r"\\\1", path)
    return f'"/{plain}{tail}"'
