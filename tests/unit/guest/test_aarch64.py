"""aarch64: registers as QEMU 7.2 shows them, and page tables against a reference written apart.

The reference follows the pseudocode of the Arm Architecture Reference Manual (DDI 0487,
AArch64.S1Translate and AArch64.S1ApplyTablePerms) one address at a time: it knows nothing of trees,
sums or the walker's words.
"""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.guest.arch.aarch64 import WFI, core, roots, state
from ringfence.guest.paging import KERNEL_NO_EXECUTE, NO_EXECUTE, RIGHTS, USER, WRITE, Tables
from ringfence.guest.regions import space
from ringfence.guest.registers import Registers

EVERY = frozenset(range(RIGHTS))
SCTLR = 1 | 1 << 2 | 1 << 12
"""M, C, I: SPAN, WXN and EE are clear."""
TEXT = """
CPU#0
 PC=ffffffc0087ecb38 X00=00000000000000e0 X01=0000000000000004
X02=0000000000000000 X30=ffffffc0087ecb2c  SP=ffffffc00926bdd0
PSTATE=604000c5 -ZC- EL1h    FPCR=00000000 FPSR=00000000
"""
NARROW = """
CPU#0
R00=00000000 R01=00000000 R02=00000000 R03=00000000
R12=00000000 R13=7ffff000 R14=00000000 R15=00010400
PSR=60000010 -ZC- A NS usr32
"""


def tcr(low: int = 48, high: int = 48, granule: int = 12, more: int = 0) -> int:
    """TCR_EL1 for halves of so many bits, with pages of that size in both."""
    sizes = {12: (0, 2), 14: (2, 1), 16: (1, 3)}[granule]
    return (64 - low) | (64 - high) << 16 | sizes[0] << 14 | sizes[1] << 30 | more


def system(control: int = SCTLR, tables: int = 0, first: int = 0x1000, second: int = 0x2000,
           ) -> dict[str, int]:  # fmt: skip
    return {"SCTLR": control, "TCR_EL1": tables or tcr(), "TTBR0_EL1": first,
            "TTBR1_EL1": second, "VBAR": 0xFFFF000000010800}  # fmt: skip


def at(pstate: int = 5, **more: int) -> Registers:
    return state({"PC": 0x1000, "SP": 0x2000, "PSTATE": pstate}, system(**more), None)


def test_what_the_monitor_prints() -> None:
    found = core(TEXT)
    assert found == {"PC": 0xFFFFFFC0087ECB38, "SP": 0xFFFFFFC00926BDD0, "PSTATE": 0x604000C5}
    assert core(NARROW) == {"PC": 0x10400, "SP": 0x7FFFF000, "PSTATE": 0x60000010}
    assert core("") is core(TEXT.replace("PSTATE", "NEVER")) is None


@pytest.mark.parametrize(
    ("pstate", "ring"),
    [(0x0, 3), (0x80000000, 3), (0x4, 0), (0x604000C5, 0), (0x9, 0), (0x10, 3), (0x60000013, 0)],
)
def test_rings(pstate: int, ring: int) -> None:
    """EL0, EL1t, EL1h, EL2h; the 32-bit user and supervisor modes."""
    assert at(pstate).ring == ring


def test_a_processor_that_waits_stands_behind_its_wfi() -> None:
    where = {"PC": 0x1000, "SP": 0x2000, "PSTATE": 5}
    assert state(where, system(), WFI).halted
    assert not state(where, system(), bytes(4)).halted
    assert not state(where, system(), None).halted


def test_switches_and_vectors() -> None:
    assert at().switches == {"pan"}
    assert at(control=SCTLR | 1 << 23).switches == frozenset()
    assert at().lifted and not at(5 | 1 << 22).lifted
    assert (at().lengths, at(0).ports) == ((2048,), False)
    assert at(control=SCTLR | 1 << 19).switches == {"pan", "wxn"}
    assert at().tables == (0xFFFF000000010800,)


def test_without_the_mmu_there_are_no_tables() -> None:
    found = at(control=SCTLR & ~1, tables=tcr(granule=16))
    assert (found.paged, found.roots, found.unread) == (False, (), "")


@pytest.mark.parametrize(
    ("tables", "why"),
    [(tcr() | 3 << 14, "TG0"), (tcr() & ~(3 << 30), "TG1"), (tcr(low=49), "T0SZ is 15"),
     (tcr(high=53, more=1 << 59), "T1SZ is 11"), (tcr(low=15), "T0SZ is 49")],
)  # fmt: skip
def test_forms_that_are_not_known_say_why(tables: int, why: str) -> None:
    found = at(tables=tables)
    assert found.paged and found.roots == ()
    assert why in found.unread


def test_a_closed_half_has_no_tree() -> None:
    assert [root.table for root in at(tables=tcr(more=1 << 7)).roots] == [0x2000]
    assert [root.table for root in at(tables=tcr(more=1 << 23)).roots] == [0x1000]
    assert [root.start for root in at(tables=tcr(39, 48)).roots] == [0, 0xFFFF << 48]


