"""Stack, code, heap and what lies below the stack, in tables laid out for each case."""

from __future__ import annotations

import itertools
import time

import pytest

from ringfence.guest import regions
from ringfence.guest.paging import NO_EXECUTE, USER, WRITE, Root, Tables
from ringfence.guest.regions import (
    Below,
    Floor,
    Place,
    Run,
    aliases,
    around,
    exposed,
    place,
    runs,
    space,
    tables,
)
from ringfence.guest.registers import Registers
from tests.unit.guest.tables import ALL, NX, PRESENT, WRITABLE, Physical, registers
from tests.unit.guest.tables import USER as USER_BIT

CODE, STACK, HEAP = 0x400000, 0x7FF000000000, 0x10000000


def laid_out(user: bool = False) -> Physical:
    """Two pages of code, four of stack with nothing below, sixteen of heap, one of other data."""
    bit = USER_BIT if user else 0
    memory = Physical()
    for page in range(2):
        memory.map(CODE + page * 4096, 0x100000 + page * 4096, PRESENT | bit)
    for page in range(4):
        memory.map(STACK + page * 4096, 0x200000 + page * 4096, PRESENT | WRITABLE | NX | bit)
    for page in range(16):
        memory.map(HEAP + page * 4096, 0x300000 + page * 4096, PRESENT | WRITABLE | NX | bit)
    memory.map(0x20000000, 0x400000, PRESENT | WRITABLE | NX | bit)
    return memory


def at_work(**more: bool | int) -> Registers:
    return registers(CODE + 0x123, STACK + 0x2FF8, **more)  # type: ignore[arg-type]


def test_where_a_program_lies() -> None:
    found = place(laid_out().walked(), at_work())
    assert found.code == Run(CODE, CODE + 0x2000, 0)
    assert found.stack == Run(STACK, STACK + 0x4000, WRITE | NO_EXECUTE)
    assert found.largest == Run(HEAP, HEAP + 0x10000, WRITE | NO_EXECUTE)
    other = Run(0x20000000, 0x20001000, WRITE | NO_EXECUTE)
    assert found.data == (found.largest, other)
    assert found.floor == Floor(2 * 4096, Below.UNMAPPED)


def test_data_is_of_the_same_kind_as_the_code() -> None:
    memory = laid_out(user=True)
    for page in range(64):
        memory.map((0xFFFF << 48) | (1 << 47) | page * 4096, 0, PRESENT | WRITABLE | NX)
    found = place(memory.walked(), at_work(cpl=3))
    assert [run.start for run in found.data] == [HEAP, 0x20000000]


def test_a_device_is_no_data() -> None:
    """Registers of devices are mapped as memory is, often in more pages than the heap has."""
    memory = laid_out()
    for page in range(64):
        memory.map(0x30000000 + page * 4096, 0xFE000000 + page * 4096, PRESENT | WRITABLE | NX)
    found = place(memory.walked(), at_work())
    assert [run.start for run in found.data] == [HEAP, 0x20000000]


def test_one_region_for_everything_has_no_data() -> None:
    memory = Physical()
    for number in range(4):
        memory.map(number << 21, number << 21, PRESENT | WRITABLE, at=21)
    found = place(memory.walked(), registers(0x1000, 0x400000))
    assert found.code == found.stack == Run(0, 4 << 21, WRITE)
    assert found.data == () and found.largest is None


def floor(memory: Physical, pointer: int = STACK + 0x2FF8) -> Floor | None:
    return place(memory.walked(), registers(CODE, pointer)).floor


def test_a_region_with_other_rights_directly_below_is_mapped() -> None:
    """It is no guard: an overflow writes it, or reads its bytes."""
    memory = laid_out()
    memory.map(STACK - 4096, 0x500000, PRESENT)
    assert floor(memory) == Floor(2 * 4096, Below.MAPPED)


def test_data_directly_below_looks_like_more_of_the_stack() -> None:
    memory = laid_out()
    memory.map(STACK - 4096, 0x500000, PRESENT | WRITABLE | NX)
    assert floor(memory) == Floor(3 * 4096, Below.UNMAPPED)


def test_below_address_zero_there_is_no_unmapped_page() -> None:
    memory = Physical()
    memory.map(0, 0, PRESENT | WRITABLE, at=21)
    assert floor(memory, 0x5010) == Floor(0x5000, Below.ZERO)
    above = Physical()
    above.map(1 << 21, 0, PRESENT | WRITABLE, at=21)
    assert floor(above, (1 << 21) + 0x5010) == Floor(0x5000, Below.UNMAPPED)


