"""Raw facts of a live process, or of a process that a container's configuration describes."""

from __future__ import annotations

import msgspec

from ringfence.acl import Entry
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.files import Elf, Step


class CallVerdict(msgspec.Struct, frozen=True):
    """What the stacked seccomp filters do with one system call.

    `actions` holds every action that some choice of arguments can get, most permissive first:
    `allow`, `log`, `trace`, `notify`, `errno`, `trap`, `kill-thread`, `kill-process`. More than
    one means that it depends on the arguments, whose indexes (0 to 5) are in `arguments`.
    `errno` is the errno of the refusal where it is the same for all of them. `through` names
    other architectures as which the call passes although it is refused natively: an attacker
    writes the instruction himself.
    """

    actions: tuple[str, ...]
    errno: int | None = None
    arguments: tuple[int, ...] = ()
    through: tuple[str, ...] = ()


class Seccomp(msgspec.Struct, frozen=True):
    """The seccomp filters of one process.

    `mode` as in /proc/PID/status: 0 off, 1 strict, 2 filter. `filters` is their number.
    `calls` has one verdict for each system call of the native table, with or without filters;
    `asked` one for each call with fixed arguments that the knowledge base asks about
    (`socket[AF_PACKET]`); `foreign` names other architectures whose calls the filters let
    through (`i386`, `x32`). `answered` tells why whoever answers for calls that the filters hand
    on lets none of them through; None where that is not known.
    """

    mode: int
    filters: int
    evidence: Evidence
    calls: dict[str, CallVerdict] = {}
    asked: dict[str, CallVerdict] = {}
    foreign: tuple[str, ...] = ()
    answered: Evidence | None = None


