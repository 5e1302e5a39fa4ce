"""Listening sockets of a workload, who holds each, and who waits on it.

The sockets come from /proc/PID/net of each network namespace, matched by inode with the
descriptors of their threads, which may differ in both; what no table lists is asked itself. Who
waits is seen in three places: the epoll sets in /proc/PID/fdinfo, and the system call that a thread
is blocked in (/proc/PID/task/TID/syscall): accept with the descriptor, or poll and select with a
set that is read from the process's memory.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import stat
import struct
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.asking import ask
from ringfence.collect.process.descriptors import Table, sockets_of, tables, threads_of
from ringfence.collect.process.namespaces import inode_of
from ringfence.collect.process.socketfiles import SocketFiles
from ringfence.collect.seccomp.tables import native_calls
from ringfence.model.evidence import Evidence, Grade, Unseen
from ringfence.model.process import Listener

TCP_LISTEN = "0A"
UDP_UNCONNECTED = "07"
UNIX_LISTENING = 0x10000
UNIX_DATAGRAM = 0x2
UNIX_ROW = re.compile(
    rb"(?:[0-9a-f]{16}|[0-9a-f]{8}|\(_+ptrval_+\)): [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) "
    rb"([0-9A-F]{4}) [0-9A-F]{2} ( {4}[0-9]| {3}[0-9]{2}| {2}[0-9]{3}| [0-9]{4}|[0-9]{5,20})"
    rb"(?: (.+))?"
)
"""A row of /proc/net/unix, as unix_seq_show of the kernel's net/unix/af_unix.c prints it:
`%pK: %08X %08X %08X %04X %02X %5lu`, and a space and the name where the socket has one."""
EPOLL_ROW = re.compile(
    rb"tfd: +([0-9]{1,10}) events: +[0-9a-f]+ data: +[0-9a-f]+"
    rb"(?: +pos:-?[0-9]+ ino:([0-9a-f]+) sdev:[0-9a-f]+)?"
)
"""A row of an epoll set's fdinfo, as ep_show_fdinfo of the kernel's fs/eventpoll.c prints it."""
LISTED = frozenset({
    "TCP", "TCPv6", "MPTCP", "MPTCPv6", "UDP", "UDPv6", "UDP-Lite", "UDPLITEv6", "RAW", "RAWv6",
    "PACKET", "UNIX", "UNIX-STREAM",
    "NETLINK", "PING", "PINGv6",  # take what the kernel sends, and answers to what was asked
})  # fmt: skip
"""Protocols, as sockfs names them (`system.sockprotoname`), whose sockets are in the tables read
here or are open to nobody."""
ASKED = LISTED - {"NETLINK", "PING", "PINGv6"} | {"AF_VSOCK"}
"""Those whose sockets are asked where the tables read do not list them: all of AF_VSOCK's."""
MOST_POLLED = 4096
MOST_NAMED = 8
"""Sockets whose holder is not seen that are named in one line."""
ACCEPT, POLL, SELECT = ("accept", "accept4"), ("poll", "ppoll"), ("select", "pselect6")
"""Calls in which a thread waits on descriptors that can be told from outside."""


class Holding(msgspec.Struct, frozen=True):
    """One process's descriptor tables, whether these are all, the inodes that it waits on, and the
    network namespaces of its threads: inode -> a thread in it."""

    pid: int
    tables: list[Table]
    complete: bool
    waiting: frozenset[int]
    spaces: dict[int | None, int]

    @property
    def inodes(self) -> frozenset[int]:
        """The sockets that it holds."""
        return frozenset().union(
            *(table.sockets.keys() | table.registered for table in self.tables)
        )


class Bound(msgspec.Struct, frozen=True):
    """One listening socket of a network namespace, before its holders are known."""

    kind: str
    address: str
    port: int | None
    inode: int
    source: str
    name: bytes = b""


