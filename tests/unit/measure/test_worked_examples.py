"""The worked examples of docs/measure.md, to the digit, from the files in examples/."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.collect.targets import collect
from ringfence.knowledge.loader import load
from ringfence.measure.assemble import Asked, compare, measure
from ringfence.measure.judge import deployment_of
from ringfence.model.deployment import Means
from ringfence.model.measurement import Comparison, Measurement, ZeroDays
from ringfence.model.position import Level, Position

EXAMPLES = Path(__file__).parents[3] / "examples"
KNOWLEDGE = load()


def measured(name: str, scale: str = "classic") -> Measurement:
    facts = collect(str(EXAMPLES / f"{name}.toml"), KNOWLEDGE)
    asked = Asked(KNOWLEDGE.scales[scale], plan=False)
    return measure(facts.target, deployment_of(facts, KNOWLEDGE), KNOWLEDGE, asked)


def weights(result: Measurement) -> list[float]:
    return sorted(vector.weight for vector in result.vectors)


def test_example_1_general_purpose_server() -> None:
    result = measured("1-general-purpose-server")
    assert weights(result) == [1, 5, 10]
    assert result.surface.total == 16
    assert result.zero_days_to_admin.system == 2
    assert result.profile[1] == Position("system", Level.USER)
    assert result.profile[2] == Position("system", Level.ADMIN)


def test_example_2_unikernel_has_fewer_vectors_and_a_larger_surface() -> None:
    result = measured("2-unikernel")
    assert weights(result) == [1, 100]
    assert result.surface.total == 101
    assert result.zero_days_to_admin == ZeroDays(system=1, machine=None)


def test_example_2_with_one_channel_to_the_machine() -> None:
    result = measured("2-unikernel-with-channel")
    assert weights(result) == [1, 10, 100]
    assert result.surface.total == 111
    assert result.surface.by_zone["machine"] == 10
    assert result.zero_days_to_admin == ZeroDays(system=1, machine=2)


def test_example_3_minimal_container() -> None:
    result = measured("3-minimal-container")
    assert weights(result) == [1, 5, 10]
    assert result.surface.total == 16
    assert result.zero_days_to_admin == ZeroDays(system=2, machine=2)
    assert result.blast_radius[1] == ("the service's data",)


def test_example_4_privileged_container_with_the_engine_socket() -> None:
    result = measured("4-privileged-container")
    assert result.profile[1] == Position("machine", Level.ADMIN)
    assert result.zero_days_to_admin.machine == 1
    socket = next(item for item in result.vectors if item.id == "engine-socket-docker")
    assert socket.means is Means.MISCONFIGURATION
    assert socket.steps == 1
    assert all(vector.evidence for vector in result.vectors)


def test_example_5_virtual_machine_with_four_devices() -> None:
    result = measured("5-virtual-machine")
    assert weights(result) == [1, 1, 1, 1, 1, 5, 10]
    assert result.surface.total == 20
    assert result.surface.by_zone["machine"] == 4
    assert result.zero_days_to_admin == ZeroDays(system=2, machine=3)


@pytest.mark.parametrize(
    ("name", "surface"),
    [
        ("1-general-purpose-server", 16),
        ("2-unikernel-with-channel", 21),
        ("5-virtual-machine", 11),
        ("3-minimal-container", 16),
    ],
)
def test_example_6_under_assets(name: str, surface: float) -> None:
    assert measured(name, "assets").surface.total == surface


def compared(scale: str) -> Comparison:
    names = ("1-general-purpose-server", "2-unikernel-with-channel", "3-minimal-container",
             "5-virtual-machine")  # fmt: skip
    facts = [collect(str(EXAMPLES / f"{name}.toml"), KNOWLEDGE) for name in names]
    placed = [(item.target, deployment_of(item, KNOWLEDGE)) for item in facts]
    return compare(placed, KNOWLEDGE, Asked(KNOWLEDGE.scales[scale], plan=False))


def test_example_6_the_order_changes_and_the_report_says_why() -> None:
    result = compared("classic")
    orders = result.sensitivity.orders
    assert orders["classic"][-1] == "unikernel with a channel"
    assert orders["classic"].index("virtual machine") == 2
    assert orders["assets"][0] == "virtual machine"
    assert orders["classic"] != orders["assets"]
    assert any("assets" in reason for reason in result.sensitivity.reasons)
    assert 0 < result.sensitivity.holds < 1


def test_the_scale_gives_back_the_published_numbers() -> None:
    """Leak 1, code as the user 5, from there to root 10, one remote step to ring 0 100."""
    assert weights(measured("1-general-purpose-server")) == [1, 5, 10]
    assert max(weights(measured("2-unikernel"))) == 100
