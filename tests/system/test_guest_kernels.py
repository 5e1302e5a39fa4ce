"""Our own guests are what `tests.guests.build` says of them, by QEMU's monitor and by readelf."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.guests.build import BASE, HOSTILE, RING3, VARIANTS, Bits, Truth, kernel
from tests.guests.machine import Machine, boot, process
from tests.system.conftest import program

pytestmark = pytest.mark.system

PAGE = 4096
AREAS = ("code", "stack", "heap")


@pytest.fixture(scope="module", params=VARIANTS)
def guest(request: pytest.FixtureRequest) -> Iterator[tuple[Machine, Truth]]:
    """Each variant, booted, with what is true of it."""
    with boot(kernel(request.param)) as machine:
        yield machine, VARIANTS[request.param]


def where(machine: Machine) -> dict[str, int]:
    """The lowest addresses of the guest's areas, in its own words."""
    words = machine.ask("WHERE").split()[1:]
    return {name: int(value, 16) for name, value in zip(words[::2], words[1::2], strict=True)}


def test_it_answers_from_its_ring(guest: tuple[Machine, Truth]) -> None:
    machine, truth = guest
    assert machine.ask("GET /") == f"200 hello from ring {3 if truth.ring3 else 0}"
    assert machine.ask("PUT /") == "404 not found"


def test_the_control_registers(guest: tuple[Machine, Truth]) -> None:
    machine, truth = guest
    seen = machine.registers()
    assert bool(seen["CR0"] >> 16 & 1) == truth.wp
    assert bool(seen["EFER"] >> 11 & 1) == truth.nx
    assert [bool(seen["CR4"] >> bit & 1) for bit in (20, 21, 11)] == [
        truth.smep, truth.smap, truth.umip,
    ]  # fmt: skip


def test_the_ring_of_the_running_code(guest: tuple[Machine, Truth]) -> None:
    machine, truth = guest
    samples = [machine.registers() for _ in range(60)]
    rings = {sample["CPL"] for sample in samples}
    halted = [sample["CPL"] for sample in samples if sample["HLT"]]
    assert (3 in rings) == (truth.ring3 and not truth.sleeps)
    if truth.sleeps:
        assert halted and set(halted) == {0}
        assert 3 in rings_under_load(machine)
    else:
        assert not halted
        assert any(sample["CPL"] == (3 if truth.ring3 else 0) for sample in samples)


def rings_under_load(machine: Machine) -> set[int]:
    """The rings seen while requests are answered: a hundred, or as many as show ring 3."""
    seen: set[int] = set()
    for _ in range(100):
        machine.serial.write(b"GET /\n" * 8)
        seen |= {machine.registers()["CPL"] for _ in range(4)}
        assert all(machine.line().startswith("200") for _ in range(8))
        if 3 in seen:
            break
    return seen


def test_the_rights_of_pages(guest: tuple[Machine, Truth]) -> None:
    machine, truth = guest
    pages = machine.pages()
    code = where(machine)["code"]
    text = {page for page in pages if page.address in (code + PAGE, code + 2 * PAGE)}
    assert len(text) == 2 and all(page.executable for page in text)
    assert {page.writable for page in text} == {truth.text_writable}
    data = [page for page in pages if page.writable and page not in text]
    assert len(data) > truth.journal + 16
    assert {page.executable for page in data} == {truth.wx_pages}
    assert any(page.user for page in pages) == truth.ring3
    # The monitor joins this right over all levels, which `info tlb` does not.
    joined = [line.split()[-1] for line in machine.monitor("info mem").splitlines()]
    assert any(rights.startswith("u") for rights in joined) == truth.ring3


def test_page_zero_and_the_page_below_the_stack(guest: tuple[Machine, Truth]) -> None:
    machine, truth = guest
    mapped = {page.address for page in machine.pages()}
    areas = where(machine)
    assert (0 in mapped) == truth.page_zero_mapped
    assert areas["stack"] in mapped and areas["stack"] - 2 * PAGE in mapped
    assert (areas["stack"] - PAGE in mapped) != truth.guard


def test_where_the_stack_and_the_heap_are(guest: tuple[Machine, Truth]) -> None:
    """What the guest says of itself is where QEMU sees the stack pointer and writable pages."""
    machine, truth = guest
    areas = where(machine)
    writable = {page.address for page in machine.pages() if page.writable}
    assert areas["heap"] in writable
    samples = [machine.registers() for _ in range(20)]
    own = [seen for seen in samples if seen["CPL"] == (3 if truth.ring3 else 0)]
    if not (truth.ring3 and truth.sleeps):
        top = areas["stack"] + truth.stack * PAGE
        assert any(areas["stack"] <= seen["RSP"] < top for seen in own)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_layout_over_boots(variant: str) -> None:
    bits = VARIANTS[variant].randomised_bits
    seen = []
    for _ in range(2 if bits == Bits() else 5):
        with boot(kernel(variant)) as machine:
            seen.append(where(machine))
    for area in AREAS:
        changed = 0
        for layout in seen:
            changed |= layout[area] ^ seen[0][area]
        assert changed % PAGE == 0
        assert changed.bit_count() <= getattr(bits, area)
        # Each bit shows with 15/16; fewer than half of 27 about once in 10^13 runs.
        assert changed.bit_count() >= getattr(bits, area) // 2


