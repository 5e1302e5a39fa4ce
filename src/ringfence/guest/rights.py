"""What the page tables allow, as facts; and what is allowed where there are none."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ringfence.guest.arch.architecture import Architecture, Words
from ringfence.guest.observation import Look, Placed
from ringfence.guest.paging import PAGE, USER
from ringfence.guest.regions import Below, Floor, Run, Space
from ringfence.model.evidence import Evidence, Grade, Seen

GUARDED = 256 << 10
"""Bytes below the stack pointer beyond which an unmapped page is no guard. Larger than the stacks
that kernels give their threads; a stack that runs on for longer runs into its neighbours."""
_NOTHING = "that none was found says nothing"


def _mapped(space: Space) -> str:
    return f"{space.mapped} pages mapped"


def paged(spaces: Sequence[Space], looks: Sequence[Look], arch: Architecture) -> dict[str, Any]:
    """What the address spaces allow that were seen: the worst of them, and of their moments, where
    they differ. None of something is told only where everything was looked at."""
    roots = {look.registers.space for look in looks if look.registers.roots}
    gaps, words = _gaps(spaces, looks), arch.words
    source, whole = _tables(words), _whole(spaces, gaps)
    most = functools.partial(_most, spaces, gaps, source)
    return {
        "paging": Seen(
            ", ".join(sorted({space.mode for space in spaces})) or None,
            _evidence(words.paging, _unread(looks) or f"in {len(looks)} samples"),
        ),
        "address_spaces": Seen(
            len(roots), _evidence(words.roots, f"top tables seen in {len(looks)} samples")
        ),
        "tables_complete": Seen(not gaps if spaces else None, _evidence(source, whole)),
        "writable_executable_pages": most(lambda one: one.both, _both),
        "writable_aliases_of_code": most(lambda one: one.aliases, cut=lambda one: one.aliases_cut),
        "user_pages": most(lambda one: one.user),
        "user_writable_tables": most(
            lambda one: sum(one.exposed),
            lambda one: _exposed(one, arch),
            cut=lambda one: one.exposed_cut,
        ),
        "ring0_executable_user_pages": most(lambda one: one.lent, _lent),
        "page_zero_mapped": _zero(spaces, bool(gaps), source, whole),
    }


def _most(
    spaces: Sequence[Space],
    gaps: str,
    source: str,
    count: Callable[[Space], int],
    more: Callable[[Space], str] = _mapped,
    cut: Callable[[Space], bool] = lambda _: False,
) -> Seen[int]:
    """The count in the address space that has most; of equals, in the largest. `gaps`: what was not
    walked. `cut`: whether the count of one is a lower bound though its tables could all be read."""
    worst = max(spaces, key=lambda one: (count(one), one.mapped), default=None)
    if worst is None:
        return Seen(None, _evidence(source, _whole(spaces, gaps)))
    short = "some pages not looked at" if any(map(cut, spaces)) else ""
    less = ", ".join(filter(None, (gaps, short)))
    text = f"{_whole(spaces, less)}; {more(worst)}"
    if less and count(worst) == 0:
        return Seen(None, _evidence(source, f"{text}; {_NOTHING}"))
    hits = sum(count(one) > 0 for one in spaces)
    often = f"; in {hits} of {len(spaces)} walks" if hits else ""
    return Seen(count(worst), _evidence(source, text + often))


def _zero(spaces: Sequence[Space], gaps: bool, source: str, whole: str) -> Seen[bool]:
    mapped = sum(space.zero for space in spaces)
    if not spaces:
        return Seen(None, _evidence(source, whole))
    if gaps and not mapped:
        return Seen(None, _evidence(source, f"{whole}; {_NOTHING}"))
    often = f"; in {mapped} of {len(spaces)} walks" if mapped else ""
    return Seen(mapped > 0, _evidence(source, whole + often))


def unpaged(
    memory: int, looks: Sequence[Look], spaces: Sequence[Space], words: Words
) -> dict[str, Any]:
    """Where any sample shows paging off nothing is refused: all memory can be read, written and
    executed then. Counts of what page tables alone can give stay those of the other samples."""
    off = sum(not look.registers.paged for look in looks)
    detail = f"paging is off in {off} of {len(looks)} samples: all memory, by any code"
    why = _evidence(words.paging, detail)
    tabled = {
        "address_spaces": Seen(0, why),
        "tables_complete": Seen(None, why),
        "user_pages": Seen(0, why),
        "ring0_executable_user_pages": Seen(0, why),
    }
    modes = sorted({space.mode for space in spaces})
    bare = any(look.registers.ring == 3 and not look.registers.paged for look in looks)
    return {
        "paging": Seen(", ".join(["off", *modes]), why),
        "writable_executable_pages": Seen(memory // PAGE, why),
        "writable_aliases_of_code": Seen(memory // PAGE, why),
        "page_zero_mapped": Seen(True, why),
        "stack_executable": Seen(True, why),
        "heap_executable": Seen(True, why),
        "stack_guard_page": Seen(False, why),
        **({"user_writable_tables": Seen(memory // PAGE, why)} if bare else {}),
        **(tabled if off == len(looks) else {}),
    }


def regions(places: Sequence[Placed], looks: Sequence[Look], words: Words) -> dict[str, Any]:
    """Stack, heap and guard of the application: of ring 3 where anything runs there, else of
    ring 0."""
    user = [one for one in places if one.ring == 3]
    chosen = user or [one for one in places if not one.halted] or list(places)
    code = frozenset[int]().union(*(look.registers.code for look in looks))
    ring, source = f"of ring {3 if user else 0}", _tables(words)
    return {
        "stack_executable": _executable([one.place.stack for one in chosen], code, ring, source),
        "heap_executable": _heap(chosen, code, ring, source),
        "stack_guard_page": _guard(chosen, ring, source),
    }


def _tables(words: Words) -> str:
    return f"page tables from {words.roots}"


def _unread(looks: Sequence[Look]) -> str:
    """Why page tables that are in force could not be walked; empty where there were none such."""
    return next((look.registers.unread for look in looks if look.registers.unread), "")


def _gaps(spaces: Sequence[Space], looks: Sequence[Look]) -> str:
    """What of the page tables in force was not walked; empty where all was."""
    found = []
    seen = {look.registers.space for look in looks if look.registers.roots}
    if missing := len(seen - {space.root for space in spaces}):
        found.append(f"{missing} of {len(seen)} seen not walked")
    if not all(space.complete for space in spaces):
        found.append("some tables unread")
    if unread := _unread(looks):
        found.append(unread)
    return ", ".join(found)


def _whole(spaces: Sequence[Space], gaps: str) -> str:
    """How many address spaces were walked, and whether all and to the end."""
    if not spaces:
        return f"none could be walked: {gaps}" if gaps else "none could be walked"
    roots = len({space.root for space in spaces})
    walked = f"{roots} address {'space' if roots == 1 else 'spaces'} walked"
    return f"{walked}, {gaps}: at least" if gaps else walked


def _exposed(space: Space, arch: Architecture) -> str:
    names = ("page tables", *arch.tables)
    found = [
        f"{count} of {name}" for name, count in zip(names, space.exposed, strict=False) if count
    ]
    return ", ".join(found) or _mapped(space)


def _lent(space: Space) -> str:
    return f"{space.user} pages are users'"


def _both(space: Space) -> str:
    pages = f"{space.code} of {space.mapped} pages executable, {space.user_both} both for users"
    where = ", ".join(map(_range, space.shown))
    more = " or beyond" if space.cut else ""
    return f"{pages}; first {where}{more}" if where else pages


def _range(run: Run) -> str:
    who = "user" if run.rights & USER else "supervisor"
    return f"{run.start:#x}-{run.end:#x} ({who})"


def _executable(
    found: Sequence[Run | None], code: frozenset[int], ring: str, source: str
) -> Seen[bool]:
    runs = [run for run in found if run is not None]
    if not runs:
        return Seen(None, _evidence(source, f"{ring}: no region of its own could be told apart"))
    bad = [run for run in runs if run.rights in code]
    detail = f"{ring}: {_range((bad or runs)[0])}, executable in {len(bad)} of {len(runs)} samples"
    return Seen(bool(bad), _evidence(source, detail))


def _heap(places: Sequence[Placed], code: frozenset[int], ring: str, source: str) -> Seen[bool]:
    """As `_executable`, of the largest region of data; which that is is not known where the search
    was cut."""
    seen = _executable([one.place.largest for one in places], code, ring, source)
    cut = sum(one.place.cut for one in places)
    if not cut or seen.value:
        return seen
    return Seen(None, _evidence(source, f"{ring}: the search was cut in {cut} samples"))


def _guard(places: Sequence[Placed], ring: str, source: str) -> Seen[bool]:
    """By the worst sample. Pages between the stack pointer's and an unmapped one may be the stack's
    or other data, which an overflow would reach first: page tables do not tell, so that neither is
    claimed. A page that has only not been touched yet looks like a guard."""
    floors = [one.place.floor for one in places if one.place.floor is not None]
    if not floors:
        return Seen(None, _evidence(source, f"{ring}: the stack pointer points to no mapped page"))
    bad = [floor for floor in floors if _unguarded(floor)]
    worst = max(bad or floors, key=lambda floor: (floor.below is Below.UNREAD, floor.room))
    pages = worst.room // PAGE
    detail = f"{ring}: {_BELOW[worst.below]} {pages + 1} pages below that of the stack pointer"
    if bad:
        return Seen(False, _evidence(source, detail))
    if worst.below is Below.UNMAPPED and worst.room == 0:
        detail = f"{ring}: the page below that of the stack pointer is unmapped in every sample"
        return Seen(True, _evidence(source, detail))
    why = "whether all between is stack cannot be told"
    return Seen(None, _evidence(source, f"{detail}; {why}"))


_BELOW = {
    Below.UNMAPPED: "first unmapped page",
    Below.MAPPED: "other memory, mapped,",
    Below.ZERO: "all is mapped down to address 0,",
    Below.UNREAD: "page tables that could not be read",
}


def _unguarded(floor: Floor) -> bool:
    """Whether no page that could be the stack's guard is unmapped."""
    if floor.below is Below.UNMAPPED:
        return floor.room > GUARDED
    return floor.below is not Below.UNREAD


def _evidence(source: str, detail: str) -> Evidence:
    return Evidence(Grade.PROBED, source, detail)
