"""Every way to change a ledger is found, and said where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringfence.watch.ledger.chain import Chain
from ringfence.watch.ledger.checkpoint import Checkpoint, sign
from ringfence.watch.ledger.record import START, Head, Opening, Record, decode, encode, hash_of
from tests.unit.watch.ledgers import KEY, OTHER, Clock, Lines, checked, judged, lines_of, small

COUNT = 12
TINY = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lines, Checkpoint]:
    path = tmp_path_factory.mktemp("ledger") / "log"
    head = small(path, COUNT)
    lines = lines_of(path)
    assert len(lines) >= 3
    return lines, head


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lines, Checkpoint]:
    """For loops over every byte."""
    path = tmp_path_factory.mktemp("ledger") / "log"
    head = small(path, TINY, segment_bytes=1500)
    lines = lines_of(path)
    assert len(lines) == 2
    return lines, head


def positions(lines: Lines) -> Iterator[tuple[int, int]]:
    return ((number, at) for number, segment in enumerate(lines) for at in range(len(segment)))


def copied(lines: Lines) -> Lines:
    return [list(segment) for segment in lines]


def test_a_whole_ledger_verifies(whole: tuple[Lines, Checkpoint]) -> None:
    lines, head = whole
    verdict = judged(lines, [head])
    assert verdict.broken is None
    assert (verdict.first, verdict.size, verdict.segments) == (0, COUNT + 1, len(lines))
    assert (verdict.root, verdict.notes, verdict.head) == (head.root, (), head)


def test_every_flipped_bit_is_found(tiny: tuple[Lines, Checkpoint]) -> None:
    lines, _ = tiny
    for number, at in positions(lines):
        line = lines[number][at]
        for offset in range(len(line)):
            changed = copied(lines)
            flipped = bytes([line[offset] ^ 1 << (offset + at) % 8])
            data = line[:offset] + flipped + line[offset + 1 :]
            changed[number][at : at + 1] = data.splitlines(keepends=True)
            assert judged(changed).broken, (number, at, offset)


def test_an_altered_record_is_named(whole: tuple[Lines, Checkpoint]) -> None:
    lines, _ = whole
    for number, at in positions(lines):
        line = decode(lines[number][at][:-1])
        if not isinstance(line, Record):
            continue
        changed = copied(lines)
        changed[number][at] = encode(msgspec.structs.replace(line, subject="/etc/innocent")) + b"\n"
        assert (judged(changed).broken or "").startswith(f"record {line.index} altered")


def test_every_removed_line_is_found(whole: tuple[Lines, Checkpoint]) -> None:
    lines, _ = whole
    for number, at in positions(lines):
        changed = copied(lines)
        removed = decode(changed[number].pop(at)[:-1])
        broken = judged(changed).broken
        assert broken, (number, at)
        if isinstance(removed, Record) and removed.index < COUNT:
            assert f"{removed.index}" in broken


def test_every_repeated_line_is_found(whole: tuple[Lines, Checkpoint]) -> None:
    lines, _ = whole
    for number, at in positions(lines):
        for other, place in positions(lines):
            changed = copied(lines)
            changed[other].insert(place, lines[number][at])
            assert judged(changed).broken, (number, at, other, place)
        changed = copied(lines)
        changed[-1].append(lines[number][at])
        assert judged(changed).broken, (number, at, "end")


def test_every_swap_is_found(whole: tuple[Lines, Checkpoint]) -> None:
    lines, _ = whole
    places = list(positions(lines))
    for index, (number, at) in enumerate(places):
        for other, place in places[index + 1 :]:
            changed = copied(lines)
            changed[number][at], changed[other][place] = lines[other][place], lines[number][at]
            assert judged(changed).broken, (number, at, other, place)


def test_cut_anywhere_is_found_with_a_kept_head(tiny: tuple[Lines, Checkpoint]) -> None:
    """And without one, unless it was cut just behind a head: that the docs say plainly."""
    lines, head = tiny
    behind_heads = 0
    for number, at in positions(lines):
        line = lines[number][at]
        for length in range(len(line)):
            cut = [*lines[number][:at], *([line[:length]] if length else [])]
            changed = [*lines[:number], *([cut] if cut else [])]
            kept, alone = judged(changed, [head]), judged(changed)
            assert kept.broken, (number, at, length)
            last = changed[-1][-1] if changed else b""
            if last.endswith(b"\n") and isinstance(decode(last[:-1]), Head):
                behind_heads += 1
                assert alone.broken is None
                assert kept.broken == (f"truncated at record {alone.size}: the head kept "
                                       f"elsewhere is over {TINY + 1} records")  # fmt: skip
            else:
                assert alone.broken, (number, at, length)
    # The heads of all commits but the last, whose cut is no cut.
    assert behind_heads >= TINY - 1


def rewritten(lines: Lines, index: int, *, keep_roots: bool = False) -> Lines:
    """What somebody without the key can do: change a record, and make every hash fit again; or
    keep the signed roots, so that the signatures stay good."""
    chain = Chain(KEY.public_key())
    done: Lines = []
    for segment in lines:
        done.append([])
        for data in segment:
            line = decode(data[:-1])
            if isinstance(line, Record):
                subject = "/etc/innocent" if line.index == index else line.subject
                line = msgspec.structs.replace(line, prev=chain.prev, subject=subject)
            elif isinstance(line, Head):
                root = line.root if keep_roots else chain.tree.root().hex()
                line = msgspec.structs.replace(line, prev=chain.prev, root=root)
            elif chain.head:
                peaks = [peak.hex() for peak in chain.tree.peaks]
                line = msgspec.structs.replace(line, prev=chain.prev, head=chain.head, peaks=peaks)
            done[-1].append(encode(line) + b"\n")
            if keep_roots and isinstance(line, Head) and line.root != chain.tree.root().hex():
                return done
            chain.follow(encode(line))
    return done


def test_hashes_made_to_fit_lack_the_signature(whole: tuple[Lines, Checkpoint]) -> None:
    lines, _ = whole
    for index in range(COUNT):
        broken = judged(rewritten(lines, index)).broken
        # Record 0 and 1 share the first head; each later one has its own.
        assert broken == f"signature of the head over {max(index, 1) + 1} records wrong"
    assert rewritten(lines, COUNT + 5) == lines


def test_good_signatures_do_not_vouch_for_other_records(whole: tuple[Lines, Checkpoint]) -> None:
    """`prev` is not signed, the root is: the genuine head behind a changed record."""
    lines, _ = whole
    for index in range(COUNT):
        broken = judged(rewritten(lines, index, keep_roots=True)).broken
        assert broken == f"head over {max(index, 1) + 1} records altered: another root"


def test_another_spelling_of_the_last_line_is_found(whole: tuple[Lines, Checkpoint]) -> None:
    """No line comes after it that would have its hash."""
    lines, head = whole
    for before, after in ((b'"size":', b'"size": '), (b'"head"', b'"h\\u0065ad"'), (b"{", b" {")):
        changed = copied(lines)
        changed[-1][-1] = lines[-1][-1].replace(before, after, 1)
        assert changed != lines
        assert judged(changed, [head]).broken, after


def test_an_opening_at_the_end_is_held_to_what_came_before(
    whole: tuple[Lines, Checkpoint],
) -> None:
    lines, _ = whole
    cut = [lines[0], [lines[1][0]]]
    # Nobody needs the key to write an opening, and no writer leaves one alone.
    assert judged(cut).broken == "segment 1 holds no signed record: inserted, or cut"
    opening = decode(lines[1][0][:-1])
    assert isinstance(opening, Opening)
    changes: list[dict[str, Any]] = [
        {"prev": "0" * 64}, {"number": 2}, {"first": opening.first + 1}, {"ledger": "0" * 32},
        {"peaks": ["0" * 64, *opening.peaks[1:]]}, {"v": 2},
    ]  # fmt: skip
    for change in changes:
        altered = encode(msgspec.structs.replace(opening, **change)) + b"\n"
        assert judged([lines[0], [altered]]).broken, change


def test_a_head_said_again_is_found(whole: tuple[Lines, Checkpoint]) -> None:
    """Its signature is good, and covers neither its place nor what stands before it."""
    lines, _ = whole
    head = decode(lines[-1][-1][:-1])
    assert isinstance(head, Head)
    again = encode(msgspec.structs.replace(head, prev=hash_of(lines[-1][-1][:-1]))) + b"\n"
    found = judged([*lines[:-1], [*lines[-1], again]]).broken
    assert found == f"another head over {head.size} records: repeated"


def test_an_opening_below_zero_is_no_traceback() -> None:
    head = Head(-1, "11" * 32, START, "00" * 64)
    key = KEY.public_key().public_bytes_raw().hex()
    opening = encode(Opening(1, "a" * 32, key, 1, -1, ["11" * 32], head, START))
    record = Record(1, -1, "2026-01-01T00:00:00.000000Z", 1, "b", "event", "x", {},
                    hash_of(opening))  # fmt: skip
    lines = [[opening + b"\n", encode(record) + b"\n"]]
    assert judged(lines, archived=True, first=1).broken == (
        "opening of segment 1 altered: it begins at record -1"
    )


def test_what_no_head_covers_is_not_repeated(whole: tuple[Lines, Checkpoint]) -> None:
    """Whoever can write to the folder could put words into the report."""
    lines, _ = whole
    last = decode(lines[-1][-2][:-1])
    assert isinstance(last, Record)
    said = msgspec.structs.replace(
        last, index=last.index + 1, kind="ledger", subject="refused",
        detail={"records": 1, "why": "all is well"}, prev=hash_of(lines[-1][-1][:-1]),
    )  # fmt: skip
    found = judged([*lines[:-1], [*lines[-1], encode(said) + b"\n"]])
    assert found.broken is not None
    assert not any("all is well" in note for note in found.notes)


def test_another_key_is_another_ledger(tmp_path: Path, whole: tuple[Lines, Checkpoint]) -> None:
    lines, _ = whole
    opening = decode(lines[0][0][:-1])
    assert isinstance(opening, Opening)
    head = sign(OTHER, opening.ledger, 0, bytes.fromhex(opening.head.root), opening.head.prev)
    changed = copied(lines)
    changed[0][0] = encode(msgspec.structs.replace(opening, head=head)) + b"\n"
    assert judged(changed).broken
    key = OTHER.public_key().public_bytes_raw().hex()
    changed[0][0] = encode(msgspec.structs.replace(opening, head=head, key=key)) + b"\n"
    assert "another key" in (judged(changed).broken or "")


def test_a_head_of_a_forked_ledger_shows_the_rewriting(tmp_path: Path) -> None:
    """The key holder writes another history: only what was kept elsewhere tells."""
    small(tmp_path / "one", 5)
    lines = lines_of(tmp_path / "one")
    chain = Chain(KEY.public_key())
    for data in lines[0]:
        chain.follow(data[:-1])
        if chain.tree.size == 4 and chain.signed == 4:
            break
    kept = Checkpoint(chain.ledger, 4, "00" * 32, "")
    assert (judged(lines, [kept]).broken or "").startswith("rewritten before record 4")
    kept = chain.checkpoint()
    assert judged(lines, [kept]).broken is None
    foreign = Checkpoint("f" * 32, 4, kept.root, kept.signature)
    assert "another ledger" in (judged(lines, [foreign]).broken or "")


def test_segments_missing_swapped_or_renamed(whole: tuple[Lines, Checkpoint]) -> None:
    lines, _ = whole
    tail = judged(lines[1:], first=1)
    assert tail.broken == "gap between segments: segment 0 is missing"
    assert (judged(lines[1:], first=0).broken or "").startswith("segment 0 says it is 1")
    assert judged([lines[1], lines[0], *lines[2:]]).broken
    archived = judged(lines[1:], first=1, archived=True)
    assert archived.broken is None
    assert archived.first > 0
    assert f"begins at record {archived.first}" in archived.notes[0]


def test_a_gap_in_the_middle(tmp_path: Path) -> None:
    small(tmp_path, COUNT)
    assert checked(tmp_path).broken is None
    (tmp_path / "segment-00000001.ledger").unlink()
    assert "gap between segments: segment 1 is missing" in (checked(tmp_path).broken or "")
    assert "gap between segments" in (checked(tmp_path, archived=True).broken or "")
    (tmp_path / "segment-00000002.ledger").write_bytes(b"")
    assert checked(tmp_path).broken


def test_a_clock_that_jumps_back_is_noted_and_never_hidden(tmp_path: Path) -> None:
    clock = Clock()
    small(tmp_path, 3, clock=clock)
    clock.wall -= 3600 * 1_000_000
    small(tmp_path, 3, clock=clock)
    verdict = checked(tmp_path)
    assert verdict.broken is None
    assert [note for note in verdict.notes if "clock set back" in note] == list(verdict.notes)
    assert len(verdict.notes) == 1
    # The same without the record that tells of it, signed by the writer's own key.
    lines = [decode(data[:-1]) for segment in lines_of(tmp_path) for data in segment]
    unmentioned: list[bytes] = []
    prev, renamed = "", 0
    for line in lines:
        if isinstance(line, Record) and line.subject == "clock":
            line = msgspec.structs.replace(line, subject="opened")
            renamed = line.index
        if prev and not isinstance(line, Opening):
            line = msgspec.structs.replace(line, prev=prev)
        if isinstance(line, Head) and renamed:
            break
        prev = hash_of(encode(line))
        unmentioned.append(encode(line) + b"\n")
    broken = judged([unmentioned]).broken or ""
    assert broken.startswith(f"clock jumped back at record {renamed} from ")


def test_the_first_broken_place_counts(whole: tuple[Lines, Checkpoint]) -> None:
    """A forged stretch that ends in a broken line: the forged head before it is named."""
    lines, _ = whole
    forged = rewritten(lines, 3)
    forged[-1][-1] = b"{}\n"
    assert judged(forged).broken == "signature of the head over 4 records wrong"


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"{}\n", b"[" * 60_000 + b"\n", b"\x00" * 5000, b'{"type":"record"}\n'],
    ids=range(6),
)  # fmt: skip
def test_garbage_is_broken_not_a_traceback(data: bytes) -> None:
    assert judged([[data] if data else []]).broken
    assert judged([]).broken == "no segment"


def test_deep_json_in_a_record(whole: tuple[Lines, Checkpoint]) -> None:
    lines, _ = whole
    record = json.loads(lines[0][1])
    text = json.dumps(record).replace(
        '"detail": {', '"detail": {"a": ' + "[" * 2000 + "]" * 2000 + ","
    )
    changed = copied(lines)
    changed[0][1] = text.encode() + b"\n"
    assert judged(changed).broken
