"""Facts from boots put together by hand: shares, worst cases, what was not seen."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ringfence.guest.arch import aarch64 as arm
from ringfence.guest.arch.aarch64 import AARCH64
from ringfence.guest.arch.x86 import X86
from ringfence.guest.devices import Device
from ringfence.guest.facts import facts, unseen
from ringfence.guest.observation import Look, Observation, Phase, Placed, Walked
from ringfence.guest.paging import NO_EXECUTE, PAGE, USER, WRITE
from ringfence.guest.regions import Below, Floor, Place, Run, Space
from ringfence.guest.registers import Registers
from ringfence.guest.report import heading, report
from ringfence.guest.result import SCHEMA, Examination
from ringfence.report.look import Look as Shown
from tests.unit.guest.tables import registers

MEMORY = 64 << 20
SPACE = Space((0x1000,), "4-level", 100, 10, 20, 0, 0, 0, (), False, 0, True, (False, False))


NO_ROOM = Floor(0, Below.UNMAPPED)


def looks(phase: Phase, states: list[Registers]) -> tuple[Look, ...]:
    return tuple(Look(phase, 1.0, state) for state in states)


def boot(**fields: Any) -> Observation:
    """A boot of a quiet, well protected kernel in ring 0."""
    plain: dict[str, Any] = {
        "looks": looks(Phase.BEFORE, [registers()] * 4),
        "spaces": (Walked(Phase.BEFORE, SPACE),),
        "places": (), "devices": (), "given": ("isa-serial",), "steady": 1.0, "end": "",
        "exercise": None, "flooded": False,
    }  # fmt: skip
    return Observation(**(plain | fields))


def placed(cpl: int, code: int, stack: int, *, floor: Floor | None = NO_ROOM,
           rights: int = WRITE | 4, halted: bool = False, phase: Phase = Phase.BEFORE,
           data: tuple[int, ...] = (0x9000,)) -> Placed:  # fmt: skip
    areas = tuple(Run(start, start + PAGE, 7) for start in data)
    place = Place(Run(code, code + PAGE, 0), Run(stack - PAGE, stack, rights), areas, floor)
    return Placed(phase, cpl, halted, place)


def test_shares_are_of_running_code_under_load() -> None:
    states = [registers(cpl=3)] * 3 + [registers()] + [registers(halted=True)] * 4
    idle = looks(Phase.BEFORE, [registers(halted=True)] * 5)
    found = facts([boot(looks=idle + looks(Phase.LOAD, states), exercise=0)], X86, "tcg", MEMORY)
    assert (found.ring3_share.value, found.ring0_share.value) == (0.75, 0.25)
    assert found.halted_share.value == 0.5
    assert found.ring3_share_before.value is None
    assert "8 samples under load: 1 in ring 0, 3 in ring 3, 4 halted" in (
        found.ring3_share.evidence.detail
    )


def test_a_switch_is_on_only_if_on_in_every_sample() -> None:
    states = [registers(cr4=0x300820)] * 9 + [registers(cr4=0x20, wp=False)]
    found = facts([boot(looks=looks(Phase.BEFORE, states))], X86, "tcg", MEMORY)
    assert (found.smep.value, found.wp.value, found.nx.value) == (False, False, True)
    assert found.smep.evidence.detail == "on in 9 of 10 samples"
    assert str(found.smep.evidence.grade) == "probed"


AC, IOPL_3 = 1 << 18, 3 << 12
SMAP = 0x200020


def kernels(running: int, lifted: int, *, halted: int = 0, waiting: int = 0) -> list[Registers]:
    """Samples of ring 0 with SMAP: that run, that run with EFLAGS.AC, that halt, that halt so."""
    return [
        registers(cr4=SMAP, flags=flags, halted=halts)
        for count, flags, halts in ((running - lifted, 2, False), (lifted, AC | 2, False),
                                    (halted - waiting, 2, True), (waiting, AC | 2, True))
        for _ in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("states", "value"),
    [
        (kernels(40, 0), True),
        (kernels(40, 4), True),
        (kernels(40, 5), None),
        (kernels(40, 20), None),
        (kernels(40, 21), False),
        (kernels(40, 40), False),
        (kernels(40, 0, halted=9, waiting=1), False),
        (kernels(2, 1, halted=90), None),
        (kernels(40, 0) + [registers(cpl=3, cr4=SMAP, flags=AC | 2)] * 90, True),
        ([registers(cr4=0x20)] * 40, False),
    ],
)
def test_smap_is_on_only_where_the_kernel_does_not_lift_it(
    states: list[Registers], value: bool | None
) -> None:
    """Linux lifts it while it copies; a kernel that has left it so, always. What a program sets
    for itself counts for nothing."""
    found = facts([boot(looks=looks(Phase.BEFORE, states))], X86, "tcg", MEMORY).smap
    assert found.value is value
    lifted = sum(one.lifted for one in states if one.ring == 0)
    assert ("lifted (EFLAGS.AC)" in found.evidence.detail) == (lifted > 0)


def test_pan_is_on_only_where_the_kernel_does_not_lift_it() -> None:
    """SCTLR_EL1.SPAN is clear in both: exceptions set PAN, and nobody else does."""
    core = {"PC": 0x1000, "SP": 0x2000}
    for pstate, value in ((1 << 22 | 5, True), (5, False)):
        states = [arm.state(core | {"PSTATE": pstate}, SYSTEM, None)] * 4
        found = facts([boot(looks=looks(Phase.BEFORE, states), spaces=())], AARCH64, "tcg", MEMORY)
        assert found.pan.value is value
        assert found.ring3_ports.value is None


@pytest.mark.parametrize(
    ("states", "value"),
    [
        ([registers(cpl=3)] * 9, False),
        ([registers(cpl=3)] * 9 + [registers(cpl=3, flags=IOPL_3)], True),
        ([registers(flags=IOPL_3)] * 9, None),
        ([registers(flags=IOPL_3), registers(cpl=3)], False),
    ],
)
def test_ports_that_programs_drive(states: list[Registers], value: bool | None) -> None:
    found = facts([boot(looks=looks(Phase.BEFORE, states))], X86, "tcg", MEMORY)
    assert found.ring3_ports.value is value


def test_tables_that_programs_can_write_are_named() -> None:
    bad = msgspec.structs.replace(SPACE, exposed=(2, 0, 1))
    spaces = tuple(Walked(Phase.BEFORE, one) for one in (SPACE, bad))
    found = facts([boot(spaces=spaces)], X86, "tcg", MEMORY).user_writable_tables
    assert found.value == 3 and "2 of page tables, 1 of gdt" in found.evidence.detail
    assert facts([boot()], X86, "tcg", MEMORY).user_writable_tables.value == 0
    cut = msgspec.structs.replace(SPACE, exposed_cut=True)
    unsure = facts([boot(spaces=(Walked(Phase.BEFORE, cut),))], X86, "tcg", MEMORY)
    assert unsure.user_writable_tables.value is None


def test_without_paging_programs_write_everything() -> None:
    kernel, program = registers(paged=False), registers(cpl=3, paged=False)
    for states, value in (([kernel, program], MEMORY // PAGE), ([kernel, registers(cpl=3)], 0)):
        found = facts([boot(looks=looks(Phase.BEFORE, states))], X86, "tcg", MEMORY)
        assert found.user_writable_tables.value == value


def test_protections_are_those_under_load_where_there_was_load() -> None:
    """A guest still in its firmware when it seemed to rest: the load shows it at work."""
    firmware = looks(Phase.BEFORE, [registers(paged=False, wp=False)] * 5)
    at_work = looks(Phase.LOAD, [registers()] * 5)
    bad = msgspec.structs.replace(SPACE, both=99, zero=True)
    spaces = (Walked(Phase.BEFORE, bad), Walked(Phase.LOAD, SPACE))
    found = facts([boot(looks=firmware + at_work, spaces=spaces)], X86, "tcg", MEMORY)
    assert (found.wp.value, found.paging.value) == (True, "4-level")
    assert (found.writable_executable_pages.value, found.page_zero_mapped.value) == (0, False)


def test_the_worst_address_space_counts() -> None:
    shown = (Run(0x1000, 0x3000, WRITE | USER),)
    worse = msgspec.structs.replace(
        SPACE, root=(0x2000,), both=2, user_both=2, user=50, zero=True, complete=False, shown=shown
    )
    spaces = tuple(Walked(Phase.BEFORE, one) for one in (SPACE, worse))
    found = facts([boot(spaces=spaces)], X86, "tcg", MEMORY)
    assert found.writable_executable_pages.value == 2
    assert "0x1000-0x3000 (user)" in found.writable_executable_pages.evidence.detail
    assert "at least" in found.writable_executable_pages.evidence.detail
    assert (found.user_pages.value, found.page_zero_mapped.value) == (50, True)


def test_without_paging_nothing_is_refused() -> None:
    bare = boot(looks=looks(Phase.BEFORE, [registers(paged=False)] * 3), spaces=())
    found = facts([bare], X86, "tcg", MEMORY)
    assert (found.paging.value, found.page_zero_mapped.value) == ("off", True)
    assert found.writable_executable_pages.value == MEMORY // PAGE
    assert (found.stack_executable.value, found.stack_guard_page.value) == (True, False)


def test_paging_that_is_off_at_times_counts_as_off() -> None:
    """The worst state of all samples; what tables alone can give is that of the others."""
    states = [registers(paged=False)] * 3 + [registers()]
    found = facts([boot(looks=looks(Phase.BEFORE, states))], X86, "tcg", MEMORY)
    assert found.paging.value == "off, 4-level"
    assert found.paging.evidence.detail.startswith("paging is off in 3 of 4 samples")
    assert found.writable_executable_pages.value == MEMORY // PAGE
    assert (found.page_zero_mapped.value, found.stack_executable.value) == (True, True)
    assert (found.address_spaces.value, found.user_pages.value) == (1, 10)
    always = facts([boot()], X86, "tcg", MEMORY)
    assert (always.paging.value, always.writable_executable_pages.value) == ("4-level", 0)
    assert always.paging.evidence.detail == "in 4 samples"


SYSTEM = {"SCTLR": 1, "TCR_EL1": 16 | 16 << 16 | 2 << 30, "TTBR0_EL1": 0x1000,
          "TTBR1_EL1": 0x2000, "VBAR": 0x10800}  # fmt: skip
NONE_SEEN = ("writable_executable_pages", "writable_aliases_of_code", "ring0_executable_user_pages",
             "page_zero_mapped", "user_writable_tables")  # fmt: skip


def test_none_found_in_tables_that_were_not_all_read_is_not_known() -> None:
    cut = msgspec.structs.replace(SPACE, complete=False)
    found = facts([boot(spaces=(Walked(Phase.BEFORE, cut),))], X86, "tcg", MEMORY)
    whole = facts([boot()], X86, "tcg", MEMORY)
    for name in NONE_SEEN:
        assert getattr(found, name).value is None
        assert "some tables unread: at least" in getattr(found, name).evidence.detail
        assert getattr(found, name).evidence.detail.endswith("says nothing")
        assert getattr(whole, name).value == 0
    assert (found.tables_complete.value, whole.tables_complete.value) == (False, True)
    assert found.user_pages.value == 10


def test_address_spaces_that_were_not_walked_are_missing() -> None:
    roots = [registers(root=0x1000 * number) for number in range(1, 5)]
    seen = looks(Phase.BEFORE, roots)
    found = facts([boot(looks=seen)], X86, "tcg", MEMORY)
    assert (found.address_spaces.value, found.tables_complete.value) == (4, False)
    assert all(getattr(found, name).value is None for name in NONE_SEEN)
    assert "1 address space walked, 3 of 4 seen not walked: at least" in (
        found.writable_executable_pages.evidence.detail
    )
    every = tuple(
        Walked(Phase.BEFORE, msgspec.structs.replace(SPACE, root=one.space)) for one in roots
    )
    whole = facts([boot(looks=seen, spaces=every)], X86, "tcg", MEMORY)
    assert (whole.tables_complete.value, whole.writable_executable_pages.value) == (True, 0)


def test_names_that_were_not_looked_at_leave_aliases_unknown_alone() -> None:
    cut = msgspec.structs.replace(SPACE, aliases_cut=True)
    found = facts([boot(spaces=(Walked(Phase.BEFORE, cut),))], X86, "tcg", MEMORY)
    assert found.writable_aliases_of_code.value is None
    assert (found.writable_executable_pages.value, found.tables_complete.value) == (0, True)


def test_rights_that_changed_count_at_their_worst_and_how_often_is_said() -> None:
    later = msgspec.structs.replace(SPACE, both=3)
    spaces = tuple(Walked(Phase.BEFORE, one) for one in (SPACE, SPACE, later, SPACE))
    found = facts([boot(spaces=spaces)], X86, "tcg", MEMORY).writable_executable_pages
    assert found.value == 3
    assert found.evidence.detail.endswith("in 1 of 4 walks")


def test_a_heap_of_which_not_all_was_looked_at_is_not_known() -> None:
    quiet = placed(0, 0x1000, 0x8000)
    kept = Placed(quiet.phase, 0, False, msgspec.structs.replace(
        quiet.place, data=(Run(0x9000, 0xA000, WRITE | NO_EXECUTE),)))  # fmt: skip
    none = Placed(quiet.phase, 0, False, msgspec.structs.replace(
        quiet.place, data=(), cut=True))  # fmt: skip
    assert facts([boot(places=(kept,))], X86, "tcg", MEMORY).heap_executable.value is False
    assert facts([boot(places=(kept, none))], X86, "tcg", MEMORY).heap_executable.value is None


def test_regions_are_ring_3s_where_there_is_one() -> None:
    kernel = placed(0, 0x1000, 0x8000, rights=WRITE)
    program = placed(3, 0x400000, 0x7000000, rights=WRITE | USER | NO_EXECUTE)
    assert facts([boot(places=(kernel,))], X86, "tcg", MEMORY).stack_executable.value is True
    found = facts([boot(places=(kernel, program))], X86, "tcg", MEMORY)
    assert found.stack_executable.value is False
    assert "ring 3" in found.stack_executable.evidence.detail


@pytest.mark.parametrize(
    ("floors", "guarded", "said"),
    [([NO_ROOM], True, "the page below that of the stack pointer is unmapped in every sample"),
     ([Floor(PAGE, Below.UNMAPPED)], None, "2 pages below that of the stack pointer; whether"),
     ([NO_ROOM, Floor(64 * PAGE, Below.UNMAPPED)], None, "65 pages below"),
     ([NO_ROOM, Floor(65 * PAGE, Below.UNMAPPED)], False, "first unmapped page 66 pages below"),
     ([NO_ROOM, Floor(0, Below.MAPPED)], False, "other memory, mapped, 1 pages below"),
     ([NO_ROOM, Floor(7 * PAGE, Below.ZERO)], False, "mapped down to address 0, 8 pages below"),
     ([NO_ROOM, Floor(0, Below.UNREAD)], None, "page tables that could not be read 1 pages"),
     ([Floor(0, Below.UNREAD), Floor(0, Below.MAPPED)], False, "other memory"),
     ([NO_ROOM, None], True, "in every sample"),
     ([None], None, "no mapped page")],
)  # fmt: skip
def test_guards(floors: list[Floor | None], guarded: bool | None, said: str) -> None:
    """Only what lies directly below pages that were seen to be the stack's guards it."""
    places = tuple(placed(0, 0x1000, 0x8000, floor=floor) for floor in floors)
    found = facts([boot(places=places)], X86, "tcg", MEMORY).stack_guard_page
    assert found.value is guarded
    assert said in found.evidence.detail


