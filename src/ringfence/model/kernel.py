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


class Acceptance(msgspec.Struct, frozen=True):
    """Ports that a chain lets in: `protocol` is `tcp`, `udp` or '' for any, `low` to `high`
    inclusive, `everyone` False where an address or an interface is asked for as well."""

    protocol: str
    low: int
    high: int
    everyone: bool


class InputChain(msgspec.Struct, frozen=True):
    """A base chain on the input hook that refuses what it does not name.

    `families` are `ip` and `ip6`; `followed` is False where rules hand on to other chains, which
    may accept anything.
    """

    name: str
    families: tuple[str, ...]
    accepted: tuple[Acceptance, ...]
    followed: bool


class Firewall(msgspec.Struct, frozen=True):
    """The refusing input chains of one network namespace; a packet must pass all of them."""

    chains: tuple[InputChain, ...]


class Installed(msgspec.Struct, frozen=True):
    """What the host's package manager says is installed: number of files, and bytes."""

    files: int
    bytes: int


class Host(msgspec.Struct, frozen=True):
    """What surrounds every workload of this host.

    `firewall` is that of the network namespace with the inode `network`, in which Ringfence runs.
    `absent` are those paths of the knowledge base's `mounts.toml` that are no folder here.
    """

    kernel: Kernel
    machine: Machine
    guards: tuple[Guard, ...]
    accounts: tuple[Account, ...]
    services: tuple[str, ...]
    mounts: tuple[Mount, ...] = ()
    absent: frozenset[str] = frozenset()
    firewall: Seen[Firewall] | None = None
    network: int | None = None
    installed: Seen[Installed] | None = None
    unseen: tuple[Unseen, ...] = ()
