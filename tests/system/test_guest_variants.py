"""Each variant of our own guest is examined, and the report says what is true of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.guests.build import VARIANTS, Truth, kernel
from tests.system.guests import ask_on_serial, examined, values

pytestmark = pytest.mark.system

AREAS = ("code", "stack", "heap")


@pytest.fixture(scope="module", params=VARIANTS)
def seen(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Truth]:
    """A variant under load over two or three boots, and the truth about it."""
    truth = VARIANTS[request.param]
    boots = 3 if truth.randomised_bits.code else 2
    exercise = ask_on_serial("GET /", "200 hello")
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
    for name in ("wp", "nx", "smep", "smap", "umip"):
        assert facts[name] == getattr(truth, name), name


def test_rights_of_pages(seen: tuple[dict[str, Any], Truth]) -> None:
    facts, truth = seen
    assert facts["paging"] == "4-level"
    assert (facts["writable_executable_pages"] > 0) == truth.wx_pages
    assert (facts["writable_aliases_of_code"] > 0) == truth.wx_pages
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
