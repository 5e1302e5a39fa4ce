"""Where code, stack and heap lay in each boot, and how many bits of randomness that proves.

No register points to a heap, and the largest region of data may be a program's own, which lies
still beside a heap that moves. So nothing is said of a heap but what holds of every region that may
be one: they lie where they lay in every boot, or none of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ringfence.guest.arch.architecture import Words
from ringfence.guest.layout import bits
from ringfence.guest.observation import Observation
from ringfence.guest.regions import Place
from ringfence.guest.result import Bits
from ringfence.model.evidence import Evidence, Grade, Seen

USER_STEP = 2 << 20
Point = Callable[[Place], int | None]


def randomness(boots: Sequence[Observation], words: Words) -> Seen[Bits]:
    """A lower bound for each area; nothing from fewer than two boots."""
    found = Bits(
        code=_bits(boots, 0, _code),
        stack=_bits(boots, 0, _stack),
        heap=_heap(boots, 0),
        user_code=_bits(boots, 3, _user_code),
        user_stack=_bits(boots, 3, _stack),
        user_heap=_heap(boots, 3, USER_STEP),
    )
    seen = Bits() != found
    detail = f"{len(boots)} boots: at least, log2 of the different positions that were seen"
    source = f"page tables around {words.pointers}"
    return Seen(found if seen else None, Evidence(Grade.PROBED, source, detail))


def _bits(boots: Sequence[Observation], ring: int, point: Point) -> float | None:
    return bits([_values(boot, ring, point) for boot in boots])


def _values(boot: Observation, ring: int, point: Point) -> list[int]:
    """What one boot showed."""
    return [value for one in _chosen(boot, ring) if (value := point(one)) is not None]


def _chosen(boot: Observation, ring: int) -> list[Place]:
    """In ring 0 the waiting thread, if the guest waits: it is the same one in every boot, while the
    others come and go."""
    mine = [one for one in boot.places if one.ring == ring]
    waiting = [one for one in mine if one.halted]
    return [one.place for one in waiting or mine]


def _heap(boots: Sequence[Observation], ring: int, step: int = 1) -> float | None:
    """Of whichever region is the heap. 0 where all regions of data lay at the same addresses in a
    sample of every boot. More only where boots share none of them, in steps of `step`: regions seem
    to begin elsewhere, too, as pages are touched. None where some lie still and others move, or not
    all were seen."""
    samples = [_chosen(boot, ring) for boot in boots]
    if any(place.cut or not place.data for places in samples for place in places):
        return None
    layouts = [[tuple(run.start for run in place.data) for place in places] for places in samples]
    if bits(layouts) == 0:
        return 0.0
    starts = [[start // step for layout in boot for start in layout] for boot in layouts]
    return bits(starts) or None


def _code(place: Place) -> int | None:
    return place.code.start if place.code else None


def _user_code(place: Place) -> int | None:
    """In steps of 2 MiB: a program's pages are mapped as they are touched, so that what is seen of
    its code begins at another page in each boot, randomised or not."""
    return place.code.start & -USER_STEP if place.code else None


def _stack(place: Place) -> int | None:
    """The top of the stack's region: it grows downwards as pages are touched."""
    return place.stack.end if place.stack else None
