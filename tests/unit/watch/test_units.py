"""Cutting a walk into units, and lining it up with a baseline, loses and doubles nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringfence.watch.baseline.entry import Entry, Key, key
from ringfence.watch.baseline.store import Frame, Packer, _frames
from ringfence.watch.baseline.units import MOST_NAMES, aligned, batches
from ringfence.watch.baseline.walk import Listing
from ringfence.watch.baseline.work import _former

NAMES = st.sets(st.sampled_from([b"a", b"a.b", b"ab", b"b", b"c\n", b"\xff", b"z"]))
FOLDERS = st.sampled_from([b"", b"a", b"a/b", b"a.b", b"a/b/c", b"b"])
TREES = st.dictionaries(FOLDERS, NAMES.filter(bool), max_size=6)


def kinds(names: list[bytes]) -> bytes:
    """One for each name that tells it from others."""
    return bytes(sum(name) % 251 for name in names)


def listings(tree: dict[bytes, set[bytes]]) -> list[Listing]:
    order = sorted(tree, key=lambda folder: key(folder, b""))
    return [(0, folder, sorted(tree[folder]), kinds(sorted(tree[folder]))) for folder in order]


def frames(tree: dict[bytes, set[bytes]], size: int) -> list[Frame]:
    flat = [(folder, name) for _, folder, names, *_ in listings(tree) for name in names]
    found = []
    for place in range(0, len(flat), size):
        lot = [(folder, [Entry(name, "f")]) for folder, name in flat[place : place + size]]
        found += [_frames.decode(data) for data in Packer().frames(lot)]
    return found


def keys(tree: dict[bytes, set[bytes]]) -> list[Key]:
    return [key(folder, name) for _, folder, names, *_ in listings(tree) for name in names]


@given(TREES, TREES, st.integers(1, 5))
def test_each_unit_has_the_files_of_its_frame(
    now: dict[bytes, set[bytes]], then: dict[bytes, set[bytes]], size: int
) -> None:
    units = list(aligned(iter(listings(now)), frames(then, size)))
    seen = [key(folder, name) for unit in units for _, folder, names, *_ in unit.listings
            for name in names]  # fmt: skip
    assert seen == keys(now)
    for unit in units:
        assert all(bytes_of == kinds(names) for _, _, names, bytes_of in unit.listings)
    known: list[Key] = []
    for unit in units:
        here = {key(folder, name) for _, folder, names, *_ in unit.listings for name in names}
        former = {
            key(folder, name)
            for folder, rows in (_former(unit) if unit.body else {}).items()
            for name in rows
        }
        known += sorted(former)
        # What is in both is in the same unit: otherwise it would look added and removed.
        others = set(keys(now)) - here
        assert not former & others
    assert known == keys(then)


def test_much_that_was_added_within_one_frame_is_split_at_its_keys() -> None:
    then = {b"": {b"0000", b"0500", b"9999"}}
    now = {b"": {b"%04d" % number for number in range(1000)}}
    units = list(aligned(iter(listings(now)), frames(then, 10)))
    assert len(units) == -(-1000 // MOST_NAMES)
    former = [sorted(_former(unit).get(b"", {})) for unit in units]
    assert [name for names in former for name in names] == [b"0000", b"0500", b"9999"]
    for unit, names in zip(units, former, strict=True):
        here = {name for _, _, found, _ in unit.listings for name in found}
        assert all(name in here or name == b"9999" for name in names)


@given(st.lists(st.integers(1, 400), max_size=12))
def test_batches_are_small_and_whole(sizes: list[int]) -> None:
    given_listings: list[Listing] = [
        (0, b"%d" % place, names, kinds(names))
        for place, size in enumerate(sizes)
        for names in [[b"%d" % name for name in range(size)]]
    ]
    found = list(batches(given_listings))
    flat = [(folder, name) for lot in found for _, folder, names, *_ in lot for name in names]
    assert flat == [(folder, name) for _, folder, names, *_ in given_listings for name in names]
    assert all(bytes_of == kinds(names) for lot in found for _, _, names, bytes_of in lot)
    assert all(sum(len(row[2]) for row in lot) <= MOST_NAMES for lot in found)
