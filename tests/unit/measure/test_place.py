"""Placing a service: what is its own stays, what encloses it is replaced, what is lost is said."""

from __future__ import annotations

import msgspec
import pytest

from ringfence.knowledge.loader import load
from ringfence.measure.mechanisms import describe
from ringfence.measure.openings import landing
from ringfence.measure.place import place
from ringfence.model.deployment import (
    Boundary,
    BoundaryKind,
    Condition,
    Count,
    Deployment,
    EntryPoint,
    Handler,
    Reach,
    Switch,
    Zone,
)
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.need import State
from ringfence.model.position import Level, Position

KNOWLEDGE = load()
SEEN = Evidence(Grade.OBSERVED, "/proc/1/status")


def said(state: State, grade: Grade = Grade.OBSERVED) -> Condition:
    return Condition(state, (Evidence(grade, "test"),))


def service(level: Level = Level.USER, **conditions: Condition) -> Deployment:
    """A server whose worker handles the bytes and whose master is root."""
    point = EntryPoint("tcp:80", "tcp", Reach.INTERNET, Handler(level, SEEN, "web"), (SEEN,))
    states = {
        "process:root-user": said(State.OPEN),
        "process:root-id": said(State.CLOSED),
        "process:effective-capabilities": said(State.OPEN),
        "process:privileged-parent": said(State.OPEN),
        **{name.replace("__", ":").replace("_", "-"): state for name, state in conditions.items()},
    }
    return Deployment(
        name="web",
        zones=(Zone("system"),),
        kernel_zone="system",
        ring=3,
        boundaries=(Boundary(BoundaryKind.PROCESS, "system"),),
        entry_points=(point,),
        conditions=states,
        admin_conditions={},
        default=said(State.UNKNOWN),
    )


def placed(template: str, item: Deployment) -> Deployment:
    return place(item, KNOWLEDGE.templates[template], KNOWLEDGE)


@pytest.mark.parametrize("template", ["server", "vm", "container-default"])
def test_separation_is_kept_where_it_can_be_carried(template: str) -> None:
    result = placed(template, service())
    assert result.condition("process:privileged-parent", Level.USER).state is State.OPEN
    assert landing(result.entry_points[0], result).level is Level.USER
    assert not any("separation" in note and "lost" in note for note in result.notes)


@pytest.mark.parametrize("template", ["unikernel", "osv", "solo5-hvt"])
def test_separation_is_lost_in_ring_0_and_the_report_says_so(template: str) -> None:
    result = placed(template, service())
    assert landing(result.entry_points[0], result) == Position("system", Level.ADMIN)
    assert any("separation between processes is lost" in note for note in result.notes)


def test_a_service_without_separation_loses_none() -> None:
    alone = service(process__privileged_parent=said(State.CLOSED))
    assert not any("is lost" in note for note in placed("unikernel", alone).notes)


def test_measured_facts_win_where_the_template_keeps_them() -> None:
    for state in (State.OPEN, State.CLOSED):
        result = placed("server", service(file__setuid=said(state)))
        assert result.conditions["file:setuid"] == said(state)


KERNELS = {
    "measured": "bare-metal server container-default container-privileged container-minimal",
    "alike": "vm vm-hardened microvm container-in-vm",
}
OF_THE_KERNEL = ("feature:af-key", "sysctl:kernel.kptr_restrict<=0", "kernel:lockdown-off")


@pytest.mark.parametrize("template", KNOWLEDGE.templates)
@pytest.mark.parametrize("state", [State.OPEN, State.CLOSED])
def test_facts_of_the_measured_kernel_are_observed_where_it_runs_alone(
    template: str, state: State
) -> None:
    """In a machine of its own another kernel runs: at most one that is supposed to be alike."""
    names = {kernel: names.split() for kernel, names in KERNELS.items()}
    plain = placed(template, service())
    measured = {name: said(state) for name in OF_THE_KERNEL}
    item = service()
    found = placed(template, msgspec.structs.replace(item, conditions=item.conditions | measured))
    kept = [
        name
        for name in OF_THE_KERNEL
        if found.conditions[name] != plain.condition(name, Level.USER)
    ]
    assert bool(kept) == any(template in known for known in names.values())
    for name in kept:
        (evidence,) = found.conditions[name].evidence
        assert found.conditions[name].state is state
        if template in names["measured"]:
            assert found.conditions[name] == measured[name]
        else:
            assert evidence.grade is Grade.ASSUMED and "supposed" in evidence.detail
            assert evidence.source == f"deployments/{template}.toml"


