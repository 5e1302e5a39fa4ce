"""What the page tables allow, as facts; and what is allowed where there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ringfence.guest.arch.architecture import Words
from ringfence.guest.observation import Look, Placed
from ringfence.guest.paging import PAGE, USER
from ringfence.guest.regions import Run, Space
from ringfence.model.evidence import Evidence, Grade, Seen

GUARDED = 256 << 10
"""Bytes below the stack pointer within which an unmapped page counts as a guard. Larger than the
stacks that kernels give their threads; a stack that runs on for longer runs into its neighbours."""


def paged(spaces: Sequence[Space], looks: Sequence[Look], words: Words) -> dict[str, Any]:
    """What the address spaces allow that were seen: the worst of them, where they differ."""
    roots = {look.registers.space for look in looks if look.registers.roots}
    unread = next((look.registers.unread for look in looks if look.registers.unread), "")
    source, whole = _tables(words), _whole(spaces, unread)

    def most(count: Callable[[Space], int], more: Callable[[Space], str] = _mapped) -> Seen[int]:
        """The count in the address space that has most; of equals, in the largest."""
        worst = max(spaces, key=lambda one: (count(one), one.mapped), default=None)
        if worst is None:
            return Seen(None, _evidence(source, whole))
        return Seen(count(worst), _evidence(source, f"{whole}; {more(worst)}"))

    return {
        "paging": Seen(
            ", ".join(sorted({space.mode for space in spaces})) or None,
            _evidence(words.paging, unread or f"in {len(looks)} samples"),
        ),
        "address_spaces": Seen(
            len(roots), _evidence(words.roots, f"top tables seen in {len(looks)} samples")
        ),
        "writable_executable_pages": most(lambda one: one.both, _both),
        "writable_aliases_of_code": most(lambda one: one.aliases),
        "user_pages": most(lambda one: one.user),
        "ring0_executable_user_pages": most(lambda one: one.lent, _lent),
        "page_zero_mapped": Seen(
            any(space.zero for space in spaces) if spaces else None, _evidence(source, whole)
        ),
    }


def unpaged(memory: int, samples: int, words: Words) -> dict[str, Any]:
    """Without paging nothing is refused: all memory can be read, written and executed."""
    detail = f"paging is off in {samples} samples: all memory, by any code"
    why = _evidence(words.paging, detail)
    return {
        "paging": Seen("off", why),
        "address_spaces": Seen(0, why),
        "writable_executable_pages": Seen(memory // PAGE, why),
        "writable_aliases_of_code": Seen(memory // PAGE, why),
        "user_pages": Seen(0, why),
        "ring0_executable_user_pages": Seen(0, why),
        "page_zero_mapped": Seen(True, why),
        "stack_executable": Seen(True, why),
        "heap_executable": Seen(True, why),
        "stack_guard_page": Seen(False, why),
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
        "heap_executable": _executable([one.place.heap for one in chosen], code, ring, source),
        "stack_guard_page": _guard(chosen, ring, source),
    }


def _tables(words: Words) -> str:
    return f"page tables from {words.roots}"


def _whole(spaces: Sequence[Space], unread: str) -> str:
    """How many address spaces were walked, and whether to the end."""
    if not spaces:
        return f"none could be walked: {unread}" if unread else "none could be walked"
    roots = len({space.root for space in spaces})
    cut = "" if all(space.complete for space in spaces) else ", some tables unread: at least"
    return f"{roots} address {'space' if roots == 1 else 'spaces'} walked{cut}"


def _mapped(space: Space) -> str:
    return f"{space.mapped} pages mapped"


def _lent(space: Space) -> str:
    return f"{space.user} pages are users'"


def _both(space: Space) -> str:
    pages = f"{space.code} of {space.mapped} pages executable, {space.user_both} both for users"
    where = ", ".join(map(_range, space.shown))
    return f"{pages}; first {where}" if where else pages


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


def _guard(places: Sequence[Placed], ring: str, source: str) -> Seen[bool]:
    """By the sample whose stack pointer has most room below; a page that has only not been touched
    yet looks like a guard."""
    rooms = [one.place.room for one in places if one.place.stack is not None]
    if not rooms:
        return Seen(None, _evidence(source, f"{ring}: the stack pointer points to no mapped page"))
    known = [room for room in rooms if room is not None]
    if len(known) < len(rooms):
        return Seen(False, _evidence(source, f"{ring}: no unmapped page below the stack"))
    pages = max(known) // PAGE
    detail = f"{ring}: first unmapped page {pages} pages below that of the stack pointer"
    return Seen(max(known) <= GUARDED, _evidence(source, detail))


def _evidence(source: str, detail: str) -> Evidence:
    return Evidence(Grade.PROBED, source, detail)
