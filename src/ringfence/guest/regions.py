"""What the page tables of one address space say, seen from where its code runs."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator

import msgspec

from ringfence.guest.paging import PAGE, USER, Leaf, Read, Tables
from ringfence.guest.registers import ALL_RIGHTS, USERS, WRITABLE, Registers

MOST_LEAVES = 1 << 16
"""Pages looked at one by one for each question; beyond it the answer is a lower bound."""
MOST_STEPS = 1 << 13
"""Pages by which a region is followed on each side."""
MOST_DATA = 512
"""Regions of data kept of one sample."""
SHOWN = 4
"""Regions named in evidence."""


class Run(msgspec.Struct, frozen=True):
    """Linear addresses `start` to `end` (exclusive), mapped without a hole with equal rights."""

    start: int
    end: int
    rights: int


class Below(enum.StrEnum):
    """What lies directly below a region: nothing, a page with other rights or one to which it was
    not followed, the end of all addresses, or a page of which the tables could not be read."""

    UNMAPPED = "unmapped"
    MAPPED = "mapped"
    ZERO = "address 0"
    UNREAD = "unread"


class Floor(msgspec.Struct, frozen=True):
    """Where the region of a stack ends: `room` bytes of it below the stack pointer's page, and what
    lies below them."""

    room: int
    below: Below


class Place(msgspec.Struct, frozen=True):
    """Where code runs: the regions that hold instruction and stack pointer, and where the stack's
    ends. `data`: the other writable regions of the same kind that begin in memory, in order of
    their addresses: a heap, if there is one, is among them. `cut`: not all that may be were looked
    at, and none is named."""

    code: Run | None
    stack: Run | None
    data: tuple[Run, ...]
    floor: Floor | None
    cut: bool = False

    @property
    def largest(self) -> Run | None:
        """The largest of `data`, the lowest of equals."""
        return max(self.data, key=lambda run: run.end - run.start, default=None)


class Space(msgspec.Struct, frozen=True):
    """One address space at one moment. Counts are in pages of 4 KiB: `user` for ring 3, `code`
    executable, `lent` user pages that ring 0 can execute, `both` writable and executable (`shown`:
    the first regions of them), `aliases` physical pages that are executable under one name and
    writable under another. `complete`: all tables could be read. `tables`: for each of the
    processor's own tables whether its page is writable, None where it is not mapped. `exposed`: how
    many pages of the page tables, and of each of those tables, ring 3 can write by any name. `cut`:
    not all pages were looked at for `shown` (its last region may go on), `aliases_cut` for
    `aliases`, `exposed_cut` for `exposed`.
    """

    root: tuple[int, ...]
    mode: str
    mapped: int
    user: int
    code: int
    lent: int
    both: int
    user_both: int
    shown: tuple[Run, ...]
    zero: bool
    aliases: int
    complete: bool
    tables: tuple[bool | None, ...]
    cut: bool = False
    aliases_cut: bool = False
    exposed: tuple[int, ...] = ()
    exposed_cut: bool = False


class Bounded:
    """The first MOST_LEAVES pages that have one of these rights; `cut` once there are more, or time
    is over."""

    def __init__(self, found: Tables, rights: frozenset[int]) -> None:
        self.cut = False
        self._found = found
        self._rights = rights

    def __iter__(self) -> Iterator[Leaf]:
        for number, leaf in enumerate(self._found.leaves(self._rights)):
            if number == MOST_LEAVES:
                self.cut = True
                return
            yield leaf
        self.cut = self._found.late


def tables(read: Read, registers: Registers, until: float = math.inf) -> Tables | None:
    """The page tables in force, None where paging is off or they cannot be walked. `until`:
    time.monotonic() at which a walk of them ends."""
    return Tables(read, registers.roots, until) if registers.roots else None


def space(found: Tables, registers: Registers) -> Space:
    """All that is asked of one address space."""
    counts = found.counts()
    both = registers.both
    shown, cut = _first(found, both)
    aliased, aliases_cut = aliases(found, registers)
    open_tables, exposed_cut = exposed(found, registers)
    zero = found.translate(0) is not None
    return Space(
        root=registers.space,
        mode=found.mode,
        mapped=sum(counts),
        user=sum(counts[rights] for rights in USERS),
        code=sum(counts[rights] for rights in registers.code),
        lent=sum(counts[rights] for rights in registers.executes & USERS),
        both=sum(counts[rights] for rights in both),
        user_both=sum(counts[rights] for rights in both & USERS),
        shown=shown,
        zero=zero,
        aliases=aliased,
        complete=found.complete,
        tables=tuple(_writable_at(found, address) for address in registers.tables),
        cut=cut,
        aliases_cut=aliases_cut,
        exposed=open_tables,
        exposed_cut=exposed_cut,
    )


def _first(found: Tables, rights: frozenset[int]) -> tuple[tuple[Run, ...], bool]:
    """The first regions of these rights, and whether the last of them may go on."""
    shown: list[Run] = []
    leaves = Bounded(found, rights)
    for run in runs(leaves):
        shown.append(run)
        if len(shown) == SHOWN:
            break
    return tuple(shown), leaves.cut


def _writable_at(found: Tables, address: int) -> bool | None:
    leaf = found.translate(address)
    return None if leaf is None else leaf.rights in WRITABLE


def place(found: Tables, registers: Registers) -> Place:
    """Where this sample's code runs. Data is looked for only beside code and stack."""
    code = around(found, registers.ip)
    stack = around(found, registers.sp)
    user = bool(code and code.rights & USER)
    data, cut = _data(found, user, (code, stack))
    floor = floor_of(found, stack, registers.sp) if stack else None
    return Place(code, stack, data, floor, cut)