def listeners(
    pids: list[int],
    *,
    whole_host: bool = False,
    earlier: frozenset[int] = frozenset(),
    others: dict[int, frozenset[int]] | None = None,
) -> tuple[tuple[Listener, ...], tuple[Unseen, ...]]:
    """The listening sockets that the processes `pids` hold, and what could not be seen.

    Of a whole host a socket without a known holder is taken to be held by whichever processes
    do not show theirs. Any of `pids` may hold one that the workload was seen to hold `earlier` (by
    inode), and is supposed to hold one in a network namespace that nobody else is in.

    `others` are given for a workload that does not rest: the processes that are surely none of it,
    and the inodes of the sockets that each shows. What neither they nor `pids` are seen to hold in
    a network namespace that they share is told as unseen; so it is where one of `pids` does not
    show what it holds.
    """
    unseen: list[Unseen] = []
    holdings, hidden = _holdings(pids, unseen)
    spaces: dict[int | None, int] = {}
    for space, thread in (each for holding in holdings for each in holding.spaces.items()):
        spaces.setdefault(space, thread)
    if whole_host:
        spaces.setdefault(inode_of("self", "net"), os.getpid())
    veiled = _networks(hidden)
    known = _networks(spaces.values())
    looked = [*spaces.items(), *((None, veiled[one]) for one in veiled if one not in known)]
    suspects = tuple(hidden) if whole_host else tuple(pids)
    own = earlier.union(*(holding.inodes for holding in holdings))
    listed: set[int] = set()
    files = SocketFiles()
    found: list[Listener] = []
    for space, thread in looked:
        exposed = _has_interface(thread)
        shared = _shared_outside(thread, pids, others, unseen)
        rows = _bound(thread, unseen, listed)
        loose = [row for row in rows if row.inode not in own]
        if not whole_host:
            silent = others is not None or bool(_networks([thread]).keys() & veiled)
            loose = _nobodys(loose, pids, others, asked=silent or not shared)
            if shared and loose:
                unseen.append(_whose(loose, thread))
                loose = []
        supposed = {row.inode for row in loose}
        found += [
            msgspec.structs.replace(
                _held(row, thread, holdings, suspects, files),
                exposed=exposed,
                namespace_shared=shared,
                supposed=row.inode in supposed and not whole_host,
                network=space,
            )
            for row in rows
            if row.inode in own or row.inode in supposed
        ]
    for holding in holdings:
        found += _unlisted(holding, holdings, listed, files, unseen)
    return _one_each(found), tuple(unseen)


def _nobodys(
    loose: list[Bound], pids: list[int], others: dict[int, frozenset[int]] | None, *, asked: bool
) -> list[Bound]:
    """Those that other processes do not show to hold either. What they hold in a network namespace
    of the workload's own was made by one that has left it.

    In a shared one a workload that rests, and shows what its processes hold, holds no other: none
    is `asked` for."""
    if not loose or not asked:
        return []
    known = _held_outside(pids) if others is None else frozenset().union(*others.values())
    return [row for row in loose if row.inode not in known]


def _whose(loose: list[Bound], thread: int) -> Unseen:
    """That the sockets may be the workload's, which was not seen to hold them, or may be not."""
    places = [f"{row.kind} {_place(row)}" for row in loose[:MOST_NAMED]]
    more = f" and {len(loose) - MOST_NAMED} more" if len(loose) > MOST_NAMED else ""
    return Unseen(
        f"who listens at {', '.join(places)}{more} in the network namespace of process {thread}",
        "nobody is seen to hold it; no entry point, since the namespace is shared",
    )


def _held_outside(pids: list[int]) -> frozenset[int]:
    """The sockets that other processes than these hold, as far as they show them."""
    own, found = set(pids), set[int]()
    for pid in map(procfs.living, procfs.pids()):
        if pid not in own:
            with contextlib.suppress(OSError):
                found |= sockets_of(pid)
    return frozenset(found)