def test_without_a_random_source_the_layout_still_changes() -> None:
    seen = set()
    for _ in range(2):
        with boot(kernel("random"), cpu="max,rdrand=off") as machine:
            seen.add(where(machine)["code"])
    assert len(seen) == 2


def test_what_the_processor_lacks_stays_off() -> None:
    with boot(kernel("ring3"), cpu="max,smep=off,umip=off") as machine:
        seen = machine.registers()["CR4"]
    assert [seen >> bit & 1 for bit in (20, 21, 11)] == [0, 1, 0]


@pytest.mark.parametrize("variant", ["base", "ring3", "nocanary"])
def test_an_overrun_is_noticed_by_the_canary(variant: str) -> None:
    truth = VARIANTS[variant]
    with boot(kernel(variant)) as machine:
        assert machine.ask("GET /" + "A" * 100).startswith("200")
        end = "stack smashed" if truth.canary else "trap 1[34]"
        assert re.fullmatch(f"{end} in ring {3 if truth.ring3 else 0}", machine.line())


def test_canaries_are_drawn_at_each_boot() -> None:
    seen = set()
    for _ in range(2):
        with boot(kernel("base")) as machine:
            for segment in ("FS", "GS"):
                place = machine.registers()[segment] + 0x28
                seen.add(int(machine.monitor(f"x /1gx {place:#x}").split()[-1], 16))
    assert len(seen) == 4
    assert all(canary and canary & 0xFF == 0 for canary in seen)


@pytest.mark.parametrize("variant", ["base", "guard", "deepguard", "databelow"])
def test_an_overflow_is_noticed_by_the_guard_page(variant: str) -> None:
    with boot(kernel(variant)) as machine:
        answer = machine.ask("NEST")
        assert answer == ("trap 14 in ring 0" if VARIANTS[variant].guard else "200 nested")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_file_says_the_same(variant: str) -> None:
    truth, image = VARIANTS[variant], str(kernel(variant))
    shown = subprocess.run(
        [program("readelf"), "-lnsW", image], capture_output=True, text=True, check=True
    ).stdout
    segments = re.findall(r"^ +LOAD .* (R[W ][E ]) 0x", shown, re.M)
    assert segments == ["RWE" if truth.text_writable else "R E", "R  ", "RW "]
    assert ("__stack_chk_fail" in shown) == truth.canary
    assert bool(re.search(r"^ +Xen ", shown, re.M)) != truth.multiboot


def test_each_variant_has_one_property_of_its_own() -> None:
    """Beside `base` and `ring3` themselves; what follows from a property counts with it."""
    together = {
        frozenset({"nx", "wx_pages", "text_writable"}),
        frozenset({"nx", "wx_pages"}),
        frozenset({"wx_pages", "text_writable"}),
        frozenset({"guard", "stack"}),
        frozenset({"lifted", "sleeps"}),
    }
    names = Truth.__struct_fields__
    for variant, truth in VARIANTS.items():
        parent = RING3 if truth.ring3 else BASE
        changed = frozenset(name for name in names if getattr(truth, name) != getattr(parent, name))
        assert len(changed) == (variant not in ("base", "ring3")) or changed in together, variant
    assert len(set(map(repr, VARIANTS.values()))) == len(VARIANTS)


@pytest.mark.parametrize("variant", HOSTILE)
def test_hostile_guests_do_what_they_are_for(variant: str) -> None:
    with process(kernel(variant)) as (running, machine):
        if variant == "triplefault":
            assert running.wait(20) == 0
        elif variant == "flood":
            assert machine.serial.read(1) == b"A"
            read = 0
            while read < 200_000:
                read += len(machine.serial.read(65536))
        else:
            entered = wait_for_entry(machine)
            if variant == "never":
                assert entered["HLT"] == 1
                return
            own = entered["CR3"]
            table = [int(word, 16) for word in machine.monitor(f"xp /2gx {own:#x}").split()[1:]]
            if variant == "cyclic":
                assert table[1] & ~0xFFF == own
            elif variant == "everywhere":
                assert [entry & ~0xFFF for entry in table] == [own + 0x1000] * 2
            else:
                assert variant == "toggling"
                paged = {machine.registers()["CR0"] >> 31 for _ in range(3000)}
                assert paged == {0, 1}


def wait_for_entry(machine: Machine) -> dict[str, int]:
    """The registers once the firmware has handed over to code of ours, at 1 MiB."""
    for _ in range(2000):
        seen = machine.registers()
        if seen.get("EIP", 0) >> 12 in (0x100, 0x101) and (seen["HLT"] or seen["CR3"]):
            return seen
    raise AssertionError("the guest was not entered")
