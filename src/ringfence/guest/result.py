"""The result of an examination. The names are the interface (docs/guest.md): programs read them."""

from __future__ import annotations

import msgspec

from ringfence.guest.devices import Device
from ringfence.model.evidence import Seen, Unseen

SCHEMA = 1
"""Version of the JSON; a field that is added leaves it as it is."""


class Table(msgspec.Struct, frozen=True):
    """Where a descriptor table lies: linear address in hexadecimal; whether its page is marked
    writable, None where paging is off or the page is not mapped in the address spaces seen."""

    base: str
    writable: bool | None


class Bits(msgspec.Struct, frozen=True):
    """At least so many random bits of an address. The first three are of ring 0 (a kernel, or a
    unikernel with its application), the others of programs in ring 3; None: not seen."""

    code: float | None = None
    stack: float | None = None
    heap: float | None = None
    user_code: float | None = None
    user_stack: float | None = None
    user_heap: float | None = None


class GuestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen from outside. Shares are of samples in which code ran, counts of 4 KiB pages
    in the address space that has most of them. What the architecture does not have is None."""

    ring3_share: Seen[float]
    ring0_share: Seen[float]
    ring3_share_before: Seen[float]
    halted_share: Seen[float]
    wp: Seen[bool]
    nx: Seen[bool]
    smep: Seen[bool]
    smap: Seen[bool]
    umip: Seen[bool]
    ring3_ports: Seen[bool]
    pan: Seen[bool]
    wxn: Seen[bool]
    paging: Seen[str]
    idt: Seen[Table]
    gdt: Seen[Table]
    vectors: Seen[Table]
    address_spaces: Seen[int]
    tables_complete: Seen[bool]
    writable_executable_pages: Seen[int]
    writable_aliases_of_code: Seen[int]
    user_pages: Seen[int]
    user_writable_tables: Seen[int]
    ring0_executable_user_pages: Seen[int]
    page_zero_mapped: Seen[bool]
    stack_executable: Seen[bool]
    heap_executable: Seen[bool]
    stack_guard_page: Seen[bool]
    randomised_bits: Seen[Bits]
    devices: Seen[tuple[Device, ...]]
    devices_given: Seen[tuple[str, ...]]


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """One image, booted `boots` times. `architecture`: as uname(2) has it. `kernel`:
    recognised system and version, or `unknown kernel`. `kind`: how it was started. `ends`: why
    boots stopped by themselves, if they did."""

    schema: int
    image: str
    architecture: str
    kernel: str
    kind: str
    accelerator: str
    cpu: str
    memory: int
    boots: int
    ends: tuple[str, ...]
    facts: GuestFacts
    unseen: tuple[Unseen, ...] = ()