def _holdings(pids: list[int], unseen: list[Unseen]) -> tuple[list[Holding], list[int]]:
    """What each process holds, and those that do not show it; adds to `unseen`."""
    holdings: list[Holding] = []
    hidden: list[int] = []
    for pid in pids:
        try:
            holding = _holding(pid)
        except procfs.Vanished:
            continue
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            unseen.append(Unseen(f"sockets of process {pid}", why))
            hidden.append(pid)
            continue
        holdings.append(holding)
        if not holding.complete:
            why = "too many of its threads have descriptors of their own"
            unseen.append(Unseen(f"all sockets of process {pid}", why))
        if any(table.unread_rings for table in holding.tables):
            what = f"files that process {pid} registered with io_uring"
            unseen.append(Unseen(what, "its fdinfo does not name them"))
    return holdings, hidden


def _unlisted(
    holding: Holding,
    holdings: list[Holding],
    listed: set[int],
    files: SocketFiles,
    unseen: list[Unseen],
) -> list[Listener]:
    """Listening sockets of the process that no table of a namespace in reach lists, found by
    asking each; adds to `unseen`."""
    found: list[Listener] = []
    silent: dict[str, str] = {}
    for table in holding.tables:
        thread = table.threads[0]
        for inode in table.registered - table.sockets.keys() - listed:
            silent[f"socket {inode}, registered with io_uring,"] = "no table of /proc/net lists it"
        for inode, (descriptor, *_) in table.sockets.items():
            protocol = "" if inode in listed else _protocol(thread, descriptor)
            if protocol and protocol not in LISTED | ASKED:
                silent[f"sockets of {protocol}"] = "no table of /proc/net lists them"
            if protocol not in ASKED:
                continue
            try:
                taking = ask(thread, descriptor, inode)
            except OSError as error:
                why = os.strerror(error.errno or 0).lower()
                silent[f"unlisted sockets of {protocol}"] = f"they may not be asked: {why}"
                continue
            if taking is not None:
                source = f"/proc/{thread}/fd/{descriptor}"
                bound = Bound(taking.kind, taking.address, taking.port, inode, source, taking.name)
                found.append(_held(bound, thread, holdings, (), files))
    unseen += [
        Unseen(f"whether {what} of process {holding.pid} take anything", why)
        for what, why in silent.items()
    ]
    return found


def _one_each(found: list[Listener]) -> tuple[Listener, ...]:
    """One listener for each inode, which no two sockets share (sockfs numbers all families).

    More than one row of an inode means that a user bound a Unix socket, in any network namespace,
    to a name that holds the like of a row. The other tables hold no names: their rows count. Of
    Unix rows neither the first nor the last is sure to be the kernel's, for the table goes by
    hash; so the one that lets more people in counts, lest a forged row hide a socket.
    """
    rows: dict[int, list[Listener]] = {}
    for listener in found:
        rows.setdefault(listener.inode, []).append(listener)
    return tuple(_widest(same) for same in rows.values())


def _widest(same: list[Listener]) -> Listener:
    """The row of one inode that counts, as reachable as any of them says."""
    rows = [row for row in same if row.kind != "unix"] or same
    chosen = max(rows, key=_openness)
    evidence = chosen.evidence
    if any((row.path, row.mode) != (chosen.path, chosen.mode) for row in rows):
        more = "; other rows have the same inode, so a name forges one: the most open one counts"
        evidence = msgspec.structs.replace(evidence, detail=evidence.detail + more)
        chosen = msgspec.structs.replace(chosen, way=())
    return msgspec.structs.replace(
        chosen,
        evidence=evidence,
        exposed=any(row.exposed for row in rows),
        namespace_shared=any(row.namespace_shared for row in rows),
        supposed=all(row.supposed for row in rows),
    )


def _openness(listener: Listener) -> tuple[bool, int, int]:
    """How many a Unix socket's file lets connect: all where there is none, else by its mode."""
    mode = listener.mode or 0
    return listener.mode is None, mode & stat.S_IWOTH, mode & stat.S_IWGRP


