"""What the page tables of one address space say, seen from where its code runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from ringfence.guest.paging import PAGE, USER, Leaf, Read, Tables
from ringfence.guest.registers import ALL_RIGHTS, USERS, WRITABLE, Registers

MOST_LEAVES = 1 << 16
"""Pages looked at one by one for each question; beyond it the answer is a lower bound."""
MOST_STEPS = 1 << 13
"""Pages by which a region is followed on each side."""
SHOWN = 4
"""Regions named in evidence."""


class Run(msgspec.Struct, frozen=True):
    """Linear addresses `start` to `end` (exclusive), mapped without a hole with equal rights."""

    start: int
    end: int
    rights: int


class Place(msgspec.Struct, frozen=True):
    """Where code runs: the regions that hold instruction and stack pointer, and the largest other
    writable one of the same kind (heap or data). `room`: mapped bytes between the stack pointer's
    page and the first unmapped page below, None where there is none within MOST_STEPS pages."""

    code: Run | None
    stack: Run | None
    heap: Run | None
    room: int | None


class Space(msgspec.Struct, frozen=True):
    """One address space at one moment. Counts are in pages of 4 KiB: `user` for ring 3, `code`
    executable, `lent` user pages that ring 0 can execute, `both` writable and executable (`shown`:
    the first regions of them), `aliases` physical pages that are executable under one name and
    writable under another. `complete`: all tables could be read. `tables`: for each of the
    processor's own tables whether its page is writable, None where it is not mapped."""

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


def tables(read: Read, registers: Registers) -> Tables | None:
    """The page tables in force, None where paging is off or they cannot be walked."""
    return Tables(read, registers.roots) if registers.roots else None


def space(found: Tables, registers: Registers) -> Space:
    """All that is asked of one address space."""
    counts = found.counts()
    both = registers.both
    return Space(
        root=registers.space,
        mode=found.mode,
        mapped=sum(counts),
        user=sum(counts[rights] for rights in USERS),
        code=sum(counts[rights] for rights in registers.code),
        lent=sum(counts[rights] for rights in registers.executes & USERS),
        both=sum(counts[rights] for rights in both),
        user_both=sum(counts[rights] for rights in both & USERS),
        shown=tuple(itertools.islice(runs(found.leaves(both)), SHOWN)),
        zero=found.translate(0) is not None,
        aliases=aliases(found, registers),
        complete=found.complete,
        tables=tuple(_writable_at(found, address) for address in registers.tables),
    )


def _writable_at(found: Tables, address: int) -> bool | None:
    leaf = found.translate(address)
    return None if leaf is None else leaf.rights in WRITABLE


def place(found: Tables, registers: Registers) -> Place:
    """Where this sample's code runs. The heap is looked for only beside code and stack."""
    code = around(found, registers.ip)
    stack = around(found, registers.sp)
    user = bool(code and code.rights & USER)
    return Place(code, stack, _heap(found, user, (code, stack)), room(found, registers))


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


def room(found: Tables, registers: Registers) -> int | None:
    """Mapped bytes below the stack pointer's page, down to the first unmapped page."""
    top = registers.sp & ~(PAGE - 1)
    at = top
    for _ in range(MOST_STEPS):
        if at == 0:
            return top
        leaf = found.translate(at - 1)
        if leaf is None or leaf.start + leaf.size < at:
            return top - at
        at = leaf.start
    return None


def _heap(found: Tables, user: bool, known: Iterable[Run | None]) -> Run | None:
    """The largest writable region of the same kind (user's or supervisor's) that begins in memory,
    not in a device, and holds neither code nor stack; None where everything is one region."""
    kind = USERS if user else ALL_RIGHTS - USERS
    taken = [run for run in known if run is not None]
    leaves = itertools.islice(found.leaves(kind & WRITABLE), MOST_LEAVES)
    free = [
        run
        for run in runs(leaves)
        if not any(run.start < other.end and other.start < run.end for other in taken)
    ]
    free.sort(key=lambda run: run.start - run.end)
    return next((run for run in free if found.backed(run.start)), None)


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


def aliases(found: Tables, registers: Registers) -> int:
    """Physical pages of 4 KiB that are executable under one name and writable under another.

    The kernel's code by any name, a program's by the program's own: that a kernel can write the
    memory of its programs is no finding. A page that is both under one name counts as well. At
    most MOST_LEAVES names of each kind.
    """
    code = registers.code
    user = _overlap(_frames(found, code & USERS), _frames(found, WRITABLE & USERS))
    return user + _overlap(_frames(found, code - USERS), _frames(found, WRITABLE))


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


def _frames(found: Tables, rights: frozenset[int]) -> list[tuple[int, int]]:
    """Physical stretches that have these rights under some name: in order, without overlap."""
    leaves = itertools.islice(found.leaves(rights), MOST_LEAVES)
    joined: list[tuple[int, int]] = []
    for start, end in sorted((leaf.physical, leaf.physical + leaf.size) for leaf in leaves):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