def test_a_stack_pointer_that_points_nowhere_has_no_floor() -> None:
    assert floor(laid_out(), STACK - 8) is None


def test_a_stack_of_more_pages_than_are_followed_has_memory_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(regions, "MOST_STEPS", 1)
    assert floor(laid_out()) == Floor(4096, Below.MAPPED)


def test_a_region_ends_where_the_addresses_do() -> None:
    memory = Physical()
    memory.map(0xFFFFFFFFFFFFF000, 0x9000, PRESENT | WRITABLE)
    memory.map(0x7FFFFFFFF000, 0x9000, PRESENT | WRITABLE)
    memory.map(0xFFFF800000000000, 0x9000, PRESENT | WRITABLE)
    memory.map(0, 0x9000, PRESENT | WRITABLE)
    walked = memory.walked()
    assert around(walked, 0xFFFFFFFFFFFFFFFF) == Run(0xFFFFFFFFFFFFF000, 1 << 64, WRITE)
    assert around(walked, 0x7FFFFFFFFFFF) == Run(0x7FFFFFFFF000, 0x800000000000, WRITE)
    assert around(walked, 0xFFFF800000000000) == Run(0xFFFF800000000000, 0xFFFF800000001000, WRITE)
    assert around(walked, 0x5000) is None


def test_what_an_address_space_allows() -> None:
    memory = laid_out(user=True)
    memory.map(CODE + 0x5000, 0x700000, ALL)
    memory.map(CODE + 0x6000, 0x701000, PRESENT | WRITABLE)
    found = space(memory.walked(), at_work())
    assert (found.mapped, found.user, found.code) == (25, 24, 4)
    assert (found.both, found.user_both) == (2, 1)
    assert found.shown == (
        Run(CODE + 0x5000, CODE + 0x6000, WRITE | USER),
        Run(CODE + 0x6000, CODE + 0x7000, WRITE),
    )
    assert not found.zero and found.complete


def test_without_nxe_every_page_is_executable() -> None:
    walked = laid_out().walked()
    assert space(walked, at_work()).both == 0
    assert space(walked, at_work(nx=False)).both == 21


def test_page_zero() -> None:
    memory = laid_out()
    memory.map(0, 0x9000, PRESENT)
    assert space(memory.walked(), at_work()).zero


def test_writable_names_of_code() -> None:
    memory = laid_out()
    assert aliases(memory.walked(), at_work()) == (0, False)
    memory.map(0x800000000, 0x101000, PRESENT | WRITABLE | NX)
    assert aliases(memory.walked(), at_work()) == (1, False)
    memory.map(0x840000000, 0, PRESENT | WRITABLE | NX, at=21)
    assert aliases(memory.walked(), at_work()) == (0 + 2, False)


def test_a_kernel_may_write_the_code_of_its_programs() -> None:
    memory = laid_out(user=True)
    memory.map(0x800000000, 0x101000, PRESENT | WRITABLE | NX)
    assert aliases(memory.walked(), at_work()) == (0, False)
    memory.map(0x800001000, 0x101000, ALL | NX)
    assert aliases(memory.walked(), at_work()) == (1, False)


IDT, GDT = 0x50000000, 0x60000800
"""Tables of a page and of 48 bytes."""


def with_tables(*more: tuple[int, int, int]) -> Physical:
    """A program and its kernel's tables, which are the kernel's to write, and further pages: where,
    which physical page, rights. The page tables stand from 0x1000 on, the top first."""
    memory = laid_out(user=True)
    memory.map(IDT, 0x500000, PRESENT | WRITABLE | NX)
    memory.map(GDT, 0x501000, PRESENT | WRITABLE | NX)
    for page in more:
        memory.map(*page)
    return memory


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), (0, 0, 0)),
        (((0x800000000, 0x1000, ALL | NX),), (1, 0, 0)),
        (((0x800000000, 0x1000, PRESENT | WRITABLE | NX),), (0, 0, 0)),
        (((0x800000000, 0x1000, PRESENT | USER_BIT | NX),), (0, 0, 0)),
        (((IDT, 0x500000, ALL | NX),), (0, 1, 0)),
        (((0x800000000, 0x500000, ALL | NX),), (0, 1, 0)),
        (((GDT, 0x501000, ALL | NX),), (0, 0, 1)),
        (((0x800000000, 0x501000, ALL | NX),), (0, 0, 1)),
    ],
)
def test_tables_that_a_program_can_write_by_any_name(
    more: tuple[tuple[int, int, int], ...], expected: tuple[int, int, int]
) -> None:
    found = space(with_tables(*more).walked(), at_work(cpl=3, idt=IDT, gdt=GDT))
    assert (found.exposed, found.exposed_cut) == (expected, False)


