"""Listening sockets: holders that do not show them, and names that users chose to mislead."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from typing import Any

import pytest

from ringfence.collect.process import procfs, sockets
from ringfence.collect.process.descriptors import shown
from ringfence.model.evidence import Evidence, Grade, Unseen
from ringfence.model.files import Step
from ringfence.model.process import Listener


def _hidden(pid: int) -> sockets.Holding:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("whole_host", [True, False])
def test_only_of_a_whole_host_hidden_processes_are_suspected(
    monkeypatch: pytest.MonkeyPatch, whole_host: bool
) -> None:
    monkeypatch.setattr(sockets, "_holding", _hidden)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found, unseen = sockets.listeners([os.getpid()], whole_host=whole_host)
    ours = [item for item in found if item.kind == "tcp" and item.port == port]
    suspected = [((os.getpid(),), False)] if whole_host else []
    assert [(item.holders, item.holders_seen) for item in ours] == suspected
    other = {"nobody is seen to hold it; no entry point, since the namespace is shared"}
    assert {item.why for item in unseen} == {"permission denied"} | (set() if whole_host else other)


DEV = b"""Inter-|   Receive                            |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
"""


def _dev(monkeypatch: pytest.MonkeyPatch, *names: bytes) -> bool:
    rows = b"".join(b"%6s:       0       0    0\n" % name for name in names)
    monkeypatch.setattr(procfs, "read", lambda pid, name: DEV + rows)
    return sockets._has_interface(1)


@pytest.mark.parametrize("name", [b"l\xff", b"lo\x1c", b"lo\x85", b"\x1elo", b"eth0"])
def test_an_interface_may_have_any_name(monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    assert _dev(monkeypatch, b"lo", name)


def test_loopback_alone_is_no_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _dev(monkeypatch, b"lo")
    assert not _dev(monkeypatch)


def _row(inode: int, name: bytes = b"", flags: int = 0x10000) -> bytes:
    """A row as the kernel prints it, without its end."""
    head = b"00000000bc8d407d: 00000002 00000000 %08X 0001 01 %5d" % (flags, inode)
    return head + b" " + name if name else head


def _rows(*rows: bytes) -> list[tuple[int, bytes]]:
    return sockets._unix_rows(b"\n".join(rows).split(b"\n"))


@pytest.mark.parametrize(
    "name",
    [
        b"@x\na b c zz e f g h",
        b"@x\n0: 2 0 10000 1 1 77 /run/x\n",
        b"@x\x85" + _row(77, b"/run/x"),
        b"@x\x1c" + _row(77, b"/run/x") + b"\r",
        b"@x\n" + _row(77).lower().replace(b"00010000", b"0001000g"),
        b"@x\n" + _row(77).replace(b"   77", b"77"),
        b"@x\n" + _row(77).replace(b"   77", b"9" * 40),
        b"/tmp/x/my sock",
        b"/tmp/x/ two  spaces ",
        b"/tmp/\xff\n",
        b"",
    ],
)
def test_a_name_is_the_rest_of_the_row_and_makes_none(name: bytes) -> None:
    before, after = _row(7, b"/run/before"), _row(4597755, b"@after")
    assert _rows(before, _row(50, name), after) == [
        (7, b"/run/before"),
        (50, name),
        (4597755, b"@after"),
    ]


def test_only_what_listens_counts() -> None:
    assert _rows(_row(50, b"@connected", flags=0), _row(51)) == [(51, b"")]


def test_a_row_that_was_cut_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = b"Num Path\n" + _row(50) + b"\n" + _row(1234567)[:-1]
    monkeypatch.setattr(procfs, "read", lambda pid, name: cut)
    unseen: list[Unseen] = []
    assert [bound.inode for bound in sockets._unix(1, unseen, set())] == [50]
    assert unseen == []
    monkeypatch.setattr(procfs, "MOST_BYTES", len(cut))
    assert [bound.inode for bound in sockets._unix(1, unseen, set())] == [50]
    assert [item.what for item in unseen] == ["all sockets of /proc/1/net/unix"]


def test_a_name_is_shown_on_one_line() -> None:
    assert sockets._shown("/tmp/ä\n\x1b[1m".encode() + b"\xff") == "/tmp/ä\\n\\x1b[1m\\xff"


def test_names_with_spaces_and_odd_bytes_are_seen_with_their_mode(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/my so\n\xff"
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as bad,
    ):
        server.bind(path)
        os.chmod(path, 0o640)
        server.listen()
        bad.bind(b"\0%d\na b c zz e f g h" % os.getpid())
        bad.listen()
        found, _ = sockets.listeners([os.getpid()])
    modes = {item.path: item.mode for item in found if item.kind == "unix"}
    assert modes[f"{tmp_path}/my so\\n\\xff"] == 0o140640
    assert modes[f"@{os.getpid()}\\na b c zz e f g h"] is None


def _listener(kind: str, path: str = "", mode: int | None = None, **other: Any) -> Listener:
    evidence = Evidence(Grade.OBSERVED, "/proc/1/net", f"{kind} {path} listens")
    return Listener(kind, "", None, 50, (1,), (), evidence, path, mode, **other)


@pytest.mark.parametrize("kind", ["tcp", "udp", "raw", "packet"])
def test_a_row_of_the_unix_table_takes_no_other_sockets_place(kind: str) -> None:
    real, forged = _listener(kind, exposed=False), _listener("unix", "/run/x", 0o600)
    assert sockets._one_each([real, forged]) == (real,)
    assert sockets._one_each([forged, forged, real]) == (real,)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (_listener("unix", "@x"), _listener("unix", "/run/x", 0o140777)),
        (
            _listener("unix", "/run/x", 0o140602, way=(Step(0o140602, 0, 0),)),
            _listener("unix", "/run/y", 0o140660),
        ),
        (_listener("unix", "/run/x", 0o140620), _listener("unix", "/run/y", 0o140755)),
    ],
)
def test_of_two_unix_rows_the_more_open_counts(wide: Listener, narrow: Listener) -> None:
    for rows in ([wide, narrow], [narrow, wide]):
        (found,) = sockets._one_each(rows)
        assert (found.path, found.mode) == (wide.path, wide.mode)
        assert "other rows have the same inode" in found.evidence.detail
        assert found.way == ()


def test_a_row_of_a_lonely_namespace_does_not_hide_an_exposed_socket() -> None:
    real = _listener("unix", "@x")
    lonely = _listener("unix", "@x", exposed=False, namespace_shared=False)
    assert sockets._one_each([real, lonely]) == sockets._one_each([lonely, real]) == (real,)


def test_a_name_that_forges_a_row_does_not_hide_a_listener_on_tcp() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as liar,
    ):
        inode = os.fstat(server.fileno()).st_ino
        liar.bind(b"\0x\n" + _row(inode, b"/run/x"))
        liar.listen()
        found, _ = sockets.listeners([os.getpid()])
        port = server.getsockname()[1]
    assert [(item.kind, item.port) for item in found if item.inode == inode] == [("tcp", port)]


def test_what_is_no_row_of_an_epoll_set_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        b"pos:\t0",
        b"iff:\tl\xff",
        b"tfd: x events: 19 data: 6  pos:0 ino:zz sdev:8",
        b"tfd:        6 events:       19 data:                6  pos:0 ino:1f3a sdev:8",
        b"tfd:        7 events:       19 data:                7",
    ]
    monkeypatch.setattr(procfs, "read", lambda pid, name: b"\n".join([*rows, b""]))
    assert sockets._epoll_inodes(1, [3], {6: 5, 7: 77}) == {0x1F3A, 77}


def test_a_real_epoll_set_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, select.epoll() as watched:
        watched.register(server, select.EPOLLIN)
        inode = os.fstat(server.fileno()).st_ino
        assert inode in sockets._epoll_inodes(os.getpid(), [watched.fileno()], {})


@pytest.mark.parametrize("whole_host", [True, False])
def test_of_a_whole_host_a_socket_that_nobody_is_seen_to_hold_counts(
    monkeypatch: pytest.MonkeyPatch, whole_host: bool
) -> None:
    def ended(pid: int) -> sockets.Holding:
        raise procfs.Vanished(str(pid))

    monkeypatch.setattr(sockets, "_holding", ended)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found, _ = sockets.listeners([os.getpid()], whole_host=whole_host)
    ours = [item for item in found if item.port == port]
    assert [(item.holders, item.holders_seen) for item in ours] == [((), False)] * whole_host
    assert not any(item.supposed for item in ours)


@pytest.mark.parametrize(
    ("earlier", "others", "counts", "told"),
    [
        (False, None, False, False),
        (False, True, False, False),
        (False, False, False, True),
        (True, False, True, False),
        (True, True, True, False),
        (True, None, True, False),
    ],
)
def test_in_a_shared_network_a_socket_counts_that_the_workload_was_seen_to_hold(
    monkeypatch: pytest.MonkeyPatch,
    earlier: bool,
    others: bool | None,
    counts: bool,
    told: bool,
) -> None:
    """`earlier`: seen so in a look before; `others`: whether another process holds it, None where
    the workload rests. One that nobody is seen to hold is told where it does not, and no more."""
    own = sockets._holding(os.getpid())
    monkeypatch.setattr(sockets, "_holding", lambda pid: own)
    monkeypatch.setattr(sockets, "_shared_outside", lambda *asked: True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, inode = server.getsockname()[1], os.fstat(server.fileno()).st_ino
        rows = [sockets.Bound("tcp", "127.0.0.1", port, inode, "test")]
        monkeypatch.setattr(sockets, "_bound", lambda *asked: rows)
        shown = None if others is None else {1: frozenset({inode} if others else ())}
        seen = frozenset({inode} if earlier else ())
        found, unseen = sockets.listeners([os.getpid()], earlier=seen, others=shown)
    ours = [(one.holders, one.holders_seen, one.supposed) for one in found if one.inode == inode]
    assert ours == [((os.getpid(),), False, False)] * counts
    assert [f"tcp 127.0.0.1 port {port} in" in one.what for one in unseen] == [True] * told


def test_of_many_sockets_that_nobody_is_seen_to_hold_a_few_are_named() -> None:
    rows = [sockets.Bound("unix", "", None, 5, "test", b"@x")] * (sockets.MOST_NAMED + 2)
    told = sockets._whose(rows, 1).what
    assert told.count("unix @x") == sockets.MOST_NAMED
    assert "and 2 more in" in told
    assert "more" not in sockets._whose(rows[:1], 1).what


def test_loopback_is_shared_where_a_thread_of_another_process_is_in_its_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spaces = {1: 100, 2: 200, 21: 200, 3: None}
    threads = {1: [1], 2: [2, 21], 3: [3]}
    monkeypatch.setattr(sockets, "_network", lambda thread: spaces.get(thread, 999))
    monkeypatch.setattr(sockets, "threads_of", threads.__getitem__)
    monkeypatch.setattr(procfs, "pids", lambda: [1, 2, 3])
    monkeypatch.setattr(procfs, "living", lambda pid: pid)
    unseen: list[Unseen] = []
    assert not sockets._shared_outside(1, [1], None, unseen)
    spaces[21] = 100
    assert sockets._shared_outside(1, [1], None, unseen)
    assert not sockets._shared_outside(1, [1, 2], None, unseen)
    assert sockets._shared_outside(1, [1], {2: frozenset()}, unseen)
    assert not sockets._shared_outside(1, [1], {3: frozenset()}, unseen)
    assert unseen == []


@pytest.mark.parametrize("program", [True, False])
def test_a_process_that_does_not_show_its_network_may_be_in_it(
    monkeypatch: pytest.MonkeyPatch, program: bool
) -> None:
    def network(thread: int) -> int:
        if thread == 2:
            raise PermissionError(13, "Permission denied")
        return thread

    monkeypatch.setattr(sockets, "_network", network)
    monkeypatch.setattr(sockets, "threads_of", lambda pid: [pid])
    monkeypatch.setattr(procfs, "pids", lambda: [1, 2])
    monkeypatch.setattr(procfs, "living", lambda pid: pid)
    monkeypatch.setattr(procfs, "is_program", lambda pid: program)
    unseen: list[Unseen] = []
    assert sockets._shared_outside(1, [1], None, unseen) is program
    assert [item.what for item in unseen] == [
        "who else is in the network namespace of process 1"
    ] * program


def test_network_namespaces_are_told_apart_without_privilege() -> None:
    assert sockets._network(os.getpid()) == sockets._network(os.getppid()) is not None


@pytest.mark.parametrize(
    ("shared", "elsewhere", "counts"),
    [(False, False, True), (False, True, False), (True, False, False)],
)
def test_what_listens_in_a_network_of_its_own_is_supposed_to_be_the_workloads(
    monkeypatch: pytest.MonkeyPatch, shared: bool, elsewhere: bool, counts: bool
) -> None:
    """Unless another process holds it: the holder may have put it where nobody sees it, or it may
    be the kernel's."""
    own = sockets._holding(os.getpid())
    monkeypatch.setattr(sockets, "_holding", lambda pid: own)
    monkeypatch.setattr(sockets, "_shared_outside", lambda *asked: shared)
    with socket.create_server(("127.0.0.1", 0)) as server:
        inode = os.fstat(server.fileno()).st_ino
        outside = frozenset({inode} if elsewhere else ())
        monkeypatch.setattr(sockets, "_held_outside", lambda pids: outside)
        found, _ = sockets.listeners([os.getpid()])
    ours = [(one.holders, one.holders_seen, one.supposed) for one in found if one.inode == inode]
    assert ours == [((os.getpid(),), False, True)] * counts


