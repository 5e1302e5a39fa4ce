"""fanotify's events from bytes: what the kernel's header describes, and everything but that."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.watch.live.events import BadEvents, Named, parse
from ringfence.watch.live.execs import accepted, parse_execs, parse_forks

KEY = b"FSID-8-B" + struct.pack("=Ii", 4, 1) + b"inod"
OTHER = b"FSID-8-B" + struct.pack("=Ii", 8, 129) + b"anothers"


def record(kind: int, body: bytes) -> bytes:
    """An information record, padded to four bytes as the kernel does."""
    body += b"\0" * (-len(body) % 4)
    return struct.pack("=BBH", kind, 0, 4 + len(body)) + body


def event(mask: int, *records: bytes, pid: int = 7, version: int = 3) -> bytes:
    """An event with its records."""
    tail = b"".join(records)
    return struct.pack("=IBBHQii", 24 + len(tail), version, 0, 24, mask, -1, pid) + tail


CREATE = event(0x100, record(2, KEY + b"name\0"), record(1, OTHER), record(4, struct.pack("=i", 9)))
RENAME = event(0x10000000, record(10, KEY + b"old\0"), record(12, OTHER + b"new\0"))


def test_a_creation_names_folder_child_and_process() -> None:
    (found,) = parse(CREATE)
    assert (found.mask, found.pid, found.pidfd, found.fd) == (0x100, 7, 9, -1)
    assert found.at == Named(KEY, b"name")
    assert found.child == OTHER


def test_a_rename_has_both_ends_and_may_lack_one() -> None:
    (found,) = parse(RENAME)
    assert (found.old, found.new) == (Named(KEY, b"old"), Named(OTHER, b"new"))
    assert found.pidfd is None
    (left,) = parse(event(0x10000000, record(10, KEY + b"old\0")))
    assert (left.old, left.new) == (Named(KEY, b"old"), None)


def test_an_event_on_the_folder_itself_has_a_dot_or_no_name() -> None:
    assert parse(event(4, record(3, KEY)))[0].at == Named(KEY, b".")
    assert parse(event(4, record(2, KEY + b".\0")))[0].at == Named(KEY, b".")


def test_many_events_come_in_order_and_unknown_records_are_passed_over() -> None:
    found = parse(CREATE + event(0x4000) + event(8, record(99, b"????")) + RENAME)
    assert [item.mask for item in found] == [0x100, 0x4000, 8, 0x10000000]
    assert parse(b"") == []


def test_names_may_be_any_bytes_but_a_slash() -> None:
    name = bytes(range(1, 256)).replace(b"/", b"")
    assert parse(event(2, record(2, KEY + name + b"\0")))[0].at == Named(KEY, name)
    with pytest.raises(BadEvents):
        parse(event(2, record(2, KEY + b"a/b\0")))


@pytest.mark.parametrize(
    "data",
    [
        event(2, version=2),
        event(2, record(2, KEY + b"\0")),
        event(2, record(2, KEY[:10])),
        event(2, record(2, b"FSID-8-B" + struct.pack("=Ii", 1 << 31, 1) + b"xxxx")),
        event(2, record(4, b"")),
        event(2, struct.pack("=BBH", 1, 0, 3)),
        event(2, struct.pack("=BBH", 1, 0, 400)),
        event(2, b"\1"),
        struct.pack("=IBBHQii", 23, 3, 0, 24, 2, -1, 1),
        struct.pack("=IBBHQii", 0, 3, 0, 0, 2, -1, 1),
        struct.pack("=IBBHQii", 1 << 30, 3, 0, 24, 2, -1, 1),
    ],
)
def test_what_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises(BadEvents):
        parse(data)


def test_every_cut_is_refused() -> None:
    for end in range(1, len(CREATE)):
        with pytest.raises(BadEvents):
            parse(CREATE[:end])


@given(st.binary(max_size=400))
def test_no_bytes_do_anything_else(data: bytes) -> None:
    with contextlib.suppress(BadEvents):
        parse(data)
    list(parse_execs(data))
    list(parse_forks(data))


@given(st.integers(0, len(CREATE + RENAME) - 1), st.integers(0, 255))
def test_no_changed_byte_does_anything_else(place: int, value: int) -> None:
    data = bytearray(CREATE + RENAME)
    data[place] = value
    with contextlib.suppress(BadEvents):
        parse(bytes(data))


def message(what: int, *, index: int = 1, pid: int = 55, ack: int = 0) -> bytes:
    """A datagram of the process connector."""
    body = struct.pack("=IIIIHH", index, 1, 0, ack, 24, 0) + struct.pack(
        "=IIQII", what, 0, 0, pid, pid + 1
    )
    return struct.pack("=IHHII", 16 + len(body), 3, 0, 0, 0) + body


def test_only_executions_are_told() -> None:
    assert list(parse_execs(message(2) + message(1) + message(2, pid=80))) == [56, 81]
    assert list(parse_execs(message(2, index=9))) == []
    assert list(parse_execs(message(2)[:-1])) == []


def fork(parent: int, child: int) -> bytes:
    """A datagram of a fork: thread and process of the parent, and of the child."""
    body = struct.pack("=IIIIHH", 1, 1, 0, 0, 32, 0) + struct.pack(
        "=IIQIIII", 1, 0, 0, parent, parent, child, child if child != parent else parent
    )
    return struct.pack("=IHHII", 16 + len(body), 3, 0, 0, 0) + body


def test_processes_that_begin_are_told_with_their_parent_and_threads_are_not() -> None:
    assert list(parse_forks(fork(7, 8) + message(2) + fork(8, 9))) == [(7, 8), (8, 9)]
    assert list(parse_forks(fork(7, 7))) == []
    assert list(parse_forks(fork(7, 8)[:-1])) == []
    assert list(parse_execs(fork(7, 8))) == []


def test_a_subscription_counts_when_the_kernel_consents() -> None:
    assert accepted(message(0, pid=0, ack=8), 7)
    assert not accepted(message(0, pid=1, ack=8), 7), "EPERM"
    assert not accepted(message(0, pid=0, ack=9), 7), "another's"
    assert not accepted(message(2, pid=0, ack=8), 7)
    assert not accepted(message(0, pid=0, ack=8)[:-1], 7)