@pytest.mark.parametrize("template", KERNELS["alike"].split())
def test_a_kernel_that_is_supposed_to_be_alike_is_told(template: str) -> None:
    assert any(
        "supposed to run a kernel like" in note for note in placed(template, service()).notes
    )
    assert not any("supposed to run" in note for note in placed("server", service()).notes)


def test_system_calls_are_those_of_the_same_kernel() -> None:
    calls = Count(370, Evidence(Grade.OBSERVED, "/proc/1/status"))
    item = msgspec.structs.replace(
        service(seccomp__absent=said(State.OPEN)), counts={"system_calls": calls}
    )
    assert placed("server", item).counts["system_calls"] == calls
    count = placed("vm", item).counts["system_calls"]
    assert (count.value, count.evidence.grade) == (370, Grade.ASSUMED)


def test_what_was_only_assumed_does_not_win() -> None:
    result = placed("server", service(file__setuid=said(State.CLOSED, Grade.ASSUMED)))
    assert result.conditions["file:setuid"].state is State.OPEN


def test_whatever_a_template_supplies_is_assumed_and_names_the_template() -> None:
    result = placed("container-default", service())
    own = set(service().conditions)
    for name, condition in result.conditions.items():
        if name not in own:
            assert {item.grade for item in condition.evidence} == {Grade.ASSUMED}, name
            assert all("container-default" in item.source for item in condition.evidence)


def test_entry_points_and_their_reach_stay() -> None:
    item = service()
    for template in KNOWLEDGE.templates:
        result = placed(template, item)
        assert [point.id for point in result.entry_points] == ["tcp:80"]
        assert result.entry_points[0].evidence == item.entry_points[0].evidence


def test_a_root_service_stays_root_where_the_deployment_lets_it() -> None:
    root = service(Level.ADMIN)
    assert landing(placed("server", root).entry_points[0], placed("server", root)).level is (
        Level.ADMIN
    )
    minimal = placed("container-minimal", root)
    assert landing(minimal.entry_points[0], minimal).level is Level.USER


def test_root_without_capabilities_in_a_container_lands_on_the_user() -> None:
    root = service(Level.ADMIN)
    contained = msgspec.structs.replace(
        root,
        zones=(Zone("container"), Zone("machine")),
        kernel_zone="machine",
        conditions={**root.conditions, "process:effective-capabilities": said(State.CLOSED)},
    )
    assert landing(contained.entry_points[0], contained).level is Level.USER


def test_counts_of_the_service_alone_and_of_what_surrounds_it() -> None:
    seen = Evidence(Grade.OBSERVED, "/proc/*/maps")
    numbers = {"files": 100_000, "bytes": 4_000_000, "service_files": 11, "service_bytes": 900}
    counts = {name: Count(value, seen) for name, value in numbers.items()}
    item = msgspec.structs.replace(service(), counts=counts)
    server, minimal = placed("server", item).counts, placed("container-minimal", item).counts
    assert (server["files"].value, server["bytes"].value) == (100_000, 4_000_000)
    assert (minimal["files"].value, minimal["bytes"].value) == (11, 900)
    assert "files" not in placed("unikernel", item).counts


def states(template: str) -> dict[str, Switch]:
    lines = describe(placed(template, service()), KNOWLEDGE)
    return {item.id: item.state for line in lines for item in line.mechanisms}


def test_a_mechanism_that_nobody_stated_is_unknown_not_on() -> None:
    """A template's default decides vectors; it is no claim about secure boot or the program."""
    for template in ("container-default", "server", "vm"):
        found = states(template)
        for name in ("secure-boot", "measured-boot", "memory-safe-runtime", "stack-protector"):
            assert found[name] is Switch.UNKNOWN, (template, name)


def test_a_mechanism_that_a_template_states_is_on_or_off() -> None:
    found = states("container-default")
    assert found["pid-namespace"] is Switch.ON
    assert found["user-namespace"] is Switch.OFF
    assert found["no-engine-socket"] is Switch.ON
    assert found["seccomp-default-deny"] is Switch.PARTIAL
    assert states("container-minimal")["seccomp-default-deny"] is Switch.ON