def around(found: Tables, address: int) -> Run | None:
    """The region of equal rights that holds an address, followed MOST_STEPS pages at most."""
    middle = found.translate(address)
    if middle is None:
        return None
    start, end = middle.start, middle.start + middle.size
    for _ in range(MOST_STEPS):
        below = found.translate(start - 1) if start else None
        # A leaf that ends or begins elsewhere: the address ran over the edge of its half.
        if below is None or below.start + below.size != start or below.rights != middle.rights:
            break
        start = below.start
    for _ in range(MOST_STEPS):
        above = found.translate(end)
        if above is None or above.start != end or above.rights != middle.rights:
            break
        end = above.start + above.size
    return Run(start, end, middle.rights)


def floor_of(found: Tables, stack: Run, pointer: int) -> Floor:
    """Where the region `stack` ends below a stack pointer in it. What tables say that could not be
    read is not known to be unmapped."""
    room = (pointer & ~(PAGE - 1)) - stack.start
    if stack.start == 0:
        return Floor(room, Below.ZERO)
    if found.translate(stack.start - 1) is not None:
        return Floor(room, Below.MAPPED)
    readable = found.readable(stack.start - 1)
    return Floor(room, Below.UNMAPPED if readable else Below.UNREAD)


def _data(found: Tables, user: bool, known: Iterable[Run | None]) -> tuple[tuple[Run, ...], bool]:
    """The writable regions of the same kind (user's or supervisor's) that begin in memory, not in
    a device, and hold neither code nor stack; none where everything is one region. None, too,
    where not all could be looked at, and that it is so: which is missing is not known.
    """
    kind = USERS if user else ALL_RIGHTS - USERS
    taken = [run for run in known if run is not None]
    leaves = Bounded(found, kind & WRITABLE)
    free = [
        run
        for run in runs(leaves)
        if not any(run.start < other.end and other.start < run.end for other in taken)
    ]
    if found.late or leaves.cut or len(free) > MOST_DATA:
        return (), True
    return tuple(run for run in free if found.backed(run.start)), False


def runs(leaves: Iterable[Leaf]) -> Iterator[Run]:
    """Pages in order of their addresses, joined to regions of equal rights."""
    current: Run | None = None
    for leaf in leaves:
        end = leaf.start + leaf.size
        if current and current.end == leaf.start and current.rights == leaf.rights:
            current = Run(current.start, end, current.rights)
            continue
        if current:
            yield current
        current = Run(leaf.start, end, leaf.rights)
    if current:
        yield current


def aliases(found: Tables, registers: Registers) -> tuple[int, bool]:
    """Physical pages of 4 KiB that are executable under one name and writable under another, and
    whether there are names that were not looked at, so that it is a lower bound.

    The kernel's code by any name, a program's by the program's own: that a kernel can write the
    memory of its programs is no finding. A page that is both under one name counts as well. At
    most MOST_LEAVES names of each kind.
    """
    code = registers.code
    names = [
        Bounded(found, rights)
        for rights in (code & USERS, WRITABLE & USERS, code - USERS, WRITABLE)
    ]
    user_code, user_data, kernel_code, data = (_stretches(map(_frame, one)) for one in names)
    pages = _overlap(user_code, user_data) + _overlap(kernel_code, data)
    return pages, any(one.cut for one in names)


def exposed(found: Tables, registers: Registers) -> tuple[tuple[int, ...], bool]:
    """Pages of 4 KiB that ring 3 can write, by whatever name: of the page tables that were read,
    and of each of the processor's own tables; and whether there are names that were not looked at.
    """
    names = Bounded(found, WRITABLE & USERS)
    data = _stretches(map(_frame, names))
    own = zip(registers.tables, registers.lengths, strict=True)
    tables = [found.frames(), *(_held(found, base, length) for base, length in own)]
    return tuple(_overlap(_stretches(one), data) for one in tables), names.cut


def _held(found: Tables, base: int, length: int) -> Iterator[tuple[int, int]]:
    """The physical pages in which a linear stretch lies, as far as it is mapped."""
    for address in range(base & -PAGE, base + length, PAGE):
        leaf = found.translate(address)
        if leaf is not None:
            at = leaf.physical + address - leaf.start
            yield at, at + PAGE


def _overlap(code: list[tuple[int, int]], data: list[tuple[int, int]]) -> int:
    """Pages of 4 KiB that two ordered lists of stretches have in common."""
    pages, at = 0, 0
    for start, end in code:
        while at < len(data) and data[at][1] <= start:
            at += 1
        step = at
        while step < len(data) and data[step][0] < end:
            pages += (min(end, data[step][1]) - max(start, data[step][0])) // PAGE
            step += 1
    return pages


def _frame(leaf: Leaf) -> tuple[int, int]:
    return leaf.physical, leaf.physical + leaf.size


def _stretches(frames: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Physical stretches in whole pages: in order, without overlap."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted((start & -PAGE, -(-end // PAGE) * PAGE) for start, end in frames):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