def test_numbers_of_address_spaces_and_tags_are_no_addresses() -> None:
    assert at(first=0x0042000000001001).space == (0x1000, 0x2000)
    tagged = state(
        {"PC": 0xAB00000000001000, "SP": 0xAB80000000001000, "PSTATE": 0}, system(), None
    )
    assert (tagged.ip, tagged.sp) == (0x1000, 0xFF80000000001000)


@pytest.mark.parametrize("wxn", [False, True])
@pytest.mark.parametrize("rights", range(RIGHTS))
def test_who_executes_what(rights: int, wxn: bool) -> None:
    """AArch64.S1DirectBasePermissions of the manual, for one page of these rights."""
    written, user = bool(rights & WRITE), bool(rights & USER)
    found = at(control=SCTLR | wxn << 19)
    privileged = not rights & KERNEL_NO_EXECUTE and not (written and user)
    assert (rights in found.executes) == (privileged and not (wxn and written))
    assert (rights in found.user_executes) == (
        not rights & NO_EXECUTE and not (wxn and written and user)
    )


class Physical:
    """Tables at random places of a small physical memory; `read` as guest memory is read."""

    def __init__(self, words: dict[int, int], order: str) -> None:
        self.words, self.order = words, order

    def read(self, address: int, length: int) -> bytes | None:
        if not 0x10000 <= address <= 0x80000 - length:
            return None
        words = [self.words.get(place, 0) for place in range(address, address + length, 8)]
        return struct.pack(f"{self.order}{len(words)}Q", *words)


class Fault(Exception):
    """A translation fault."""