@pytest.mark.parametrize("hides", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_where_a_process_does_not_show_its_sockets_those_that_nobody_holds_are_told(
    monkeypatch: pytest.MonkeyPatch, hides: bool, shared: bool
) -> None:
    """In a network of its own it is supposed to hold them, as one that shows what it holds is."""
    own = sockets.Holding(os.getpid(), [], True, frozenset(), {1: os.getpid()})
    monkeypatch.setattr(sockets, "_holding", _hidden if hides else lambda pid: own)
    monkeypatch.setattr(sockets, "_shared_outside", lambda *asked: shared)
    row = sockets.Bound("tcp", "0.0.0.0", 80, 7, "test")  # noqa: S104
    monkeypatch.setattr(sockets, "_bound", lambda *asked: [row])
    found, unseen = sockets.listeners([os.getpid()])
    assert [(item.port, item.supposed) for item in found] == [(80, True)] * (not shared)
    told = [item for item in unseen if item.what.startswith("who listens at tcp 0.0.0.0 port 80 ")]
    assert len(told) == (hides and shared)


def test_whether_a_process_shows_its_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(place: str) -> list[str]:
        raise PermissionError(13, "Permission denied", place)

    assert shown(os.getpid())
    assert shown(2**22 + 1)
    monkeypatch.setattr(os, "listdir", refused)
    assert not shown(os.getpid())