def test_layout_over_boots() -> None:
    boots = [
        boot(places=(placed(0, 0x200000 * (8 + number), 0x8000), placed(3, 0x400000, 0x70000000)))
        for number in range(4)
    ]
    bits = facts(boots, X86, "tcg", MEMORY).randomised_bits.value
    assert bits is not None
    assert (bits.code, bits.stack, bits.user_code, bits.user_stack) == (2.0, 0, 0, 0)
    assert facts(boots[:1], X86, "tcg", MEMORY).randomised_bits.value is None


@pytest.mark.parametrize(
    ("boots", "bits"),
    [
        ([[(0x9000, 0x40000)]] * 3, 0),
        ([[(0x9000, 0x40000)], [(0x9000, 0x50000)], [(0x9000, 0x60000)]], None),
        ([[(0x9000, 0x40000)], [(0xA000, 0x50000)], [(0xB000, 0x60000)]], 1.5),
        ([[(0x9000, 0x40000)], [(0xA000, 0x40000)], [(0xB000, 0x60000)]], 1.0),
        ([[(0x9000,), (0x8000,)], [(0x9000,), (0x7000, 0x8000)]], 0),
        ([[(0x9000,)], [()], [(0xA000,)]], None),
        ([[(0x9000,)], []], None),
    ],
)  # fmt: skip
def test_a_heap_is_told_only_by_what_holds_of_all_data(
    boots: list[list[tuple[int, ...]]], bits: float | None
) -> None:
    """`boots`: of each sample where data lay. A program's own lies still beside a moving heap."""
    seen = [
        boot(places=tuple(placed(0, 0x1000, 0x8000, data=data) for data in samples))
        for samples in boots
    ]
    found = facts(seen, X86, "tcg", MEMORY).randomised_bits.value
    assert (None if found is None else found.heap) == bits


