"""What a writer promises: order, durability notes, many threads, tampering under its hands."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import msgspec
import pytest

from ringfence.errors import InputError
from ringfence.watch.ledger import tail
from ringfence.watch.ledger.chain import Chain
from ringfence.watch.ledger.record import MOST_LINE, Head, Opening, Record, decode, encode
from ringfence.watch.ledger.segments import covered, growing, segments
from ringfence.watch.ledger.tail import NotWritten
from ringfence.watch.ledger.writer import Ledger
from tests.unit.watch.ledgers import KEY, OTHER, Clock, checked, judged, lines_of, small


def records(path: Path) -> list[Record]:
    lines = (decode(data[:-1]) for segment in lines_of(path) for data in segment)
    return [line for line in lines if isinstance(line, Record)]


def newest(path: Path) -> Path:
    return segments(path)[-1].path


def test_what_was_appended_is_there_in_order(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, KEY) as ledger:
        first = ledger.append("event", "/bin/true", {"mode": ["0755", "04755"], "size": None})
        second = ledger.append("policy", "seccomp")
        assert (first, second) == (1, 2)
        assert ledger.head().size == 3
    found = records(tmp_path)
    assert [record.subject for record in found] == ["opened", "/bin/true", "seccomp", "closed"]
    assert found[1].detail == {"mode": ["0755", "04755"], "size": None}
    assert [record.index for record in found] == [0, 1, 2, 3]
    assert checked(tmp_path).broken is None


def test_opening_without_appending_writes_nothing(tmp_path: Path) -> None:
    small(tmp_path, 2)
    before = lines_of(tmp_path)
    Ledger.open(tmp_path, KEY).close()
    assert lines_of(tmp_path) == before


def test_a_ledger_is_begun_with_the_folders_that_lead_to_it(tmp_path: Path) -> None:
    there = tmp_path / "lib"
    there.mkdir(mode=0o755)
    place = there / "ringfence" / "ledger"
    for number in (1, 4):
        with Ledger.open(place, KEY) as ledger:
            assert ledger.append("event", "x") == number
    assert place.stat().st_mode & 0o777 == 0o700
    assert there.stat().st_mode & 0o777 == 0o755
    assert checked(place).broken is None


def test_a_ledger_is_not_begun_in_or_instead_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "ledger"):
        with pytest.raises(InputError):
            Ledger.open(place, KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_many_threads_share_commits(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, KEY, segment_bytes=20_000)
    given: dict[int, str] = {}

    def work(name: int) -> None:
        for number in range(40):
            subject = f"{name}/{number}"
            given[ledger.append("event", subject)] = subject

    threads = [threading.Thread(target=work, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    found = {record.index: record.subject for record in records(tmp_path)}
    assert len(given) == 640
    assert given.items() <= found.items()
    assert checked(tmp_path).broken is None
    heads = sum(b'"type":"head"' in data for segment in lines_of(tmp_path) for data in segment)
    assert heads < 640, "no two appends shared a commit"


def test_append_all_needs_few_commits(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, KEY) as ledger:
        indexes = ledger.append_all(("event", str(number), {}) for number in range(3000))
        assert indexes == list(range(1, 3001))
        assert ledger.append_all([]) == []
    assert checked(tmp_path).size == 3002
    assert sum(len(segment) for segment in lines_of(tmp_path)) < 3002 + 10


def test_rotation_keeps_the_chain_and_a_writer_needs_only_the_last_segment(tmp_path: Path) -> None:
    small(tmp_path, 30, segment_bytes=2000)
    assert len(segments(tmp_path)) > 5
    for segment in segments(tmp_path)[:-1]:
        segment.path.rename(tmp_path / f"away-{segment.number}")
    size = small(tmp_path, 3, segment_bytes=2000).size
    for away in tmp_path.glob("away-*"):
        number = int(away.name.removeprefix("away-"))
        away.rename(tmp_path / f"segment-{number:08d}.ledger")
    verdict = checked(tmp_path)
    assert (verdict.broken, verdict.size) == (None, size)


def test_a_torn_end_is_cut_off_at_any_length_and_noted(tmp_path: Path) -> None:
    """The bytes of one more commit, as far as a killed writer might have got with them."""
    clock = Clock()
    small(tmp_path / "log", 2, segment_bytes=1 << 20, clock=clock)
    path = newest(tmp_path / "log")
    before = path.read_bytes()
    small(tmp_path / "log", 1, segment_bytes=1 << 20, clock=clock)
    commit = path.read_bytes()[len(before) :]
    for length in range(1, len(commit), 3):
        path.write_bytes(before + commit[:length])
        assert checked(tmp_path / "log").broken
        with Ledger.open(tmp_path / "log", KEY, clock=clock) as ledger:
            assert path.read_bytes() == before
            if length % 15 != 1:
                continue
            ledger.append("event", "after")
        note = records(tmp_path / "log")[3]
        assert (note.subject, note.detail["bytes"]) == ("cut", length)
        verdict = checked(tmp_path / "log")
        assert verdict.broken is None
        assert any("cut off" in text for text in verdict.notes)


def test_an_altered_end_is_not_taken_for_a_torn_one(tmp_path: Path) -> None:
    small(tmp_path, 4)
    path = newest(tmp_path)
    whole = path.read_bytes()
    for place in (whole.rindex(b"/etc/file"), whole.rindex(b'"signature":"') + 20):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        altered = path.read_bytes()
        with pytest.raises(InputError):
            Ledger.open(tmp_path, KEY)
        assert path.read_bytes() == altered
    path.write_bytes(whole)
    Ledger.open(tmp_path, KEY).close()


def test_shortened_or_replaced_while_in_use(tmp_path: Path) -> None:
    for name in ("short", "replaced"):
        ledger = Ledger.open(tmp_path / name, KEY)
        ledger.append("event", "one")
        ledger.append("event", "two")
        path = newest(tmp_path / name)
        whole = path.read_bytes()
        if name == "short":
            lines = whole.splitlines(keepends=True)
            path.write_bytes(b"".join(lines[:-2]))
        else:
            path.rename(path.with_name("old"))
            path.write_bytes(whole)
        for _ in range(2):
            with pytest.raises(InputError, match=r"shortened|replaced"):
                ledger.append("event", "three")


def forged(path: Path) -> None:
    """What somebody without the key can add: a record, and a head whose hashes fit."""
    segment = path / "segment-00000000.ledger"
    chain = Chain(KEY.public_key())
    for data in segment.read_bytes().splitlines():
        chain.follow(data)
    last = chain.record
    assert last is not None
    record = encode(msgspec.structs.replace(
        last, index=chain.tree.size, subject="forged", prev=chain.prev))  # fmt: skip
    chain.follow(record)
    head = encode(Head(chain.tree.size, chain.tree.root().hex(), chain.prev, "00" * 64))
    with segment.open("ab") as file:
        file.write(record + b"\n" + head + b"\n")


def test_what_others_forged_is_never_signed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger.open(path, KEY, clock=Clock())
    ledger.append("event", "real")
    forged(path)
    size = (path / "segment-00000000.ledger").stat().st_size
    for _ in range(3):
        with pytest.raises(InputError, match="signature of the head over 3 records wrong"):
            ledger.append("event", "after")
    with pytest.raises(InputError, match="keep it as evidence"):
        ledger.close()
    assert (path / "segment-00000000.ledger").stat().st_size == size
    assert judged(lines_of(path)).broken == "signature of the head over 3 records wrong"
    with pytest.raises(InputError, match="signature"):
        Ledger.open(path, KEY, clock=Clock())


@pytest.mark.parametrize(("number", "used"), [(1, False), (9, False), (1, True)])
def test_a_segment_that_somebody_planted_is_not_gone_on_with(
    tmp_path: Path, number: int, used: bool
) -> None:
    path = tmp_path / "ledger"
    head = small(path, 3)
    writer = Ledger.open(path, KEY, clock=Clock()) if used else None
    chain = Chain(KEY.public_key())
    for data in (path / "segment-00000000.ledger").read_bytes().splitlines():
        chain.follow(data)
    assert chain.head is not None
    opening = Opening(1, head.ledger, KEY.public_key().public_bytes_raw().hex(), number,
                      chain.tree.size, [peak.hex() for peak in chain.tree.peaks], chain.head,
                      chain.prev)  # fmt: skip
    (path / f"segment-{number:08d}.ledger").write_bytes(encode(opening) + b"\n")
    with pytest.raises(InputError, match=f"segment {number} holds no signed record"):
        (writer or Ledger.open(path, KEY, clock=Clock())).append("event", "x")


def test_a_renamed_segment_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    small(path, 3)
    (path / "segment-00000000.ledger").rename(path / "segment-00000004.ledger")
    with pytest.raises(InputError, match="segment 4 says it is 0"):
        Ledger.open(path, KEY, clock=Clock())


def test_much_that_is_no_line_is_no_torn_write(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    small(path, 3)
    os.truncate(path / "segment-00000000.ledger", 4 << 40)
    with pytest.raises(InputError, match="altered after"):
        Ledger.open(path, KEY, clock=Clock())


def test_nobody_waits_for_ever_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger"
    small(path, 1)
    monkeypatch.setattr("ringfence.watch.ledger.segments.LONGEST_WAIT", 0.05)
    with (path / "lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="a writer holds the ledger's lock"):
            segments(path)
        with pytest.raises(NotWritten, match="another writer holds the ledger's lock"):
            Ledger.open(path, KEY, clock=Clock())
    assert segments(path)


def test_whoever_follows_misses_nothing_where_a_torn_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    small(path, 3)
    last = records(path)[-1]
    chain = Chain(KEY.public_key())
    for data in newest(path).read_bytes().splitlines():
        chain.follow(data)
    torn = encode(msgspec.structs.replace(last, index=last.index + 1, prev=chain.prev))
    with newest(path).open("ab") as file:
        file.write(torn + b"\n" + b"x" * 1500)
    start = covered(segments(path)[-1])
    with Ledger.open(path, KEY, segment_bytes=3000, clock=Clock()) as ledger:
        for number in range(20):
            ledger.append("event", f"after {number}")
    expected = [record.subject for record in records(path)[4:]]
    seen: list[str] = []
    for data in growing(path, start, 0.01):
        line = decode(data[:-1])
        if isinstance(line, Record):
            seen.append(line.subject)
            if line.subject == "closed":
                break
    assert seen == expected
    assert len(segments(path)) > 2


def test_two_writers_of_one_ledger_follow_one_another(tmp_path: Path) -> None:
    one = Ledger.open(tmp_path, KEY, segment_bytes=2500)
    two = Ledger.open(tmp_path, KEY, segment_bytes=2500)
    indexes = [ledger.append("event", str(turn)) for turn in range(12) for ledger in (one, two)]
    one.close()
    two.close()
    assert indexes == sorted(set(indexes))
    assert len(segments(tmp_path)) > 2
    assert checked(tmp_path).broken is None


def test_the_clock_is_watched(tmp_path: Path) -> None:
    clock = Clock()
    with Ledger.open(tmp_path, KEY, clock=clock) as ledger:
        ledger.append("event", "one")
        clock.pass_(7200)
        ledger.append("event", "two hours later")
        clock.pass_(7200)
        clock.wall -= 3600 * 1_000_000
        ledger.append("event", "set back, but not before the last record")
        clock.wall += 60 * 1_000_000
        ledger.append("event", "set forward")
        clock.boot, clock.up = "boot-2", 0
        ledger.append("event", "booted")
        clock.boot, clock.up, clock.wall = "boot-3", 0, clock.wall - 5_000_000
        ledger.append("event", "booted with an older clock")
    notes = [record for record in records(tmp_path) if record.subject == "clock"]
    assert [note.detail["direction"] for note in notes] == ["back", "forward", "back"]
    assert abs(notes[0].detail["microseconds"] - 3600 * 1_000_000) < 10_000
    verdict = checked(tmp_path)
    assert (verdict.broken, len(verdict.notes)) == (None, 3)


def test_a_full_disk_refuses_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the bytes are written, then there is no room (a real one: tests/system)."""
    ledger = Ledger.open(tmp_path, KEY)
    ledger.append("event", "one")
    whole = newest(tmp_path).read_bytes()

    def half(handle: int, data: bytes) -> None:
        os.write(handle, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(tail, "write_all", half)
    for _ in range(3):
        with pytest.raises(NotWritten, match="no space left"):
            ledger.append("event", "lost")
    assert newest(tmp_path).read_bytes() == whole
    monkeypatch.undo()
    assert ledger.append("event", "two") == 3
    ledger.close()
    found = records(tmp_path)
    assert [record.subject for record in found] == ["opened", "one", "refused", "two", "closed"]
    assert found[2].detail == {
        "records": 3,
        "why": "record not written: no space left on device",
    }
    assert checked(tmp_path).broken is None


def test_an_interrupt_between_disk_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(tmp_path, KEY)
    ledger.append("event", "one")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    for call in ("fdatasync", "write"):
        monkeypatch.setattr(
            os, call, interrupted if call == "fdatasync" else lambda *_: interrupted(0)
        )
        with pytest.raises(KeyboardInterrupt):
            ledger.append("event", call)
        monkeypatch.undo()
    ledger.append("event", "two")
    ledger.close()
    assert checked(tmp_path).broken is None
    assert [record.subject for record in records(tmp_path)][-2:] == ["two", "closed"]


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("gossip", {}),
        ("event", {"text": "x" * MOST_LINE}),
        ("event", {"object": object()}),
        ("event", {"number": 1 << 70}),
    ],
)
def test_what_is_no_record_is_refused_before_it_reaches_the_disk(
    tmp_path: Path, kind: str, detail: dict[str, object]
) -> None:
    ledger = Ledger.open(tmp_path, KEY)
    with pytest.raises(ValueError, match=r"gossip|bytes|JSON"):
        ledger.append(kind, "subject", detail)
    assert ledger.append("event", "good") == 1
    ledger.close()
    with pytest.raises(ValueError, match="closed"):
        ledger.append("event", "late")


