"""Raw facts of a kernel and of the machine under it, as this host shows them."""

from __future__ import annotations

import msgspec

from ringfence.model.evidence import Evidence, Seen, Unseen
from ringfence.model.process import Mount


class Kernel(msgspec.Struct, frozen=True):
    """The running kernel.

    `settings` maps a sysctl name to its text (None: exists, could not be read); a name that is
    missing does not exist in this kernel. `features` maps a feature of the knowledge base
    (`af-alg`, `nf-tables` ...) to whether it is built in, loaded or loadable. `lsms` is the
    active list. `protections` maps `smep`, `smap`, `umip`, `mitigations`, `lockdown`,
    `module-signing`, `module-loading-closed`, `kexec-closed`, `secure-boot` and `measured-boot`
    to whether they are on.
    """

    release: str
    settings: dict[str, Seen[str]]
    features: dict[str, Seen[bool]]
    lsms: Seen[tuple[str, ...]]
    protections: dict[str, Seen[bool]]


class Machine(msgspec.Struct, frozen=True):
    """The machine underneath: whether this system is a guest, and the devices that it sees.

    `hypervisor` is the detected kind or empty; `devices` maps a device kind of the knowledge
    base (`virtio-net`, `serial-8250` ...) to the places where it was seen.
    """

    virtual: Seen[bool]
    hypervisor: str
    devices: dict[str, tuple[str, ...]]
    evidence: Evidence


class Guard(msgspec.Struct, frozen=True):
    """A host-wide mechanism (firewall, audit, logging, integrity tool): is it really there?"""

    id: str
    present: Seen[bool]


class Account(msgspec.Struct, frozen=True):
    """A user of the host that can log in or that is equivalent to root. No password material."""

    name: str
    uid: int
    reason: str


class Host(msgspec.Struct, frozen=True):
    """What surrounds every workload of this host."""

    kernel: Kernel
    machine: Machine
    guards: tuple[Guard, ...]
    accounts: tuple[Account, ...]
    services: tuple[str, ...]
    mounts: tuple[Mount, ...] = ()
    unseen: tuple[Unseen, ...] = ()
