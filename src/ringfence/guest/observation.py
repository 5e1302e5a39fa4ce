"""What one boot showed: the records that sampling fills and the facts are made of."""

from __future__ import annotations

import enum

import msgspec

from ringfence.guest.devices import Device
from ringfence.guest.regions import Place, Space
from ringfence.guest.registers import Registers


class Phase(enum.StrEnum):
    """When a sample was taken: as the guest starts, once it has settled, while it is driven."""

    BOOTING = "booting"
    BEFORE = "before"
    LOAD = "load"


class Look(msgspec.Struct, frozen=True):
    """One sample: `at` seconds after the start; `said`, bytes that the guest had sent on its
    serial line."""

    phase: Phase
    at: float
    registers: Registers
    said: int = 0


class Walked(msgspec.Struct, frozen=True):
    """An address space of one sample."""

    phase: Phase
    space: Space


class Placed(msgspec.Struct, frozen=True):
    """Where the code of one sample runs."""

    phase: Phase
    ring: int
    halted: bool
    place: Place


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One boot. `steady`: seconds until the guest had settled, None if it never did. `end`: why it
    stopped by itself, empty when we ended it. `exercise`: exit status of the last exercise, None
    without one or where it had to be killed. `flooded`: not all accesses to devices were counted.
    """

    looks: tuple[Look, ...]
    spaces: tuple[Walked, ...]
    places: tuple[Placed, ...]
    devices: tuple[Device, ...]
    given: tuple[str, ...]
    steady: float | None
    end: str
    exercise: int | None
    flooded: bool

    def during(self, phase: Phase) -> tuple[Look, ...]:
        """The samples of one phase."""
        return tuple(look for look in self.looks if look.phase is phase)

    @property
    def serving(self) -> Phase:
        """The phase that shows the guest at work: under load; idle, where it was not driven."""
        return Phase.LOAD if self.during(Phase.LOAD) else Phase.BEFORE
