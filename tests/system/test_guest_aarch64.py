"""Each variant of our own aarch64 guest is examined, and the report says what is true of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
from typing import Any

import pytest

from ringfence.guest.arch.aarch64 import AARCH64
from ringfence.guest.debugger import Debugger
from ringfence.guest.kinds import Kind
from ringfence.guest.machine import Machine, words
from ringfence.guest.memory import Memory, pieces
from ringfence.guest.monitor import Monitor, monitor
from ringfence.guest.paging import RIGHTS, Leaf
from ringfence.guest.regions import tables
from tests.guests.aarch64.build import VARIANTS, Truth, kernel
from tests.guests.build import seen_guard
from tests.system.conftest import program
from tests.system.guests import ask_on_serial, examined, hurried, values

pytestmark = pytest.mark.system

AREAS = ("code", "stack", "heap")
MEMORY = 64 << 20
FORMS = {
    "base": "4-level, 4 KiB",
    "16k": "4-level, 16 KiB", "64k": "3-level, 64 KiB", "39bits": "3-level, 4 KiB",
    "52bits": "5-level, 4 KiB",
}  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[
        name for name in VARIANTS if VARIANTS[name].granule == 12 and VARIANTS[name].bits == 48
    ],
)
def seen(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Truth]:
    """A variant under load, and the truth about it."""
    truth = VARIANTS[request.param]
    boots = 3 if truth.random else 1
    program("qemu-system-aarch64")
    with hurried(40):
        found = examined(kernel(request.param), "--boots", boots, "--memory", "64m",
                         "--exercise", ask_on_serial("GET /", "200 hello", 0.1))  # fmt: skip
    assert (found["boots"], found["ends"], found["unseen"]) == (boots, [], [])
    assert (found["architecture"], found["accelerator"]) == ("aarch64", "tcg")
    assert found["kind"] == ("arm64 Image" if truth.image else "aarch64 ELF")
    assert found["kernel"] == "unknown kernel"
    return values(found), truth


def test_rings(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, truth = seen
    assert (facts["ring3_share"] > 0) == truth.el0
    assert facts["ring3_share"] + facts["ring0_share"] == pytest.approx(1, abs=0.001)
    assert (facts["halted_share"] > 0) == truth.sleeps
    if truth.sleeps:
        assert facts["ring3_share_before"] in (0, None)
    else:
        assert (facts["ring3_share_before"] > 0) == truth.el0


def test_switches_of_the_processor(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, truth = seen
    assert facts["wxn"] == truth.wxn
    if truth.paged:
        # Code of EL1 that came by no exception from EL0 has PAN off.
        assert facts["pan"] == (truth.pan and truth.el0 and not truth.lifted)
    for name in ("wp", "nx", "smep", "smap", "umip", "idt", "gdt", "ring3_ports"):
        assert facts[name] is None
    assert facts["vectors"]["writable"] == (truth.text_writable if truth.paged else None)


def test_rights_of_pages(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, truth = seen
    assert facts["paging"] == ("4-level, 4 KiB" if truth.paged else "off")
    both = facts["writable_executable_pages"]
    assert (both > 0) == (truth.executable_data or (truth.text_writable and not truth.wxn))
    assert (facts["writable_aliases_of_code"] > 0) == (both > 0 or truth.aliased)
    if truth.paged:
        assert (facts["user_writable_tables"] > 0) == truth.user_tables
    assert facts["stack_executable"] == facts["heap_executable"] == truth.executable_data
    assert (facts["user_pages"] > 0) == truth.el0
    assert (facts["ring0_executable_user_pages"] > 0) == (truth.el0 and not truth.pxn)


def test_page_zero_and_guard(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, truth = seen
    assert facts["page_zero_mapped"] == (truth.page_zero_mapped or not truth.paged)
    guard = seen_guard(truth.guard, truth.stack, truth.journal) if truth.paged else False
    assert facts["stack_guard_page"] is guard


def test_randomised_bits(seen: tuple[dict[str, Any], Truth]) -> None:
    """At least so many: three boots show three values."""
    facts, truth = seen
    if not truth.random:
        assert facts["randomised_bits"] is None
        return
    for area in AREAS:
        assert facts["randomised_bits"][area] == 1.5, area


def test_the_serial_line_is_what_it_drives(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, _ = seen
    touched = {one["name"]: one["serving"] for one in facts["devices"]}
    assert touched["pl011"] > 0
    assert "pl011" in facts["devices_given"]


async def against_qemu(variant: str) -> int:
    """Every page that the walk finds is where QEMU's own translation says; and next to each end
    of a region it agrees that there is nothing. How many pages there were."""
    pairs = [socket.socketpair() for _ in range(3)]
    with contextlib.ExitStack() as stack:
        for one in (end for pair in pairs for end in pair):
            stack.enter_context(one)
        memory = stack.enter_context(contextlib.closing(Memory(MEMORY)))
        image = stack.enter_context(open(kernel(variant), "rb"))
        machine = Machine(
            arch=AARCH64, kind=Kind.ARM64_ELF, accel="tcg", cpu=AARCH64.cpu, memory=MEMORY,
            memory_handle=memory.handle, monitor=pairs[0][1].fileno(),
            console=pairs[1][1].fileno(), debugger=pairs[2][1].fileno(), kernel=image.fileno(),
        )  # fmt: skip
        running = subprocess.Popen(words(machine), pass_fds=machine.handles)
        stack.callback(running.wait)
        stack.callback(running.kill)
        pairs[1][0].settimeout(20)
        assert (await asyncio.to_thread(pairs[1][0].recv, 100)).startswith(b"r")
        async with monitor(pairs[0][0], AARCH64.look, Debugger(pairs[2][0])) as control:
            await control.ask("stop")
            memory.pieces = pieces(await control.text("info mtree -f"))
            found = tables(memory.read, await control.standing())
            assert found is not None and found.mode == FORMS[variant]
            leaves = list(found.leaves(frozenset(range(RIGHTS))))
            await compare(control, leaves)
            return len(leaves)


async def compare(control: Monitor, leaves: list[Leaf]) -> None:
    mapped = {leaf.start for leaf in leaves}
    for leaf in leaves:
        inside = leaf.start + 0x238
        answer = await control.text(f"gva2gpa {inside:#x}")
        assert answer.strip() == f"gpa: {leaf.physical + 0x238:#x}", hex(leaf.start)
        for beside in {leaf.start - leaf.size, leaf.start + leaf.size} - mapped:
            answer = await control.text(f"gva2gpa {beside & (1 << 64) - 1:#x}")
            assert answer.strip() == "Unmapped"


@pytest.mark.parametrize("variant", FORMS)
def test_the_walk_agrees_with_qemus_translation(variant: str) -> None:
    """Of kernels without programs: QEMU translates as the level that runs may access."""
    program("qemu-system-aarch64")
    assert asyncio.run(against_qemu(variant)) > 80


def test_the_guest_answers_from_its_level() -> None:
    """What it says of itself, by CurrentEL and by the caller's SPSR."""
    for variant, ring in (("base", 0), ("el0", 3)):
        serial, far = socket.socketpair()
        with serial, far:
            running = subprocess.Popen(
                [program("qemu-system-aarch64"), *AARCH64.machine[:1], "virt", "-cpu", AARCH64.cpu,
                 "-m", "64M", "-nodefaults", "-display", "none", "-kernel", str(kernel(variant)),
                 "-chardev", f"socket,id=serial,fd={far.fileno()}", "-serial", "chardev:serial"],
                pass_fds=[far.fileno()],
            )  # fmt: skip
            try:
                serial.settimeout(20)
                line = serial.makefile("rwb", buffering=0)
                assert line.readline() == b"ready\n"
                line.write(b"GET /\n")
                assert line.readline() == b"200 hello from ring %d\n" % ring
                line.write(b"WHERE\n")
                assert re.fullmatch(rb"200 code 0x[0-9a-f]{16} .*\n", line.readline())
            finally:
                running.kill()
                running.wait()