class Credentials(msgspec.Struct, frozen=True):
    """User, groups and capability sets, numbered as in the initial user namespace.

    Of a process whose threads differ: what all of them together have. `uid` and `gid` are the
    effective ids of the most privileged thread, `uids` every user that a thread is or may become
    again with one call (real, effective, saved, file system). Each capability set holds the names
    of capabilities(7). `root_mapped` tells whether its user namespace maps the system's user 0:
    over that user's files its capabilities hold even where the namespace is its own.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    user: str
    effective: frozenset[str]
    permitted: frozenset[str]
    inheritable: frozenset[str]
    bounding: frozenset[str]
    ambient: frozenset[str]
    evidence: Evidence
    uids: frozenset[int] = frozenset()
    root_mapped: bool = False

    @property
    def root(self) -> bool:
        """Whether it is user 0, or may be it again with one call."""
        return self.uid == 0 or 0 in self.uids

    @property
    def usable(self) -> frozenset[str]:
        """The capabilities that its code can use: a permitted one is made effective at will."""
        return self.effective | self.permitted


class Namespace(msgspec.Struct, frozen=True):
    """One namespace of a process: `shared` tells whether init is in the same one."""

    kind: str
    inode: int | None
    shared: Seen[bool]


class Mount(msgspec.Struct, frozen=True):
    """One line of mountinfo: options are those of the mount and of the file system together.

    `root` is the directory of the file system that forms the mount's root, and `device` is that
    file system's number (`8:1`); a mount that a configuration only describes has none, and its
    `root` is the path on the host. `hidden` where other mounts lie over it: no path leads there.
    `number` is the mount's own, as in mountinfo; 0 where a configuration describes it.
    """

    path: str
    root: str
    fstype: str
    source: str
    options: frozenset[str]
    device: str = ""
    hidden: bool = False
    number: int = 0


class Memory(msgspec.Struct, frozen=True):
    """What the live maps show. `writable_executable` counts such mappings.

    `mapped` maps the path of each file that code runs from (the program and its libraries) to
    its size in bytes.
    """

    writable_executable: int
    executable_stack: bool
    position_independent: bool | None
    mapped: dict[str, int]
    evidence: Evidence


class Listener(msgspec.Struct, frozen=True):
    """A listening or receiving socket and the processes that hold it.

    `kind` is `tcp`, `udp`, `unix`, `raw`, `packet`, `vsock` or `netlink`. `waiting` are those that
    were seen waiting on it (epoll set, accept or poll), none where that was not seen. `mode` is
    the mode of a Unix socket's file (None for an abstract one, and where it was not found), and
    `way` what whoever connects by that file must get past: the folders above it, then the file
    (empty where they were not seen). `exposed` is False when its
    network namespace has no interface but loopback; `namespace_shared` is False when no process
    outside the workload is in it; `network` is that namespace's inode, None where it is not known.
    `holders_seen` is False when `holders` are all that may hold it: none where that is not known.
    `supposed` says that no process of the workload was ever seen to hold it: it may as well be the
    kernel's own, as those of tunnels and of servers in the kernel are.
    """

    kind: str
    address: str
    port: int | None
    inode: int
    holders: tuple[int, ...]
    waiting: tuple[int, ...]
    evidence: Evidence
    path: str = ""
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    way: tuple[Step, ...] = ()
    exposed: bool = True
    namespace_shared: bool = True
    holders_seen: bool = True
    supposed: bool = False
    network: int | None = None


class Limits(msgspec.Struct, frozen=True):
    """cgroup and process limits: None where there is no limit, in the kernel's units.

    `devices` are the rules of the device cgroup, each of which lets through what it names, as
    version 1 lists them (`c 1:3 rwm`, `a *:* rwm`); the value None where they were not seen.
    """

    memory_bytes: int | None
    pids: int | None
    cpu_quota: float | None
    cgroup: str
    evidence: Evidence
    devices: Seen[tuple[str, ...]] = Seen(None, Evidence(Grade.ASSUMED, "devices", "not seen"))


class EnvironmentHint(msgspec.Struct, frozen=True):
    """The name of an environment variable that looks like a secret, and why. Never its value."""

    name: str
    reason: str


class PathFact(msgspec.Struct, frozen=True):
    """A path of the knowledge base's list as this workload sees it.

    `id` is the knowledge entry; mode, uid and gid as in stat(2), numbered as in the initial user
    namespace. `read_only` if the mount forbids writing; `device_allowed` None where the device
    cgroup could not be read; `acl` the entries of its ACL, none without one, None if they could
    not be read.
    """

    id: str
    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    read_only: bool
    evidence: Evidence
    device_allowed: bool | None = None
    acl: tuple[Entry, ...] | None = ()


class Outside(msgspec.Struct, frozen=True):
    """A directory that a process still has, through a link of /proc (`via`), though no path leads
    there.

    `host` where its uppermost parent is the host's root directory. `under` are numbers of mounts
    of the process's own, under other ones, that it leads into: such a directory leads no farther.
    `namespace` where the link is a mount namespace, of the host's or not, to be entered.
    """

    via: str
    host: bool
    under: tuple[int, ...] = ()
    namespace: bool = False


class Process(msgspec.Struct, frozen=True):
    """One live process, or the one that a container's configuration describes (`pid` None).

    `image` holds the facts of its executable; `neighbours` names other programs that run as the
    same user in the same PID namespace; `terminal` tells of a controlling terminal; `paths` are
    the knowledge base's paths that exist in its view (`paths_seen` False: could not look).
    `outside` are directories that it has beyond that view (`outside_seen` False: not all that it
    has were looked at).
    """

    pid: int | None
    parent: int | None
    program: str
    executable: str
    credentials: Seen[Credentials]
    no_new_privileges: Seen[bool]
    seccomp: Seen[Seccomp]
    namespaces: tuple[Namespace, ...]
    mac_label: Seen[str]
    mounts: Seen[tuple[Mount, ...]]
    memory: Seen[Memory]
    limits: Seen[Limits]
    environment: Seen[tuple[EnvironmentHint, ...]]
    image: Seen[Elf]
    neighbours: Seen[tuple[str, ...]]
    terminal: Seen[bool]
    paths: tuple[PathFact, ...] = ()
    paths_seen: bool = True
    outside: tuple[Outside, ...] = ()
    outside_seen: bool = True
    threads: int = 1

    @property
    def name(self) -> str:
        """How reports name it: `nginx[1234]`."""
        return f"{self.program}[{self.pid}]" if self.pid is not None else self.program
