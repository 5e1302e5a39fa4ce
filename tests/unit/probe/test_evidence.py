"""From attempts to the measure: what was tried closes and proves, and never speaks for others."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.knowledge.loader import load
from ringfence.measure.openings import find
from ringfence.measure.surface import View, total
from ringfence.model.deployment import Condition, Deployment, Zone
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.probe.battery import PROBES
from ringfence.probe.definition import Outcome, Seen
from ringfence.probe.evidence import conditions, with_probed
from ringfence.probe.probing import Probed
from ringfence.probe.record import SCHEMA, Attempt, ProbeReport, ProbeTarget
from tests.unit.measure.strategies import deployments

KNOWLEDGE = load()
TARGET = ProbeTarget("process", "7", 7, "web", "join")
BY_ID = {probe.id: probe for probe in PROBES}


Calls = dict[str, frozenset[str]]
NONE: Calls = {}


def probed(*attempts: tuple[str, str, str], admin: bool = False, tried: Calls = NONE) -> Probed:
    """What came of (id, seen, stopped by), and the calls that were made."""
    rows = tuple(
        Attempt(name, BY_ID[name].group, "", State.UNKNOWN, Seen(seen), by, "", "T1068", "")
        for name, seen, by in attempts
    )
    report = ProbeReport(SCHEMA, TARGET, rows, (), {}, (), (), 0.0)
    return Probed(admin, report, tuple(BY_ID[name] for name, _, _ in attempts), tried)


def settled(*attempts: tuple[str, str, str], tried: Calls = NONE) -> dict[str, State]:
    """What these attempts settle."""
    found = conditions(probed(*attempts, tried=tried), KNOWLEDGE)
    return {name: condition.state for name, condition in found.items()}


def test_open_and_closed_become_conditions_with_their_attempt_as_evidence() -> None:
    found = conditions(probed(("call.bpf", "closed", "seccomp (errno 1)"),
                              ("capability.net-raw", "open", "")), KNOWLEDGE)  # fmt: skip
    assert found["syscall:bpf"].state is State.CLOSED
    assert found["nscap:CAP_NET_RAW"].state is State.OPEN
    evidence = found["syscall:bpf"].evidence[0]
    assert evidence.grade is Grade.PROBED and "call.bpf" in evidence.source
    assert "seccomp" in evidence.detail


def test_a_filter_says_nothing_of_a_capability() -> None:
    """Its call was refused; another call would use the capability all the same."""
    closed = ("capability.sys-pacct", "closed", "seccomp (errno 1)")
    assert "cap:CAP_SYS_PACCT" not in settled(closed)
    lacking = ("capability.sys-pacct", "closed", "capability CAP_SYS_PACCT")
    assert settled(lacking)["cap:CAP_SYS_PACCT"] is State.CLOSED


FILTER, KERNEL = "seccomp (errno 1, operation not permitted)", "kernel (credentials or a setting)"
WAYS = frozenset({"unshare", "clone", "clone3"})


def test_a_filter_says_nothing_of_what_is_behind_its_calls() -> None:
    """Other calls lead there, or other arguments: the calls' own attempts say which."""
    closed = settled(("kernel.bpf", "closed", FILTER), ("file.docker-socket", "closed", FILTER),
                     ("network.metadata", "closed", FILTER), ("call.bpf", "closed", FILTER),
                     tried={"kernel.bpf": frozenset({"bpf"})})  # fmt: skip
    assert closed == {"syscall:bpf": State.CLOSED}
    others = settled(("kernel.bpf", "closed", KERNEL), ("network.metadata", "closed", "no route"),
                     ("file.docker-socket", "closed", "file mode"))  # fmt: skip
    assert others == dict.fromkeys(
        ("probe:bpf", "path:docker-socket", "net:metadata-reachable"), State.CLOSED)  # fmt: skip


def test_nothing_but_a_filter_closes_a_call() -> None:
    assert settled(("namespace.mount", "closed", "capability CAP_SYS_ADMIN")) == {}
    assert settled(("namespace.mount", "closed", FILTER)) == {"syscall:mount": State.CLOSED}


def test_an_opening_is_closed_where_every_way_to_it_was_tried() -> None:
    one = ("kernel.keyrings", "closed", KERNEL)
    every = frozenset({"keyctl", "add_key", "request_key"})
    assert settled(one, tried={one[0]: every}) == {"probe:keyrings": State.CLOSED}
    for left in every:
        tried = {one[0]: every - {left}}
        assert settled(one, tried=tried) == {}
        # The way that is left is none where the call's own attempt says so.
        refused = settled(one, (f"call.{left}", "closed", FILTER), tried=tried)
        assert refused["probe:keyrings"] is State.CLOSED
        passes = settled(one, (f"call.{left}", "open", ""), tried=tried)
        assert "probe:keyrings" not in passes


def test_a_file_is_another_way_than_a_call() -> None:
    call = ("kernel.userfaultfd", "closed", "capability CAP_SYS_PTRACE")
    tried = {call[0]: frozenset({"userfaultfd"})}
    device = "file.dev-userfaultfd"
    assert "probe:userfaultfd" not in settled(call, (device, "open", ""), tried=tried)
    absent = settled(call, (device, "closed", "missing file"), tried=tried)
    assert absent["probe:userfaultfd"] is State.CLOSED


