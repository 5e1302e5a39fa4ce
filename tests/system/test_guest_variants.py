"""Each variant of our own guest is examined, and the report says what is true of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from ringfence.collect.targets import collect
from ringfence.knowledge.loader import load
from ringfence.measure.judge import deployment_of
from tests.guests.build import VARIANTS, Truth, kernel
from tests.system.guests import ask_on_serial, examined, hurried, values

pytestmark = pytest.mark.system

AREAS = ("code", "stack", "heap")
KNOWLEDGE = load()


@pytest.fixture(scope="module", params=VARIANTS)
def seen(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Truth]:
    """A variant under load over two or three boots, and the truth about it."""
    truth = VARIANTS[request.param]
    boots = 3 if truth.randomised_bits.code else 2
    # What comes rarely takes as many samples as users get.
    rare = truth.helper
    exercise = ask_on_serial("GET /", "200 hello", 1.0 if rare else 0.3)
    with contextlib.nullcontext() if rare else hurried(100):
        found = examined(kernel(request.param), "--boots", boots, "--memory", "64m", "--exercise",
                         exercise)  # fmt: skip
    assert (found["boots"], found["ends"], found["unseen"]) == (boots, [], [])
    assert found["kernel"] == "unknown kernel"
    assert found["kind"] == ("multiboot ELF" if truth.multiboot else "PVH ELF")
    return values(found), truth


def test_rings(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, truth = seen
    assert (facts["ring3_share"] > 0) == truth.ring3
    assert facts["ring3_share"] + facts["ring0_share"] == pytest.approx(1, abs=0.001)
    assert (facts["halted_share"] > 0) == truth.sleeps
    if truth.sleeps:
        assert facts["ring3_share_before"] is None
    else:
        assert (facts["ring3_share_before"] > 0) == truth.ring3


def test_switches_of_the_processor(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, truth = seen
    for name in ("wp", "nx", "smep", "umip"):
        assert facts[name] == getattr(truth, name), name
    assert facts["smap"] == (truth.smap and not truth.lifted)
    assert facts["ring3_ports"] == (truth.user_ports if truth.ring3 else None)


def test_rights_of_pages(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, truth = seen
    assert facts["paging"] == "4-level"
    assert (facts["writable_executable_pages"] > 0) == truth.wx_pages
    assert (facts["writable_aliases_of_code"] > 0) == (truth.wx_pages or truth.aliased)
    tables = facts["user_writable_tables"]
    assert tables == 1 if truth.user_gdt else (tables > 0) == truth.user_tables
    assert facts["stack_executable"] == facts["heap_executable"] == truth.wx_pages
    assert (facts["user_pages"] > 0) == truth.ring3


def test_page_zero_and_guard(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, truth = seen
    assert facts["page_zero_mapped"] == truth.page_zero_mapped
    assert facts["stack_guard_page"] is truth.seen_guard


def test_randomised_bits(seen: tuple[dict[str, Any], Truth]) -> None:
    """At least so many: of 27 bits that are drawn, three boots show three values."""
    facts, truth = seen
    for area in AREAS:
        found = facts["randomised_bits"][f"user_{area}" if truth.ring3 else area]
        drawn = getattr(truth.randomised_bits, area)
        assert found == (1.5 if drawn else 0), area


def test_the_serial_line_is_what_it_drives(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, _ = seen
    touched = {one["name"]: one["serving"] for one in facts["devices"]}
    assert touched["serial"] > 0
    assert touched.get("ide", 0) == 0
    assert "isa-serial" in facts["devices_given"]


JUDGED = {
    "base": ("open", "closed", None),
    "ring3": ("closed", "closed", "closed"),
    "alias": ("open", "open", None),
    "ring3alias": ("closed", "open", "closed"),
    "usertables": ("open", "closed", "closed"),
    "usergdt": ("open", "closed", "closed"),
    "userports": ("open", "closed", "closed"),
    "lifted": ("closed", "closed", "open"),
    "helper": ("unknown", "closed", None),
}
"""Of a variant under load: whether the application may be in ring 0, code can be written, SMAP is
off where it was to be on."""


@pytest.mark.parametrize("variant", JUDGED)
def test_what_is_measured_of_it(variant: str, tmp_path: Path) -> None:
    rare = variant == "helper"
    with hurried(400 if rare else 40):
        exercise = ask_on_serial("GET /", "200 hello", 1.0 if rare else 0.2)
        found = examined(kernel(variant), "--boots", 1, "--memory", "64m", "--exercise",
                         exercise)  # fmt: skip
    path = tmp_path / "examined.json"
    path.write_text(json.dumps(found))
    deployment = deployment_of(collect(str(path), KNOWLEDGE), KNOWLEDGE)
    ring, code, smap = JUDGED[variant]
    assert str(deployment.conditions["ring:0"].state) == ring
    assert str(deployment.conditions["code:writable-executable"].state) == code
    if smap is not None:
        assert str(deployment.conditions["kernel:smap-off"].state) == smap
    assert deployment.ring == (3 if ring == "closed" else 0)
    if variant == "helper":
        assert 0 < values(found)["ring3_share"] < 0.4