def test_names_that_are_no_text_are_kept_byte_for_byte(tmp_path: Path) -> None:
    name = os.fsdecode(b"/srv/\xff\xfe\n\x1b[31m")
    with Ledger.open(tmp_path, KEY) as ledger:
        ledger.append("event", name, {"path": name, "list": [name], "plain": "é\n"})
    record = records(tmp_path)[1]
    assert bytes.fromhex(record.detail["subject_hex"]) == os.fsencode(name)
    assert bytes.fromhex(record.detail["path"]["hex"]) == os.fsencode(name)
    assert record.detail["list"] == [record.detail["path"]]
    assert record.detail["plain"] == "é\n"
    assert checked(tmp_path).broken is None


def test_a_detail_changed_afterwards_is_not_changed_in_the_ledger(tmp_path: Path) -> None:
    detail = {"list": ["one"]}
    with Ledger.open(tmp_path, KEY) as ledger:
        ledger.append("event", "subject", detail)
        detail["list"].append("two")
    assert records(tmp_path)[1].detail == {"list": ["one"]}


def test_another_key_may_not_go_on(tmp_path: Path) -> None:
    small(tmp_path, 1)
    with pytest.raises(InputError, match="another key"):
        Ledger.open(tmp_path, OTHER)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    for name in ("segment-00000000.ledger", "lock"):
        for kind in ("fifo", "link"):
            folder = tmp_path / f"{name}-{kind}"
            folder.mkdir()
            if kind == "fifo":
                os.mkfifo(folder / name)
            else:
                (tmp_path / "victim").write_text("precious")
                (folder / name).symlink_to(tmp_path / "victim")
            with pytest.raises(InputError):
                Ledger.open(folder, KEY).append("event", "x")
    assert (tmp_path / "victim").read_text() == "precious"


def test_records_are_only_for_their_owner(tmp_path: Path) -> None:
    small(tmp_path / "log", 1)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700
    assert {item.stat().st_mode & 0o777 for item in (tmp_path / "log").iterdir()} == {0o600}


def test_lines_are_as_documented(tmp_path: Path) -> None:
    """Field names are an interface: docs/ledger.md."""
    small(tmp_path, 1)
    opening, record, _, head = (msgspec.json.decode(data) for data in lines_of(tmp_path)[0])
    assert list(opening) == [
        "type",
        "v",
        "ledger",
        "key",
        "number",
        "first",
        "peaks",
        "head",
        "prev",
    ]
    assert list(record) == [
        "type", "v", "index", "time", "up", "boot", "kind", "subject", "detail", "prev"
    ]  # fmt: skip
    assert list(head) == ["type", "size", "root", "prev", "signature"]