def reference(memory: Physical, registers: dict[str, int], address: int) -> tuple[int, int, int]:
    """Physical address, bytes of the page, rights: the architecture's own steps."""
    control = registers["TCR_EL1"]
    high = address >> 55 & 1
    size = control >> 16 & 63 if high else control & 63
    granule = ({1: 14, 2: 12, 3: 16} if high else {0: 12, 1: 16, 2: 14})[
        control >> 30 & 3 if high else control >> 14 & 3
    ]
    wide = bool(control >> 59 & 1) and granule != 16
    if control >> (23 if high else 7) & 1:
        raise Fault
    if any(address >> bit & 1 != high for bit in range(64 - size, 56)):
        raise Fault
    base = registers["TTBR1_EL1"] if high else registers["TTBR0_EL1"]
    stride = granule - 3
    level = 4 - -(-(64 - size - granule) // stride)
    table = base & 0xFFFFFFFFFFFE
    # Entries of the top table are what the remaining bits of the address count.
    top = 8 << (64 - size - (granule + stride * (3 - level)))
    table -= table % (max(top, 64) if wide or 64 - size > 48 else top)
    no_write = no_user = uxn = pxn = False
    if control >> (56 if high else 55) & 1:
        no_user = uxn = True
    while True:
        shift = granule + stride * (3 - level)
        count = top // 8 if table_is_top(shift, size, stride) else 1 << stride
        raw = memory.read(table, count * 8)
        if raw is None:
            raise Fault
        index = address >> shift & (count - 1)
        (entry,) = struct.unpack_from(f"{memory.order}Q", raw, 8 * index)
        blocks = {12: (1, 2), 14: (2,), 16: (2,)}[granule]
        if wide:
            blocks = {12: (0, 1, 2), 14: (1, 2), 16: ()}[granule]
        if not entry & 1:
            raise Fault
        page = level == 3
        if page and not entry & 2:
            raise Fault
        if not page and not entry & 2:
            if level not in blocks:
                raise Fault
            page = True
        target = entry & (0x3FFFFFFFFFFFF if wide else 0xFFFFFFFFFFFF)
        target -= target % (1 << granule)
        if wide:
            target |= (entry >> 8 & 3) << 50
        if page:
            break
        if not control >> (42 if high else 41) & 1:
            no_write |= bool(entry >> 62 & 1)
            no_user |= bool(entry >> 61 & 1)
            uxn |= bool(entry >> 60 & 1)
            pxn |= bool(entry >> 59 & 1)
        table, level = target, level + 1
    read_only = bool(entry >> 7 & 1) and not (control >> 40 & 1 and entry >> 51 & 1)
    rights = (
        WRITE * (not read_only and not no_write)
        + USER * (bool(entry >> 6 & 1) and not no_user)
        + NO_EXECUTE * (bool(entry >> 54 & 1) or uxn)
        + KERNEL_NO_EXECUTE * (bool(entry >> 53 & 1) or pxn)
    )
    return target - target % (1 << shift), 1 << shift, rights


def table_is_top(shift: int, size: int, stride: int) -> bool:
    """Whether the bits that remain above this level are all of the address."""
    return 64 - size - shift <= stride


FLAGS = [6, 7, 8, 9, 51, 53, 54, 59, 60, 61, 62]
"""AP[1], AP[2], two of SH (of the address, with DS), DBM, PXN, UXN, and the bits for tables."""


@st.composite
def spaces(draw: st.DrawFn) -> tuple[Physical, dict[str, int], list[int]]:
    """Random tables, registers, and addresses that mostly lead through them."""
    granule = draw(st.sampled_from([12, 14, 16]))
    wide = granule != 16 and draw(st.booleans())
    most = 52 if wide or granule == 16 else 48
    low, high = (draw(st.integers(granule + 1 if granule == 16 else 16, most)) for _ in range(2))
    bits = (1 << 59) * wide
    for bit in (40, 41, 42, 55, 56, 7, 23):
        bits |= draw(st.integers(0, 5).map(lambda roll: roll == 0)) << bit
    order = draw(st.sampled_from("<>"))
    places = [0x10000 * number for number in range(1, 8)]
    registers = system(
        SCTLR | (order == ">") << 25, tcr(low, high, granule, bits),
        draw(st.sampled_from(places)), draw(st.sampled_from(places)),
    )  # fmt: skip
    used = 1 << (granule - 3)
    words, indexes = {}, [draw(st.integers(0, used - 1)) for _ in range(3)] + [0, used - 1]
    for place in places:
        for index in indexes:
            entry = draw(st.sampled_from([0, 1, 3, 3, 3])) | draw(st.sampled_from(places))
            for bit in FLAGS:
                chosen = draw(st.integers(0, 7)) == 0 if bit in (8, 9) else draw(st.booleans())
                entry |= chosen << bit
            words[place + 8 * index] = entry
    addresses = []
    for _ in range(12):
        half, place = draw(st.booleans()), 0
        span = high if half else low
        for shift in range(granule, span, granule - 3):
            place |= draw(st.sampled_from(indexes)) << shift
        place &= (1 << span) - 1
        addresses.append(place | (((1 << 64) - (1 << span)) if half else 0))
    return Physical(words, order), registers, addresses


@settings(max_examples=150, deadline=None)
@given(spaces())
def test_the_walk_agrees_with_the_architectures_own_steps(
    made: tuple[Physical, dict[str, int], list[int]],
) -> None:
    memory, registers, addresses = made
    trees, why = roots(registers)
    assert why == ""
    walked = Tables(memory.read, trees)
    for address in [*addresses, 0, (1 << 64) - 1]:
        leaf = walked.translate(address)
        try:
            physical, size, rights = reference(memory, registers, address)
        except Fault:
            assert leaf is None
            continue
        assert leaf is not None
        assert (leaf.physical, leaf.size, leaf.rights) == (physical, size, rights)
        assert leaf.start <= address < leaf.start + size and leaf.start % size == 0


@settings(max_examples=60, deadline=None)
@given(spaces())
def test_counts_and_leaves_agree_with_translation(
    made: tuple[Physical, dict[str, int], list[int]],
) -> None:
    memory, registers, _ = made
    trees, _ = roots(registers)
    walked = Tables(memory.read, trees)
    total = walked.counts()
    for _, leaf in zip(range(200), walked.leaves(EVERY), strict=False):
        assert walked.translate(leaf.start) == leaf
        assert total[leaf.rights] >= leaf.size >> 12
    assert bool(sum(total)) == (next(walked.leaves(EVERY), None) is not None)


def two_pages(leaf: int, table: int) -> Physical:
    """One page at 0 of the lower half, with these bits in its entry and in the tables above."""
    words = {0x10000 * n: 0x10000 * (n + 1) | 3 | table for n in (1, 2, 3)}
    return Physical(words | {0x40000: 0x70000 | 3 | leaf}, "<")


@pytest.mark.parametrize(
    ("leaf", "table", "more", "both"),
    [
        (0, 0, 0, 1),
        (1 << 53 | 1 << 54, 0, 0, 0),
        (1 << 7, 0, 0, 0),
        (0, 1 << 62, 0, 0),
        (0, 1 << 59 | 1 << 60, 0, 0),
        (0, 1 << 59 | 1 << 60, 1 << 41, 1),
        (1 << 7 | 1 << 51, 0, 0, 0),
        (1 << 7 | 1 << 51, 0, 1 << 40, 1),
        (1 << 54, 0, 0, 1),
        (1 << 53, 0, 0, 0),
        (1 << 53 | 1 << 6, 0, 0, 1),
        (1 << 54 | 1 << 6, 0, 0, 0),
    ],
)
def test_writable_and_executable_is_of_one_ring(
    leaf: int, table: int, more: int, both: int
) -> None:
    """What EL1 can write and EL0 alone can execute is not writable and executable."""
    found = at(tables=tcr(more=more | 1 << 23), first=0x10000)
    walked = Tables(two_pages(leaf, table).read, found.roots)
    assert space(walked, found).both == both
    locked = msgspec.structs.replace(found, executes=frozenset(), user_executes=frozenset())
    assert space(walked, locked).both == 0


def test_user_pages_that_the_kernel_executes() -> None:
    found = at(tables=tcr(more=1 << 23), first=0x10000)
    for leaf, lent in ((1 << 6 | 1 << 7, 1), (1 << 6 | 1 << 7 | 1 << 53, 0), (1 << 6, 0)):
        seen = space(Tables(two_pages(leaf, 0).read, found.roots), found)
        assert (seen.lent, seen.user) == (lent, 1)
