"""The examination as text for people. JSON is the records themselves."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from ringfence.guest.arch.known import ARCHITECTURES
from ringfence.guest.devices import Device
from ringfence.guest.result import Bits, Examination, Table
from ringfence.model.evidence import Seen
from ringfence.report.look import Look

_MOST_DEVICES = 12
_TITLES = {
    "ring3_share": "code in ring 3",
    "ring0_share": "code in ring 0",
    "ring3_share_before": "code in ring 3, left to itself",
    "halted_share": "samples halted",
    "wp": "CR0.WP",
    "nx": "EFER.NXE",
    "smep": "CR4.SMEP",
    "smap": "CR4.SMAP",
    "umip": "CR4.UMIP",
    "ring3_ports": "ports open to ring 3",
    "pan": "PAN",
    "wxn": "SCTLR.WXN",
    "paging": "paging",
    "idt": "interrupt descriptors",
    "gdt": "global descriptors",
    "vectors": "exception vectors",
    "address_spaces": "address spaces seen",
    "tables_complete": "page tables walked whole",
    "writable_executable_pages": "writable and executable pages",
    "writable_aliases_of_code": "code pages with a writable name",
    "user_pages": "user pages",
    "user_writable_tables": "tables that ring 3 can write",
    "ring0_executable_user_pages": "user pages that ring 0 executes",
    "page_zero_mapped": "page zero mapped",
    "stack_executable": "stack executable",
    "heap_executable": "heap executable",
    "stack_guard_page": "guard page below the stack",
    "randomised_bits": "randomised bits, at least",
    "devices": "devices touched while serving",
    "devices_given": "devices given",
}


def report(found: Examination, look: Look) -> str:
    """The heading, a table of facts with their evidence, and what was not seen; without what the
    architecture does not have."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=look.width,
        force_terminal=look.colour,
        no_color=not look.colour,
        highlight=False,
        emoji=False,
    )
    console.print(Text(heading(found)))
    for end in found.ends:
        console.print(Text(f"  the guest stopped by itself: {plain(end)}"))
    grid = Grid(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold", max_width=36)
    grid.add_column(overflow="fold")
    absent = ARCHITECTURES[found.architecture].absent
    for name, title in _TITLES.items():
        if name in absent:
            continue
        seen: Seen[object] = getattr(found.facts, name)
        why = f"{seen.evidence.source}: {seen.evidence.detail}".rstrip(": ")
        grid.add_row(Text(title), Text(plain(shown(seen.value))), Text(plain(why), style="dim"))
    console.print(grid)
    for gap in found.unseen:
        console.print(Text(plain(f"not seen: {gap.what} ({gap.why})")))
    return out.getvalue()


def heading(found: Examination) -> str:
    """The examination in one line."""
    times = "boot" if found.boots == 1 else "boots"
    return plain(
        f"{found.image} ({found.kernel}, {found.kind}, {found.architecture}): {found.boots} {times}"
        f" under {found.accelerator} with {found.cpu}, {found.memory >> 20} MiB"
    )


def shown(value: object) -> str:
    """A fact's value in a word or a few."""
    if value is None:
        return "not seen"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1%}"
    if isinstance(value, Table):
        marks = {True: ", writable", False: ", read-only", None: ""}
        return f"{value.base}{marks[value.writable]}"
    if isinstance(value, Bits):
        areas = ((name.replace("_", " "), getattr(value, name)) for name in Bits.__struct_fields__)
        return ", ".join(f"{name} {bits:g}" for name, bits in areas if bits is not None)
    if isinstance(value, tuple):
        return _devices(value)
    return str(value)


def _devices(values: tuple[object, ...]) -> str:
    names = [
        f"{one.name} ({one.serving})" if isinstance(one, Device) else str(one)
        for one in values
        if not isinstance(one, Device) or one.serving or one.driver_ok
    ]
    more = len(names) - _MOST_DEVICES
    listed = ", ".join(names[:_MOST_DEVICES]) or "none"
    return f"{listed} and {more} more" if more > 0 else listed


def plain(text: str) -> str:
    """Without control characters: names of devices and files are the guest's and the user's."""
    return "".join(char if char.isprintable() else "?" for char in text)
