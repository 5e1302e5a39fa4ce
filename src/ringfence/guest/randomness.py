"""Where code, stack and heap lay in each boot, and how many bits of that came out differently."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ringfence.guest.arch.architecture import Words
from ringfence.guest.layout import bits
from ringfence.guest.observation import Observation, Placed
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
        heap=_bits(boots, 0, _heap),
        user_code=_bits(boots, 3, _user_code),
        user_stack=_bits(boots, 3, _stack),
        user_heap=_bits(boots, 3, _heap),
    )
    seen = Bits() != found
    detail = f"{len(boots)} boots: at least, if all positions between are equally likely"
    source = f"page tables around {words.pointers}"
    return Seen(found if seen else None, Evidence(Grade.PROBED, source, detail))


def _bits(boots: Sequence[Observation], ring: int, point: Point) -> float | None:
    return bits([_values(boot, ring, point) for boot in boots])


def _values(boot: Observation, ring: int, point: Point) -> list[int]:
    """What one boot showed. In ring 0 the waiting thread, if the guest waits: it is the same one
    in every boot, while the others come and go."""
    mine = [one for one in boot.places if one.ring == ring]
    waiting = [one for one in mine if one.halted]
    return [value for one in _chosen(waiting or mine) if (value := point(one)) is not None]


def _chosen(placed: Sequence[Placed]) -> list[Place]:
    return [one.place for one in placed]


def _code(place: Place) -> int | None:
    return place.code.start if place.code else None


def _user_code(place: Place) -> int | None:
    """In steps of 2 MiB: a program's pages are mapped as they are touched, so that what is seen of
    its code begins at another page in each boot, randomised or not."""
    return place.code.start & -USER_STEP if place.code else None


def _stack(place: Place) -> int | None:
    """The top of the stack's region: it grows downwards as pages are touched."""
    return place.stack.end if place.stack else None


def _heap(place: Place) -> int | None:
    return place.heap.start if place.heap else None
