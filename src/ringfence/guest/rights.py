"""What the page tables allow, as facts; and what is allowed where there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ringfence.guest.observation import Look, Placed
from ringfence.guest.paging import NO_EXECUTE, PAGE, USER
from ringfence.guest.regions import Run, Space
from ringfence.model.evidence import Evidence, Grade, Seen

GUARDED = 256 << 10
"""Bytes below the stack pointer within which an unmapped page counts as a guard. Larger than the
stacks that kernels give their threads; a stack that runs on for longer runs into its neighbours."""
TABLES = "page tables from CR3"


def paged(spaces: Sequence[Space], looks: Sequence[Look]) -> dict[str, Any]:
    """What the address spaces allow that were seen: the worst of them, where they differ."""
    roots = {look.registers.root for look in looks if look.registers.paged}
    return {
        "paging": Seen(
            ", ".join(sorted({space.mode for space in spaces})) or None,
            _evidence("CR0.PG, CR4, EFER", f"in {len(looks)} samples"),
        ),
        "address_spaces": Seen(
            len(roots), _evidence("CR3", f"top tables seen in {len(looks)} samples")
        ),
        "writable_executable_pages": _most(spaces, lambda one: one.both, _both),
        "writable_aliases_of_code": _most(spaces, lambda one: one.aliases, _mapped),
        "user_pages": _most(spaces, lambda one: one.user, _mapped),
        "page_zero_mapped": Seen(
            any(space.zero for space in spaces) if spaces else None,
            _evidence(TABLES, _whole(spaces)),
        ),
    }


def unpaged(memory: int, samples: int) -> dict[str, Any]:
    """Without paging nothing is refused: all memory can be read, written and executed."""
    why = _evidence("CR0.PG", f"paging is off in {samples} samples: all memory, by any code")
    return {
        "paging": Seen("off", why),
        "address_spaces": Seen(0, why),
        "writable_executable_pages": Seen(memory // PAGE, why),
        "writable_aliases_of_code": Seen(memory // PAGE, why),
        "user_pages": Seen(0, why),
        "page_zero_mapped": Seen(True, why),
        "stack_executable": Seen(True, why),
        "heap_executable": Seen(True, why),
        "stack_guard_page": Seen(False, why),
    }


def regions(places: Sequence[Placed], looks: Sequence[Look]) -> dict[str, Any]:
    """Stack, heap and guard of the application: of ring 3 where anything runs there, else of
    ring 0."""
    user = [one for one in places if one.cpl == 3]
    chosen = user or [one for one in places if not one.halted] or list(places)
    no_execute = all(look.registers.no_execute for look in looks)
    ring = f"of ring {3 if user else 0}"
    return {
        "stack_executable": _executable([one.place.stack for one in chosen], no_execute, ring),
        "heap_executable": _executable([one.place.heap for one in chosen], no_execute, ring),
        "stack_guard_page": _guard(chosen, ring),
    }


def _most(
    spaces: Sequence[Space], count: Callable[[Space], int], more: Callable[[Space], str]
) -> Seen[int]:
    """The count in the address space that has most."""
    worst = max(spaces, key=count, default=None)
    if worst is None:
        return Seen(None, _evidence(TABLES, _whole(spaces)))
    return Seen(count(worst), _evidence(TABLES, f"{_whole(spaces)}; {more(worst)}"))


def _whole(spaces: Sequence[Space]) -> str:
    """How many address spaces were walked, and whether to the end."""
    if not spaces:
        return "none could be walked"
    roots = len({space.root for space in spaces})
    cut = "" if all(space.complete for space in spaces) else ", some tables unread: at least"
    return f"{roots} address {'space' if roots == 1 else 'spaces'} walked{cut}"


def _mapped(space: Space) -> str:
    return f"{space.mapped} pages mapped"


def _both(space: Space) -> str:
    pages = f"{space.code} of {space.mapped} pages executable, {space.user_both} both for users"
    where = ", ".join(map(_range, space.shown))
    return f"{pages}; first {where}" if where else pages


def _range(run: Run) -> str:
    who = "user" if run.rights & USER else "supervisor"
    return f"{run.start:#x}-{run.end:#x} ({who})"


def _executable(found: Sequence[Run | None], no_execute: bool, ring: str) -> Seen[bool]:
    runs = [run for run in found if run is not None]
    if not runs:
        return Seen(None, _evidence(TABLES, f"{ring}: no region of its own could be told apart"))
    bad = [run for run in runs if not (run.rights & NO_EXECUTE and no_execute)]
    detail = f"{ring}: {_range((bad or runs)[0])}, executable in {len(bad)} of {len(runs)} samples"
    return Seen(bool(bad), _evidence(TABLES, detail))


def _guard(places: Sequence[Placed], ring: str) -> Seen[bool]:
    """By the sample whose stack pointer has most room below; a page that has only not been touched
    yet looks like a guard."""
    rooms = [one.place.room for one in places if one.place.stack is not None]
    if not rooms:
        return Seen(None, _evidence(TABLES, f"{ring}: the stack pointer points to no mapped page"))
    known = [room for room in rooms if room is not None]
    if len(known) < len(rooms):
        return Seen(False, _evidence(TABLES, f"{ring}: no unmapped page below the stack"))
    pages = max(known) // PAGE
    detail = f"{ring}: first unmapped page {pages} pages below that of the stack pointer"
    return Seen(max(known) <= GUARDED, _evidence(TABLES, detail))


def _evidence(source: str, detail: str) -> Evidence:
    return Evidence(Grade.PROBED, source, detail)