def test_data_that_was_not_all_looked_at_tells_nothing_of_the_heap() -> None:
    whole = placed(0, 0x1000, 0x8000)
    cut = Placed(whole.phase, 0, False, msgspec.structs.replace(whole.place, data=(), cut=True))
    for places, bits in (((whole,), 0), ((whole, cut), None)):
        found = facts([boot(places=places)] * 2, X86, "tcg", MEMORY).randomised_bits.value
        assert found is not None and found.heap == bits


def test_a_programs_data_that_is_touched_elsewhere_has_not_moved() -> None:
    """Its pages are mapped as they are touched; a kernel's are not."""
    for ring, bits in ((3, None), (0, 1.0)):
        boots = [
            boot(places=(placed(ring, 0x400000, 0x800000, data=(start,)),))
            for start in (0x5E2000, 0x5E3000)
        ]
        found = facts(boots, X86, "tcg", MEMORY).randomised_bits.value
        assert found is not None
        assert (found.user_heap if ring == 3 else found.heap) == bits


def test_the_waiting_thread_is_compared_not_those_that_come_and_go() -> None:
    boots = [
        boot(places=(placed(0, 0x1000, 0x8000, halted=True), placed(0, 0x1000, 0x9000 + 4096 * n)))
        for n in range(3)
    ]
    bits = facts(boots, X86, "tcg", MEMORY).randomised_bits.value
    assert bits is not None and bits.stack == 0