def _held(
    bound: Bound,
    thread: int,
    holdings: list[Holding],
    suspects: tuple[int, ...],
    files: SocketFiles,
) -> Listener:
    holders = [holding for holding in holdings if bound.inode in holding.inodes]
    pid = holders[0].pid if holders else thread
    way = files.way(bound.inode, bound.name, pid, thread)
    place = _place(bound)
    return Listener(
        kind=bound.kind,
        address=bound.address,
        port=bound.port,
        inode=bound.inode,
        holders=tuple(holding.pid for holding in holders) or suspects,
        holders_seen=bool(holders),
        waiting=tuple(h.pid for h in holders if bound.inode in h.waiting),
        evidence=Evidence(Grade.OBSERVED, bound.source, f"{bound.kind} {place} listens"),
        path=_shown(bound.name),
        mode=way[-1].mode if way else None,
        uid=way[-1].uid if way else None,
        gid=way[-1].gid if way else None,
        way=way,
    )


def _place(bound: Bound) -> str:
    """Where it listens, for people."""
    if bound.kind == "unix":
        return _shown(bound.name) or f"socket {bound.inode} without a name"
    return bound.address if bound.port is None else f"{bound.address} port {bound.port}"


def _shown(name: bytes) -> str:
    """A socket's name for people: its user chose the bytes, which need be no text of one line."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _holding(pid: int) -> Holding:
    """The process's sockets and what it waits on. Raises OSError when it may not be read, or
    procfs.Vanished."""
    found, complete = tables(pid)
    waiting: set[int] = set()
    for table in found:
        by_descriptor = {fd: inode for inode, fds in table.sockets.items() for fd in fds}
        waiting |= _epoll_inodes(table.threads[0], table.epolls, by_descriptor)
        waiting |= _blocked_on(table.threads, by_descriptor)
    spaces: dict[int | None, int] = {}
    for thread in threads_of(pid):
        spaces.setdefault(inode_of(thread, "net"), thread)
    if len(spaces) > 1:
        spaces.pop(None, None)  # of a thread that has just ended
    return Holding(pid, found, complete, frozenset(waiting), spaces)


def _protocol(pid: int, descriptor: int) -> str:
    """The protocol of a socket, as sockfs_xattr_get of the kernel's net/socket.c tells it; '' where
    it does not."""
    try:
        name = os.getxattr(f"/proc/{pid}/fd/{descriptor}", "system.sockprotoname")
    except OSError:
        return ""
    return name.rstrip(b"\0").decode("ascii", "replace")


def _epoll_inodes(pid: int, epolls: Sequence[int], by_descriptor: dict[int, int]) -> set[int]:
    """Inodes in the process's epoll sets: `tfd: 6 events: 19 data: ... ino:1f3a sdev:8`.

    The process may put another file in the descriptor's place meanwhile, whose fdinfo can hold a
    text that a user chose (of a tun device its name): what is no such row is passed over.
    """
    found: set[int] = set()
    for descriptor in epolls:
        try:
            lines = procfs.read(pid, f"fdinfo/{descriptor}").split(b"\n")
        except OSError:
            continue
        for row in filter(None, map(EPOLL_ROW.fullmatch, lines)):
            if row[2] is not None:
                found.add(int(row[2], 16))
            elif int(row[1]) in by_descriptor:
                found.add(by_descriptor[int(row[1])])
    return found


def _blocked_on(threads: Sequence[int], by_descriptor: dict[int, int]) -> set[int]:
    """Inodes that one of the threads waits on in accept, poll or select right now."""
    found: set[int] = set()
    accept, poll, select = (_numbers(names) for names in (ACCEPT, POLL, SELECT))
    for thread in threads:
        try:
            words = procfs.read(thread, "syscall").decode().split()
        except (OSError, procfs.Vanished):
            continue
        if len(words) < 7 or not words[0].isdigit():
            continue
        number, arguments = int(words[0]), [int(word, 16) for word in words[1:7]]
        waited: list[int] = []
        if number in accept:
            waited = [arguments[0]]
        elif number in poll:
            waited = _polled(thread, arguments[0], arguments[1])
        elif number in select:
            waited = _selected(thread, arguments[0], arguments[1])
        found.update(by_descriptor[fd] for fd in waited if fd in by_descriptor)
    return found


def _numbers(names: tuple[str, ...]) -> frozenset[int]:
    """Numbers of these calls on this machine, as far as it has them."""
    calls = native_calls()
    return frozenset(calls[name] for name in names if name in calls)


def _memory(pid: int, address: int, length: int) -> bytes:
    try:
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
            file.seek(address)
            return file.read(length)
    except (OSError, OverflowError):
        return b""


def _polled(pid: int, address: int, count: int) -> list[int]:
    """Descriptors of an array of struct pollfd {int fd; short events; short revents;}."""
    data = _memory(pid, address, min(count, MOST_POLLED) * 8)
    usable = data[: len(data) // 8 * 8]
    return [fd for fd, _, _ in struct.iter_unpack("<ihh", usable)]


def _selected(pid: int, count: int, address: int) -> list[int]:
    """Descriptors of an fd_set that select waits to read from."""
    data = _memory(pid, address, (min(count, 1024) + 7) // 8) if address else b""
    bits = int.from_bytes(data, "little")
    return [fd for fd in range(min(count, 1024)) if bits >> fd & 1]


def _has_interface(pid: int) -> bool:
    """Whether the process's network namespace has an interface besides loopback."""
    try:
        return bool(_interfaces(procfs.read(pid, "net/dev")) - {b"lo"})
    except (OSError, procfs.Vanished):
        return True