def test_a_user_namespace_is_another_way_than_ones_own_privilege() -> None:
    own = ("kernel.nf-tables", "closed", "capability CAP_NET_ADMIN")
    within = "namespace.netfilter-in-user"
    assert settled(own) == {}
    assert settled(own, (within, "open", "")) == {"probe:nf-tables": State.OPEN}
    assert settled(own, (within, "unsupported", "")) == {}
    assert settled(own, (within, "closed", FILTER)) == {}
    closed = settled(own, (within, "closed", KERNEL), tried={within: WAYS})
    assert closed == {"probe:nf-tables": State.CLOSED}
    assert settled(own, (within, "closed", KERNEL), tried={within: WAYS - {"clone"}}) == {}


METADATA = [probe.id for probe in PROBES if "net:metadata-reachable" in probe.rules_out]


def test_a_way_to_metadata_is_no_service_and_no_way_is_none() -> None:
    """An open way settles nothing of whether a cloud is there; all ways closed do."""
    name = "net:metadata-reachable"
    every = [(one, "closed", "no route") for one in METADATA]
    assert len(every) > 3
    assert settled(*every)[name] is State.CLOSED
    absent = (METADATA[0], "unsupported", "kernel without the feature")
    assert settled(absent, *every[1:])[name] is State.CLOSED
    for other in ((METADATA[0], "open", ""), (METADATA[0], "unsupported", ""),
                  (METADATA[0], "closed", "limit"), (METADATA[0], "closed", FILTER)):  # fmt: skip
        assert name not in settled(other, *every[1:])


def test_what_the_kernel_does_not_have_is_no_way_in() -> None:
    absent = ("kernel.keyrings", "unsupported", "kernel without the feature")
    tried = {"kernel.keyrings": frozenset({"keyctl", "add_key", "request_key"})}
    assert settled(absent, tried=tried)["probe:keyrings"] is State.CLOSED
    untried = ("kernel.keyrings", "unsupported", "")
    assert "probe:keyrings" not in settled(untried, tried=tried)


SAID = Evidence(Grade.DECLARED, "test")
OPEN = Condition(State.OPEN, (SAID,))
PLAIN = Deployment(
    name="plain", zones=(Zone("system"),), kernel_zone="system", ring=3, boundaries=(),
    entry_points=(), conditions={"syscall:bpf": OPEN}, admin_conditions={}, default=OPEN,
)  # fmt: skip


@settings(max_examples=60)
@given(deployments(), st.sampled_from(["kernel.keyrings", "kernel.io-uring", "kernel.bpf"]))
def test_closing_by_a_probe_never_raises_a_surface(deployment: Deployment, name: str) -> None:
    closed = with_probed(deployment, (probed((name, "closed", "kernel")),), KNOWLEDGE)
    scale, start = KNOWLEDGE.scales["classic"], KNOWLEDGE.starts["internet"]
    before, after = (total(View(one, find(one, KNOWLEDGE).open, start), scale)
                     for one in (deployment, closed))  # fmt: skip
    assert after <= before


@settings(max_examples=60)
@given(deployments())
def test_an_opening_that_was_tried_rests_on_the_attempt(deployment: Deployment) -> None:
    every = msgspec.structs.replace(deployment, conditions={}, admin_conditions={}, default=OPEN)
    tried = with_probed(every, (probed(("kernel.keyrings", "open", "")),), KNOWLEDGE)
    for vector in find(tried, KNOWLEDGE).open:
        if vector.id == "keyrings" and vector.level is Level.USER:
            assert {item.grade for item in vector.evidence} == {Grade.PROBED}


def test_one_level_does_not_speak_for_the_other() -> None:
    user = with_probed(PLAIN, (probed(("kernel.bpf", "closed", "kernel")),), KNOWLEDGE)
    assert user.condition("probe:bpf", Level.USER).state is State.CLOSED
    assert user.condition("probe:bpf", Level.ADMIN).state is State.OPEN
    admin = with_probed(PLAIN, (probed(("call.bpf", "closed", "seccomp"), admin=True),), KNOWLEDGE)
    assert admin.condition("syscall:bpf", Level.USER) == PLAIN.condition("syscall:bpf", Level.USER)
    assert admin.condition("syscall:bpf", Level.ADMIN).state is State.CLOSED


def test_of_several_processes_the_widest_answer_counts() -> None:
    closed = probed(("call.bpf", "closed", "seccomp"), ("kernel.fanotify", "closed", "kernel"))
    open_ = probed(("call.bpf", "open", ""))
    assert with_probed(PLAIN, (closed,), KNOWLEDGE).conditions.keys() == {
        "syscall:bpf", "probe:fanotify"}  # fmt: skip
    both = with_probed(PLAIN, (closed, open_), KNOWLEDGE)
    assert both.condition("syscall:bpf", Level.USER).state is State.OPEN
    # The second was not asked about fanotify: nothing is closed on the word of one alone.
    assert "probe:fanotify" not in both.conditions


def test_the_outcome_of_a_probe_is_one_of_three() -> None:
    assert [item.value for item in Seen] == ["open", "closed", "unsupported"]
    assert Outcome(Seen.OPEN).tried is None
