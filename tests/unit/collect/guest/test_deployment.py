"""From what an image shows to what is measured: what is seen is observed, the rest is assumed."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ringfence.model.deployment import Condition, Deployment
from ringfence.model.evidence import Grade
from ringfence.model.need import State
from ringfence.model.position import Level
from tests.unit.collect.guest.reading import placed
from tests.unit.collect.guest.samples import (
    BASE,
    PVH,
    R,
    W,
    X,
    bzimage,
    elf,
    nanos_disk,
    note,
    pe,
    solo5_abi,
    solo5_manifest,
)

WX = ((R | W | X, BASE, 0x1000),)
NET = solo5_manifest(("service", 2))
WRITABLE = "code:writable-executable"
LINUX = elf(
    sections={".init.text": b"\0"}, contents=b"Linux version 6.1.0 (a@b) (c) #1\0", loads=WX
)


def grade(condition: Condition) -> Grade:
    return condition.evidence[0].grade


def state(deployment: Deployment, name: str) -> tuple[State, Grade]:
    condition = deployment.condition(name, Level.USER)
    return condition.state, grade(condition)


@pytest.mark.parametrize(
    ("target", "template", "ring"),
    [(1, "solo5-hvt", 0), (2, "solo5-spt", 3), (3, "solo5-virtio", 0)],
)  # fmt: skip
def test_the_target_of_solo5_decides_the_template(
    target: int, template: str, ring: int, tmp_path: Path
) -> None:
    found = placed(elf(notes=solo5_abi(target) + NET), tmp_path)
    assert any(f"measured as {template} " in text for text in found.notes)
    assert found.ring == ring


def test_segments_decide_where_the_loader_obeys_them(tmp_path: Path) -> None:
    observed = (State.CLOSED, Grade.OBSERVED)
    assert state(placed(elf(notes=solo5_abi(2) + NET), tmp_path), WRITABLE) == observed
    # hvt maps the guest without NX on Linux: segments alone prove nothing there.
    assert state(placed(elf(notes=solo5_abi(1) + NET), tmp_path), WRITABLE)[1] is Grade.ASSUMED


@pytest.mark.parametrize("target", [1, 2, 3])
def test_a_segment_with_both_rights_is_open_whatever_the_template_says(
    target: int, tmp_path: Path
) -> None:
    found = placed(elf(loads=WX, notes=solo5_abi(target) + NET), tmp_path)
    assert state(found, WRITABLE) == (State.OPEN, Grade.OBSERVED)
    source = found.condition(WRITABLE, Level.USER).evidence[0].source
    assert source.endswith(f"@{64 + 2 * 56:#x}")  # behind the headers


def test_the_segments_of_linux_say_nothing_of_its_programs(tmp_path: Path) -> None:
    found = placed(bzimage(payload=gzip.compress(LINUX)), tmp_path)
    assert state(found, WRITABLE)[1] is Grade.ASSUMED
    assert found.ring == 3


def test_the_stack_protector(tmp_path: Path) -> None:
    def canary(*symbols: str) -> tuple[State, Grade]:
        data = elf(notes=solo5_abi(1) + NET, symbols=symbols)
        return state(placed(data, tmp_path), "code:no-canary")

    assert canary("__stack_chk_fail") == (State.CLOSED, Grade.OBSERVED)
    assert canary("main") == (State.OPEN, Grade.OBSERVED)
    assert canary() == (State.CLOSED, Grade.ASSUMED)


def test_languages(tmp_path: Path) -> None:
    def unsafe(*symbols: str) -> tuple[State, Grade]:
        data = elf(notes=solo5_abi(1) + NET, symbols=symbols)
        return state(placed(data, tmp_path), "code:memory-unsafe")

    assert unsafe("caml_main") == (State.CLOSED, Grade.OBSERVED)
    assert unsafe("caml_main", "__cxa_throw") == (State.OPEN, Grade.OBSERVED)
    assert unsafe("main") == (State.UNKNOWN, Grade.ASSUMED)


def test_a_movable_image_keeps_what_its_template_says_of_randomisation(tmp_path: Path) -> None:
    hermit = note("HERMIT", 0x5A00, b"\x04")
    name = "code:fixed-address"
    assert state(placed(elf(notes=hermit, kind=3), tmp_path), name) == (State.CLOSED, Grade.ASSUMED)
    assert state(placed(elf(notes=hermit, kind=2), tmp_path), name) == (State.OPEN, Grade.OBSERVED)


def test_without_a_network_device_nothing_comes_in(tmp_path: Path) -> None:
    block = elf(notes=solo5_abi(1) + solo5_manifest(("storage", 1)))
    assert placed(block, tmp_path).entry_points == ()
    unsaid = elf(notes=solo5_abi(1))
    for data in (elf(notes=solo5_abi(1) + NET), unsaid):
        assert [point.id for point in placed(data, tmp_path).entry_points] == ["tcp:unstated"]


def test_the_calls_of_a_solo5_process_follow_its_devices(tmp_path: Path) -> None:
    def calls(*devices: tuple[str, int]) -> int | None:
        data = elf(notes=solo5_abi(2) + solo5_manifest(*devices))
        return placed(data, tmp_path).counts["system_calls"].value

    assert calls() == 6
    assert calls(("a", 2)) == 8
    assert calls(("a", 2), ("b", 2), ("c", 1)) == 10


def test_an_unknown_kernel_is_the_worst_of_what_it_could_be(tmp_path: Path) -> None:
    found = placed(elf(notes=PVH, symbols=("__stack_chk_fail",)), tmp_path)
    assert found.ring == 0
    for name in ("ring:0", "code:no-canary", "code:memory-unsafe", "kernel:smep-off"):
        assert state(found, name) == (State.UNKNOWN, Grade.ASSUMED), name
    assert state(found, "code:fixed-address") == (State.OPEN, Grade.OBSERVED)
    assert found.notes[0].startswith("unknown kernel (ELF)")


def test_the_paging_of_unikraft_is_read_from_its_symbols(tmp_path: Path) -> None:
    def template(**parts: tuple[str, ...]) -> str:
        data = elf(sections={".uk_inittab": b"\0"}, **parts)  # type: ignore[arg-type]
        notes = placed(data, tmp_path).notes
        return next(text for text in notes if "measured as" in text).split()[5]

    assert template(symbols=("ukplat_paging_init",)) == "unikraft-paging"
    assert template(symbols=("main",)) == "unikraft"
    assert template() == "unikraft"


@pytest.mark.parametrize(
    ("word", "name", "expected"),
    [("mitigations=off", "kernel:mitigations-off", State.OPEN),
     ("nosmap", "kernel:smap-off", State.OPEN),
     ("lockdown=integrity", "kernel:lockdown-off", State.CLOSED),
     ("module.sig_enforce", "kernel:modules-unsigned", State.CLOSED)],
)  # fmt: skip
def test_words_of_a_command_line_are_declared(
    word: str, name: str, expected: State, tmp_path: Path
) -> None:
    def image(line: str) -> bytes:
        kernel = bzimage(payload=gzip.compress(LINUX))
        return pe({".cmdline": (0, line.encode()), ".linux": (0, kernel)})

    assert state(placed(image(f"quiet {word} ro"), tmp_path), name) == (expected, Grade.DECLARED)
    assert state(placed(image(f"quiet x{word} ro"), tmp_path), name)[1] is Grade.ASSUMED


def test_nanos_runs_its_program_in_ring_3(tmp_path: Path) -> None:
    found = placed(nanos_disk(), tmp_path)
    assert found.ring == 3
    assert found.kernel_zone == "system"
    assert state(found, "ring:0")[0] is State.CLOSED