def test_a_guest_that_ended_while_booting_has_its_last_state() -> None:
    ended = boot(looks=looks(Phase.BOOTING, [registers(wp=False), registers()]), spaces=(),
                 steady=None, end="triple fault")  # fmt: skip
    found = facts([ended], X86, "tcg", MEMORY)
    assert found.ring3_share.value is None
    assert found.wp.value is True
    assert found.writable_executable_pages.value is None
    assert unseen([ended], True)[0].why == "triple fault"


def test_what_was_not_seen_is_said() -> None:
    idle = looks(Phase.BEFORE, [registers(halted=True)] * 4)
    assert [gap.why for gap in unseen([boot(looks=idle)], False)] == ["no --exercise was given"]
    load = looks(Phase.LOAD, [registers()])
    assert unseen([boot(looks=load, exercise=0)], True) == ()
    assert unseen([boot(looks=load, exercise=3)], True)[-1].why == "the exercise ended with 3"
    assert "killed" in unseen([boot(looks=load)], True)[-1].why
    assert unseen([boot(steady=None)], False)[0].what == "the settled guest"


def test_a_loop_may_be_that_of_a_guest_that_still_boots() -> None:
    """Unless it waits for something to do, or answers."""
    busy, *_ = unseen([boot()], False)
    assert busy.what == "the settled guest" and "never halted" in busy.why
    idle = looks(Phase.BEFORE, [registers(), registers(halted=True)])
    load = looks(Phase.BEFORE, [registers()]) + looks(Phase.LOAD, [registers()])
    assert "the settled guest" not in [one.what for one in unseen([boot(looks=idle)], False)]
    assert unseen([boot(looks=load, exercise=0)], True) == ()
    assert unseen([boot(looks=load, exercise=3)], True)[0] == busy


