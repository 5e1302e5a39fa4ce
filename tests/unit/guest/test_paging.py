"""The walker against tables whose contents the tests know, honest and hostile."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.guest import paging
from ringfence.guest.arch.x86 import FIVE_LEVEL, PAE, TWO_LEVEL_LARGE, mode
from ringfence.guest.paging import NO_EXECUTE, RIGHTS, USER, WRITE, Leaf
from tests.unit.guest.tables import ALL, NX, PRESENT, WRITABLE, Physical
from tests.unit.guest.tables import USER as USER_BIT

EVERY = frozenset(range(RIGHTS))


def rights(flags: int) -> int:
    """The walker's word for an entry's flags."""
    return (
        (WRITE if flags & WRITABLE else 0)
        | (USER if flags & USER_BIT else 0)
        | (NO_EXECUTE if flags & NX else 0)
    )


@pytest.mark.parametrize("upper", [a | b | c for a in (0, WRITABLE) for b in (0, USER_BIT)
                                   for c in (0, NX)])  # fmt: skip
@pytest.mark.parametrize("lower", [a | b | c for a in (0, WRITABLE) for b in (0, USER_BIT)
                                   for c in (0, NX)])  # fmt: skip
def test_a_right_counts_if_every_level_gives_it(upper: int, lower: int) -> None:
    memory = Physical()
    memory.map(0x400000, 0x9000, PRESENT | lower, upper=PRESENT | upper)
    found = memory.walked().translate(0x400123)
    both = rights(upper) & rights(lower) & (WRITE | USER)
    assert found == Leaf(0x400000, 4096, 0x9000, both | ((rights(upper) | rights(lower)) & 4))


def test_no_execute_of_the_top_level_alone() -> None:
    memory = Physical()
    memory.map(0x400000, 0x9000, ALL)
    memory.tables[memory.root][0] |= NX
    assert memory.walked().counts() == (0, 0, 0, 0, 0, 0, 0, 1) + (0,) * 8


@pytest.mark.parametrize(("shift", "pages"), [(12, 1), (21, 512), (30, 512 * 512)])
def test_large_pages_count_for_what_they_cover(shift: int, pages: int) -> None:
    memory = Physical()
    memory.map(1 << 30, 1 << 30, PRESENT | WRITABLE, at=shift)
    found = memory.walked()
    assert found.counts()[WRITE] == pages == sum(found.counts())
    inside = (1 << 30) + (1 << shift) - 1
    assert found.translate(inside) == Leaf(1 << 30, 1 << shift, 1 << 30, WRITE)
    assert found.translate(inside + 1) is None


def test_the_upper_half_is_sign_extended() -> None:
    memory = Physical()
    memory.map(0xFFFFFFFF80000000, 0x9000, PRESENT)
    (leaf,) = memory.walked().leaves(EVERY)
    assert leaf.start == 0xFFFFFFFF80000000
    assert memory.walked().translate(0xFFFFFFFF80000000) == leaf


def test_five_levels() -> None:
    memory = Physical(FIVE_LEVEL)
    memory.map(0xFF12345678900000, 0x9000, PRESENT | NX)
    (leaf,) = memory.walked().leaves(EVERY)
    assert leaf == Leaf(0xFF12345678900000, 4096, 0x9000, NO_EXECUTE)


def test_two_levels_of_four_bytes() -> None:
    memory = Physical(TWO_LEVEL_LARGE)
    memory.map(0x00400000, 0x00800000, ALL, at=22)
    memory.map(0xC0000000, 0x9000, PRESENT)
    assert [leaf.start for leaf in memory.walked().leaves(EVERY)] == [0x00400000, 0xC0000000]
    assert memory.walked().counts()[0] == 1
    assert memory.walked().counts()[WRITE | USER] == 1024


def test_pae_has_four_top_entries_without_rights() -> None:
    memory = Physical(PAE)
    memory.map(0xC0000000, 0x9000, PRESENT | WRITABLE, upper=ALL)
    memory.tables[memory.root][3] &= ~6
    memory.tables[memory.root][5] = ALL | 0x9000
    assert [leaf.rights for leaf in memory.walked().leaves(EVERY)] == [WRITE]


@given(
    st.dictionaries(
        st.integers(0, (1 << 36) - 1).map(lambda page: page << 12),
        st.sampled_from([a | b | c for a in (0, WRITABLE) for b in (0, USER_BIT) for c in (0, NX)]),
        max_size=40,
    )
)
def test_leaves_counts_and_translation_agree_with_what_was_mapped(pages: dict[int, int]) -> None:
    memory = Physical()
    for number, (address, flags) in enumerate(pages.items()):
        memory.map(address, number << 12, PRESENT | flags)
    walked = memory.walked()
    extended = {
        address | (0xFFFF << 48 if address >> 47 else 0): flags for address, flags in pages.items()
    }
    leaves = list(walked.leaves(EVERY))
    assert {leaf.start: leaf.rights for leaf in leaves} == {
        address: rights(flags) for address, flags in extended.items()
    }
    assert [leaf.start for leaf in leaves] == sorted(extended)
    assert all(walked.translate(leaf.start + 0xABC) == leaf for leaf in leaves)
    for kind in range(RIGHTS):
        wanted = [leaf for leaf in leaves if leaf.rights == kind]
        assert walked.counts()[kind] == len(wanted)
        assert list(walked.leaves(frozenset({kind}))) == wanted


def test_a_table_that_contains_itself_ends() -> None:
    """Some kernels map their tables so: each level once more."""
    memory = Physical()
    memory.map(0x400000, 0x9000, PRESENT)
    memory.tables[memory.root][511] = memory.root | ALL
    walked = memory.walked()
    assert walked.complete
    assert walked.translate(0xFFFFFFFFFFFFF000) == Leaf(
        0xFFFFFFFFFFFFF000, 4096, memory.root, WRITE | USER
    )
    assert len(list(walked.leaves(EVERY))) == 1 + 4


def test_all_entries_of_all_levels_pointing_to_one_table() -> None:
    memory = Physical()
    memory.tables[memory.root] = [memory.root | ALL] * 512
    walked = memory.walked()
    assert walked.counts()[WRITE | USER] == 512**4
    first = list(itertools.islice(walked.leaves(EVERY), 3))
    assert [leaf.start for leaf in first] == [0, 4096, 8192]


def test_tables_where_no_memory_is() -> None:
    memory = Physical()
    memory.map(0x400000, 0x9000, PRESENT)
    memory.tables[memory.root][7] = 0xDEADBEEF000 | ALL
    walked = memory.walked()
    assert sum(walked.counts()) == 1
    assert not walked.complete


def test_more_tables_than_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MOST_TABLES", 4)
    memory = Physical()
    memory.map(0x400000, 0x9000, PRESENT)
    memory.map(0x10000000000, 0x9000, PRESENT)
    walked = memory.walked()
    assert sum(walked.counts()) == 1
    assert not walked.complete


def test_more_entries_than_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Physical()
    for page in range(1024):
        memory.map(page * 4096, 0x9000, PRESENT)
    assert memory.walked().complete
    monkeypatch.setattr(paging, "MOST_ENTRIES", 500)
    walked = memory.walked()
    assert (sum(walked.counts()), walked.complete) == (512, False)


@pytest.mark.parametrize(
    ("cr4", "efer", "name"),
    [(0x20, 0x500, "4-level"), (0x1020, 0x500, "5-level"), (0x20, 0, "PAE"), (0, 0, "32-bit"),
     (0x10, 0, "32-bit")],
)  # fmt: skip
def test_the_form_of_paging(cr4: int, efer: int, name: str) -> None:
    assert mode(cr4, efer).name == name
