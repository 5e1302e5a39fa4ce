"""Landlock rules as JSON: handled rights, paths and ports, named as in linux/landlock.h.

Meant for loaders such as landlockconfig, and not tried with one.

Kernel documentation: Documentation/userspace-api/landlock.rst. ABI 4 brings TCP ports, ABI 6
signals and abstract sockets; threads, Unix socket paths and UDP are not in its reach before ABI 8.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ringfence.harden.policy.needs import Needs
from ringfence.report.json_format import encoded

READ, EXECUTE, FOLDER = "read_file", "execute", "read_dir"
WRITE = ("read_file", "read_dir", "write_file", "truncate", "remove_file", "remove_dir",
         "make_reg", "make_dir", "make_sock", "make_fifo", "make_sym", "refer")  # fmt: skip


def write(needs: Needs) -> str:
    """The rules."""
    programs = set(needs.programs)
    runs = [entry.path for entry in needs.entries if entry.kind == "file" and entry.mode & 0o111]
    folders = sorted({f"/{entry.path.partition('/')[0]}" for entry in needs.entries
                      if entry.kind == "file"})  # fmt: skip
    beneath: list[dict[str, Any]] = [
        {"allowedAccess": [READ, FOLDER], "parent": [*folders, "/proc", "/sys"]},
        {"allowedAccess": [READ, EXECUTE],
         "parent": [f"/{path}" for path in sorted(programs | set(runs))]},
        {"allowedAccess": [READ, "write_file"],
         "parent": ["/dev/null", "/dev/zero", "/dev/urandom"]},
    ]  # fmt: skip
    if needs.writable:
        places = [f"/{item.path}" for item in needs.writable]
        beneath.append({"allowedAccess": list(WRITE), "parent": places})
    document: dict[str, Any] = {
        "comment": needs.origin,
        "abi": 6,
        "ruleset": [
            {
                "handledAccessFs": sorted(
                    {READ, EXECUTE, FOLDER, *WRITE, "make_char", "make_block"}
                ),
                "handledAccessNet": ["bind_tcp", "connect_tcp"],
                "scoped": ["abstract_unix_socket", "signal"],
            }
        ],
        "pathBeneath": beneath,
        "netPort": [{"allowedAccess": ["bind_tcp"], "port": list(needs.ports)}],
    }
    outward = sorted({port for _, port in needs.destinations})
    if outward:
        document["netPort"].append({"allowedAccess": ["connect_tcp"], "port": outward})
    return msgspec.json.format(encoded(document), indent=1).decode() + "\n"
