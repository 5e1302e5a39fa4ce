"""What a service needs of the host: the one record from which every policy is written."""

from __future__ import annotations

import msgspec

from ringfence.harden.layout import Entry
from ringfence.harden.service import Identity, Service
from ringfence.run.fence import Writable


class Needs(msgspec.Struct, frozen=True):
    """Observed and deduced needs. `calls` and `serving` map a system call to why it is allowed;
    `taken` are the calls that the serving phase loses. `ports` are TCP ports it listens on,
    `destinations` (address, port) it connects to beyond loopback. `sockets` are pairs like
    (AF_INET, SOCK_STREAM). `programs` are paths that it executes. `origin` says in a line where
    all this was seen.
    """

    name: str
    service: Service
    who: Identity
    calls: dict[str, str]
    serving: dict[str, str]
    sockets: tuple[tuple[str, str], ...]
    prctls: tuple[str, ...]
    ioctls: tuple[str, ...]
    ports: tuple[int, ...]
    destinations: tuple[tuple[str, int], ...]
    programs: tuple[str, ...]
    writable: tuple[Writable, ...]
    entries: tuple[Entry, ...]
    origin: str
    asked: tuple[str, ...] = ()
    """Calls with arguments that the user allows, as `socket[AF_ALG,SOCK_SEQPACKET]`."""
    memory_programs: bool = False
    """Whether it executed a file in memory alone."""

    @property
    def taken(self) -> tuple[str, ...]:
        """Calls that the serving phase no longer has."""
        return tuple(sorted(self.calls.keys() - self.serving.keys()))