def _interfaces(table: bytes) -> set[bytes]:
    """The names in /proc/PID/net/dev: any bytes but colon, slash, and what C holds to be a space.

    Whoever has a network namespace chooses them, so a name may be no UTF-8, and may hold or end
    with what Python takes for the end of a line or for a space.
    """
    return {line.partition(b":")[0].lstrip(b" ") for line in table.split(b"\n")[2:] if line}


def _shared_outside(
    thread: int, pids: list[int], others: Collection[int] | None, unseen: list[Unseen]
) -> bool:
    """Whether a process outside the workload is, or may be, in the thread's network namespace; adds
    to `unseen` where it only may be. Those are the `others` if given: of a workload that does not
    rest a process that is not among `pids` may be its own."""
    own = set(pids)
    hidden = 0
    try:
        space = _network(thread)
        if os.getpid() not in own and _network(os.getpid()) == space:
            return True
    except OSError:
        return True
    for pid in procfs.pids() if others is None else others:
        if procfs.living(pid) in own:
            continue
        try:
            if any(_network(each) == space for each in threads_of(pid)):
                return True
        except procfs.Vanished:
            continue
        except OSError:
            hidden += procfs.is_program(procfs.living(pid))
    if hidden:
        what = f"who else is in the network namespace of process {thread}"
        unseen.append(Unseen(what, f"{hidden} of the other processes do not show theirs"))
    return hidden > 0


def _networks(threads: Iterable[int]) -> dict[int | None, int]:
    """The network namespaces of threads, as `_network` tells them apart, each with one in it."""
    found: dict[int | None, int] = {}
    for thread in threads:
        with contextlib.suppress(OSError):
            found.setdefault(_network(thread), thread)
    found.pop(None, None)
    return found


def _network(thread: int) -> int | None:
    """What tells a thread's network namespace from others; None where the thread has ended.

    Its files have inode numbers of their own in each network namespace, and unlike the link
    /proc/PID/ns/net they may be looked at without any privilege. Raises OSError.
    """
    try:
        return os.stat(f"/proc/{thread}/net/dev").st_ino
    except (FileNotFoundError, ProcessLookupError):
        return None


