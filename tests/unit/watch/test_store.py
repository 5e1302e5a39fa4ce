"""The file of a baseline: nothing but the bytes that were sealed is ever read as one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.errors import InputError
from ringfence.watch.baseline.entry import Entry, Group, key
from ringfence.watch.baseline.rules import Mode, Rule
from ringfence.watch.baseline.seal import generate, read_public
from ringfence.watch.baseline.store import Header, Packer, Sealed, Totals, unpacked
from ringfence.watch.baseline.writing import Writer
from tests.command import ringfence

HEADER = Header("directory", "/srv", 1, "sha256", rules=(Rule(Mode.GROWS, glob="/log"),))


def groups(count: int = 3) -> list[Group]:
    entries = [Entry(b"%04d" % number, "f", 0o644, 0, 0, number) for number in range(count)]
    return [(b"a", entries), (b"a/b", entries)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key and a small sealed baseline."""
    place = tmp_path_factory.mktemp("sealed")
    signer = generate(place / "key")
    with Writer(place / "baseline", HEADER) as writer:
        writer.add_all(list(Packer().frames(groups())))
        writer.seal(Totals(6, 9), signer)
    return place


def read(path: Path, public: bytes) -> list[Group]:
    with contextlib.closing(Sealed(path, public)) as sealed:
        found = [group for frame in sealed.frames() for group in unpacked(frame.body)]
        assert sealed.header == HEADER
        assert sealed.totals == Totals(6, 9)
    return found


def test_what_was_written_is_read(made: Path) -> None:
    assert read(made / "baseline", read_public(made / "key.pub")) == groups()
    assert sorted(path.name for path in made.iterdir()) == ["baseline", "key", "key.pub"]
    assert (made / "key").stat().st_mode & 0o777 == 0o600


def test_a_flipped_bit_at_any_offset_is_refused(made: Path, tmp_path: Path) -> None:
    data = (made / "baseline").read_bytes()
    public = read_public(made / "key.pub")
    copy = tmp_path / "copy"
    for offset in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[offset] ^= 1 << bit
            copy.write_bytes(changed)
            with pytest.raises(InputError):
                Sealed(copy, public)
    copy.write_bytes(data)
    assert read(copy, public) == groups()


def test_every_length_but_the_right_one_is_refused(made: Path, tmp_path: Path) -> None:
    data = (made / "baseline").read_bytes()
    public = read_public(made / "key.pub")
    copy = tmp_path / "copy"
    handles = len(os.listdir("/proc/self/fd"))
    for length in range(len(data)):
        copy.write_bytes(data[:length])
        with pytest.raises(InputError):
            Sealed(copy, public)
    copy.write_bytes(data + b"\0")
    with pytest.raises(InputError):
        Sealed(copy, public)
    assert len(os.listdir("/proc/self/fd")) == handles


def test_the_command_ends_with_2_on_what_is_not_to_be_trusted(made: Path, tmp_path: Path) -> None:
    data = (made / "baseline").read_bytes()
    generate(tmp_path / "other")
    copy = tmp_path / "copy"
    cases = {
        "flipped": (bytes([data[0], data[1] ^ 1]) + data[2:], made / "key.pub"),
        "unsigned": (data[:-96], made / "key.pub"),
        "another's": (data, tmp_path / "other.pub"),
        "empty": (b"", made / "key.pub"),
    }
    for name, (content, public) in cases.items():
        copy.write_bytes(content)
        done = ringfence("watch", "check", tmp_path, "--baseline", copy, "--public-key", public)
        assert (done.code, done.out) == (2, ""), name
        assert "do not trust it" in done.err
    done = ringfence(
        "watch", "check", tmp_path, "--baseline", tmp_path, "--public-key", made / "key.pub"
    )
    assert done.code == 2


def test_bytes_that_change_after_they_were_verified_are_refused(made: Path, tmp_path: Path) -> None:
    data = (made / "baseline").read_bytes()
    copy = tmp_path / "copy"
    copy.write_bytes(data)
    with contextlib.closing(Sealed(copy, read_public(made / "key.pub"))) as sealed:
        offset = len(data) - 96 - 30
        with copy.open("r+b") as file:
            file.seek(offset)
            file.write(bytes([data[offset] ^ 1]))
        with pytest.raises(InputError):
            list(sealed.frames())


def test_a_baseline_that_cannot_be_finished_leaves_the_old_one(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "baseline"
    path.write_text("old")
    with pytest.raises(RuntimeError), Writer(path, HEADER) as writer:
        writer.add_all(list(Packer().frames(groups())))
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["baseline"]


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=40), st.integers(1, 3))
def test_frames_hold_everything_in_order_and_are_small(sizes: list[int], folders: int) -> None:
    entries = [
        Entry(b"%05d" % number, "f", xattrs=((b"user.x", bytes(size)),))
        for number, size in enumerate(sizes)
    ]
    given_groups: list[Group] = [(b"%d" % number, entries) for number in range(folders)]
    frames = list(Packer().frames(given_groups))
    from ringfence.watch.baseline.store import MOST_GROUPS, _frames

    flat = []
    for data in frames:
        frame = _frames.decode(data)
        found = unpacked(frame.body)
        places = [key(folder, entry.name) for folder, rows in found for entry in rows]
        assert places[-1] == key(frame.folder, frame.name)
        assert sum(len(row.xattrs[0][1]) for _, rows in found for row in rows if row.xattrs) <= (
            MOST_GROUPS + 4000
        )
        flat += places
    assert flat == [key(folder, entry.name) for folder, rows in given_groups for entry in rows]


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "there"
    if kind == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    before = os.lstat(place)
    with pytest.raises(InputError, match="is no file"):
        Writer(place, HEADER)
    assert os.lstat(place) == before
    assert os.listdir(tmp_path) == ["there"]


def test_of_a_symlink_the_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    kept, link = tmp_path / "kept", tmp_path / "link"
    kept.write_text("mine")
    link.symlink_to(kept)
    with Writer(link, HEADER) as writer:
        writer.seal(Totals(0, 0), generate(tmp_path / "key"))
    assert kept.read_text() == "mine"
    assert not link.is_symlink()