def test_all_pages_of_a_table_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that begins in the middle of a page, and goes on in a page of its own."""
    memory = with_tables((IDT + 0x1000, 0x700000, ALL | NX))
    assert exposed(memory.walked(), at_work(idt=IDT + 0x800, gdt=GDT))[0] == (0, 1, 0)
    assert exposed(memory.walked(), at_work(idt=IDT, gdt=GDT))[0] == (0, 0, 0)
    monkeypatch.setattr(regions, "MOST_LEAVES", 8)
    assert exposed(memory.walked(), at_work(idt=IDT, gdt=GDT)) == ((0, 0, 0), True)


def test_runs_join_equal_neighbours_only() -> None:
    memory = Physical()
    memory.map(0x1000, 0x9000, PRESENT)
    memory.map(0x2000, 0x5000, PRESENT)
    memory.map(0x3000, 0x6000, PRESENT | WRITABLE)
    memory.map(0x5000, 0x7000, PRESENT | WRITABLE)
    assert list(runs(memory.walked().leaves(frozenset(range(8))))) == [
        Run(0x1000, 0x3000, 0), Run(0x3000, 0x4000, WRITE), Run(0x5000, 0x6000, WRITE),
    ]  # fmt: skip


def everywhere() -> Physical:
    """Every address mapped, by one table that all entries of all levels point to."""
    memory = Physical()
    memory.tables[memory.root] = [memory.root | PRESENT | WRITABLE] * 512
    return memory


def test_a_region_without_end_is_followed_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its pages join to one region: the number of regions bounds nothing."""
    monkeypatch.setattr(regions, "MOST_LEAVES", 1000)
    found = space(everywhere().walked(), at_work())
    assert found.both == 512**4 and found.complete
    assert found.shown == (Run(0, 1000 * 4096, WRITE),) and found.cut and found.aliases_cut
    small = space(laid_out().walked(), at_work(nx=False))
    assert small.shown and not small.cut and not small.aliases_cut


def test_pages_are_listed_until_time_is_over() -> None:
    memory = everywhere()
    until = time.monotonic() + 0.2
    walked = Tables(memory.read, (Root(memory.root, memory.form, signed=True),), until)
    count = sum(1 for _ in itertools.islice(walked.leaves(frozenset({WRITE})), 1 << 24))
    assert 0 < count < 1 << 24
    assert walked.late and walked.complete
    assert not memory.walked().late


def test_after_the_end_of_time_no_table_is_read_and_nothing_is_unmapped() -> None:
    memory = laid_out()
    found = Tables(memory.read, (Root(memory.root, memory.form, signed=True),), time.monotonic())
    cut = space(found, at_work())
    assert (cut.mapped, cut.complete) == (0, False)
    assert not found.readable(STACK)
    assert place(found, at_work()) == Place(None, None, (), None, cut=True)


def test_of_more_data_than_is_looked_at_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = place(laid_out().walked(), at_work())
    assert len(whole.data) == 2 and not whole.cut
    monkeypatch.setattr(regions, "MOST_DATA", 1)
    many = place(laid_out().walked(), at_work())
    assert (many.data, many.cut) == ((), True)
    monkeypatch.undo()
    monkeypatch.setattr(regions, "MOST_LEAVES", 8)
    long = place(laid_out().walked(), at_work())
    assert (long.data, long.cut) == ((), True)


def test_a_table_below_the_stack_that_cannot_be_read_is_no_guard() -> None:
    memory = laid_out()
    assert floor(memory) == Floor(2 * 4096, Below.UNMAPPED)
    below = STACK - (1 << 30)
    memory.map(below, 0, PRESENT | WRITABLE)
    level = memory.tables[memory.root][STACK >> 39] & ~0xFFF
    memory.tables[level][below >> 30 & 511] = 0xDEADBEEF000 | ALL
    assert not memory.walked().readable(STACK - 4096)
    assert floor(memory) == Floor(2 * 4096, Below.UNREAD)


def test_no_tables_without_paging() -> None:
    assert tables(laid_out().read, registers(paged=False)) is None
    assert tables(laid_out().read, registers()) is not None