def _bound(pid: int, unseen: list[Unseen], listed: set[int]) -> list[Bound]:
    """Every listening socket of the process's network namespace; adds to `unseen`, and all sockets
    of the namespace to `listed`, by inode."""
    found: list[Bound] = []
    for name, kind, wanted in (
        ("tcp", "tcp", TCP_LISTEN),
        ("tcp6", "tcp", TCP_LISTEN),
        ("udp", "udp", UDP_UNCONNECTED),
        ("udp6", "udp", UDP_UNCONNECTED),
        ("udplite", "udp", UDP_UNCONNECTED),
        ("udplite6", "udp", UDP_UNCONNECTED),
        ("raw", "raw", UDP_UNCONNECTED),
        ("raw6", "raw", UDP_UNCONNECTED),
    ):
        for words in _table(pid, name, unseen):
            if len(words) <= 9:
                continue
            listed.add(int(words[9]))
            if words[3] == wanted:
                address, port = _address(words[1])
                found.append(Bound(kind, address, port, int(words[9]), f"/proc/{pid}/net/{name}"))
    found += _unix(pid, unseen, listed)
    for words in _table(pid, "packet", unseen):
        if len(words) > 8:
            listed.add(int(words[8]))
            where = f"interface {words[4]}"
            found.append(Bound("packet", where, None, int(words[8]), f"/proc/{pid}/net/packet"))
    return found


def _unix(pid: int, unseen: list[Unseen], listed: set[int]) -> list[Bound]:
    source = f"/proc/{pid}/net/unix"
    lines = _lines(pid, "unix", unseen)
    rows = _unix_rows(lines)
    listed.update(int(row[3]) for row in map(UNIX_ROW.fullmatch, lines) if row is not None)
    return [Bound("unix", "", None, inode, source, name) for inode, name in rows]


def _unix_rows(lines: list[bytes]) -> list[tuple[int, bytes]]:
    """Inode and name of each socket in the lines of /proc/net/unix that takes what comes: it
    listens, or it takes datagrams and has a name. One that is connected takes them from its peer
    alone, which the table does not tell: the state is that of either end.

    The kernel prints a name as its user chose it, with spaces and ends of lines. What is no row
    of the kernel's form is therefore the rest of the name before it; a name that holds the like
    of a row cannot be told from two rows.
    """
    rows: list[tuple[re.Match[bytes], bytes]] = []
    for line in lines:
        row = UNIX_ROW.fullmatch(line)
        if row is not None:
            rows.append((row, row[4] or b""))
        elif rows:
            row, name = rows[-1]
            rows[-1] = row, name + b"\n" + line
    return [(int(row[3]), name) for row, name in rows if _takes(row, name)]


def _takes(row: re.Match[bytes], name: bytes) -> bool:
    flags, kind = int(row[1], 16), int(row[2], 16)
    return bool(flags & UNIX_LISTENING) or (kind == UNIX_DATAGRAM and bool(name))


def _table(pid: int, name: str, unseen: list[Unseen]) -> list[list[str]]:
    """The rows of a table of numbers under /proc/PID/net, as words."""
    return [line.decode("utf-8", "replace").split() for line in _lines(pid, name, unseen)]


def _lines(pid: int, name: str, unseen: list[Unseen]) -> list[bytes]:
    """The lines of a table under /proc/PID/net, without its heading; none if it is not there.

    Only "\\n" ends one: users choose names that hold what else Python would end a line at. What
    stands after the last end is a row that was cut where `procfs.read` stops; a user can open so
    many sockets that others stand behind that, so it is told.
    """
    try:
        table = procfs.read(pid, f"net/{name}")
    except (OSError, procfs.Vanished):
        return []
    if len(table) >= procfs.MOST_BYTES:
        why = f"only its first {procfs.MOST_BYTES >> 20} MiB were read"
        unseen.append(Unseen(f"all sockets of /proc/{pid}/net/{name}", why))
    return table.split(b"\n")[1:-1]


def _address(text: str) -> tuple[str, int]:
    """`0100007F:1F90` to ("127.0.0.1", 8080): 32-bit words in the machine's byte order."""
    raw, _, port = text.partition(":")
    words = [int(raw[index : index + 8], 16) for index in range(0, len(raw), 8)]
    packed = b"".join(word.to_bytes(4, "little") for word in words)
    return str(ipaddress.ip_address(packed)), int(port, 16)
