"""A guest that was booted and looked at from outside, as far as the measure asks for it.

The names are those of `ringfence guest --format json` (docs/guest.md), which says more.
"""

from __future__ import annotations

import msgspec

from ringfence.model.evidence import Evidence, Grade, Seen, Unseen

_NOT_THERE = Evidence(Grade.ASSUMED, "an older examination", "does not tell")
UNTOLD: Seen[bool] = Seen(None, _NOT_THERE)
UNTOLD_COUNT: Seen[int] = Seen(None, _NOT_THERE)
"""Of facts that earlier versions of `ringfence guest` did not write."""


class Driven(msgspec.Struct, frozen=True):
    """A device that the guest touched: accesses since it had settled, and whether a virtio driver
    says that it serves the device (None for what is not virtio)."""

    name: str
    serving: int
    driver_ok: bool | None = None


class Randomised(msgspec.Struct, frozen=True):
    """At least so many random bits: of ring 0, and of programs in ring 3. None: not seen."""

    code: float | None = None
    stack: float | None = None
    heap: float | None = None
    user_code: float | None = None
    user_stack: float | None = None
    user_heap: float | None = None


class GuestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of the running guest. Shares are of samples in which code ran."""

    ring3_share: Seen[float]
    ring0_share: Seen[float]
    wp: Seen[bool]
    smep: Seen[bool]
    smap: Seen[bool]
    umip: Seen[bool]
    writable_executable_pages: Seen[int]
    page_zero_mapped: Seen[bool]
    stack_executable: Seen[bool]
    stack_guard_page: Seen[bool]
    randomised_bits: Seen[Randomised]
    devices: Seen[tuple[Driven, ...]]
    pan: Seen[bool] = UNTOLD
    ring3_ports: Seen[bool] = UNTOLD
    writable_aliases_of_code: Seen[int] = UNTOLD_COUNT
    user_pages: Seen[int] = UNTOLD_COUNT
    user_writable_tables: Seen[int] = UNTOLD_COUNT
    ring0_executable_user_pages: Seen[int] = UNTOLD_COUNT
    tables_complete: Seen[bool] = UNTOLD


class ExaminedGuest(msgspec.Struct, frozen=True, kw_only=True):
    """One examination. `name`: where it was read from; `image`: what was booted, as it was named
    then; `kernel`: recognised system and version, or `unknown kernel`; `kind`: how it started.
    `architecture`: as uname(2) has it; earlier versions knew x86 alone."""

    name: str
    image: str
    kernel: str
    kind: str
    accelerator: str
    cpu: str
    boots: int
    facts: GuestFacts
    architecture: str = "x86_64"
    unseen: tuple[Unseen, ...] = ()
