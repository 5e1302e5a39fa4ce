"""This host, put together."""

from __future__ import annotations

import os

from ringfence.collect.host.accounts import accounts
from ringfence.collect.host.firewall import firewall
from ringfence.collect.host.guards import guards
from ringfence.collect.host.inventory import installed
from ringfence.collect.host.kernel import kernel
from ringfence.collect.host.machine import machine
from ringfence.collect.process import procfs
from ringfence.collect.process.descriptors import sockets_of
from ringfence.collect.process.mounts import mounts
from ringfence.collect.process.namespaces import inode_of
from ringfence.knowledge.records import Knowledge
from ringfence.model.kernel import Host


def read_host(knowledge: Knowledge, workload: list[int]) -> Host:
    """What surrounds the processes `workload`; other listening programs are the other services."""
    found, unseen = accounts()
    return Host(
        kernel=kernel(knowledge),
        machine=machine(knowledge),
        guards=guards(),
        accounts=found,
        services=other_services(set(workload)),
        mounts=mounts("self").value or (),
        absent=_absent(knowledge),
        firewall=firewall(),
        network=inode_of("self", "net"),
        installed=installed(),
        unseen=unseen,
    )


def _absent(knowledge: Knowledge) -> frozenset[str]:
    """Paths to mount that this host does not have; a link leads to what has a path of its own."""
    paths = [path for entry in knowledge.mounts.values() for path in entry.paths]
    return frozenset(path for path in paths if os.path.islink(path) or not os.path.isdir(path))


def other_services(workload: set[int]) -> tuple[str, ...]:
    """Names of programs outside the workload that hold a listening TCP socket of this host."""
    wanted = _listening_inodes()
    names: dict[str, None] = {}
    for pid in map(procfs.living, procfs.pids()):
        if pid in workload:
            continue
        try:
            if sockets_of(pid) & wanted:
                names[procfs.read(pid, "comm").decode("utf-8", "replace").strip()] = None
        except (OSError, procfs.Vanished):
            continue
    return tuple(names)


def _listening_inodes() -> set[int]:
    found: set[int] = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = procfs.read("self", f"net/{name}").decode().splitlines()[1:]
        except OSError:
            continue
        found.update(int(line.split()[9]) for line in lines if line.split()[3] == "0A")
    return found
