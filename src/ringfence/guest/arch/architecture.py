"""What the examination asks of an architecture."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from ringfence.guest.monitor import Monitor
from ringfence.guest.registers import Registers


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What evidence calls things: where the ring stands, what shows that the processor waits, the
    registers that say how paging works, the pointers to the top tables, those to code and stack."""

    ring: str
    halted: str
    paging: str
    roots: str
    pointers: str


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """One architecture. `name` as uname(2) has it. `program`, `package`: its QEMU, and Debian's
    package of it. `machine`: QEMU's words for the board. `cpu`: the model unless another is asked
    for. `kvm`: whether KVM is tried. `debugger`: whether `look` needs QEMU's debugging interface.

    `look`: the state of a processor that stands still; raises Ended. `switches`: facts that are one
    bit each, and where it stands. `lifted`: the one of them that keeps ring 0 from users' data, and
    what suspends it. `tables`: facts that are places of the processor's own tables.
    `absent`: facts that this architecture does not have, and why.
    """

    name: str
    program: str
    package: str
    machine: tuple[str, ...]
    cpu: str
    kvm: bool
    debugger: bool
    look: Callable[[Monitor], Awaitable[Registers]]
    switches: Mapping[str, str]
    lifted: tuple[str, str]
    tables: tuple[str, ...]
    absent: Mapping[str, str]
    words: Words