def test_devices_say_what_kvm_hides() -> None:
    seen = boot(devices=(Device("serial", 1, 2),), flooded=True)
    assert "KVM" not in facts([seen], X86, "tcg", MEMORY).devices.evidence.detail
    assert "not all were counted" in facts([seen], X86, "tcg", MEMORY).devices.evidence.detail
    assert "KVM" in facts([seen], X86, "kvm", MEMORY).devices.evidence.detail


def examination(**fields: Any) -> Examination:
    touched = (Device("serial", 1, 2), Device("rtc", 3, 0))
    plain: dict[str, Any] = {
        "schema": SCHEMA, "image": "x.elf", "architecture": "x86_64",
        "kernel": "unknown kernel", "kind": "PVH ELF",
        "accelerator": "tcg", "cpu": "max", "memory": MEMORY, "boots": 1, "ends": (),
        "facts": facts([boot(devices=touched)], X86, "tcg", MEMORY),
    }  # fmt: skip
    return Examination(**(plain | fields))


def test_every_fact_has_a_line_in_the_report() -> None:
    found = examination(ends=("triple fault",))
    text = report(found, Shown(width=200))
    assert len(text.splitlines()) == 2 + len(found.facts.__struct_fields__) - len(X86.absent)
    assert "PAN" not in text
    assert "triple fault" in text
    assert "serial (2)" in text and "rtc" not in text
    assert "\x1b" not in text


def test_names_of_guests_and_files_cannot_write_to_the_terminal() -> None:
    found = examination(image="a\x1b[2Jb", kernel="\x07")
    assert "\x1b" not in heading(found) + report(found, Shown(width=200))
