"""The same nginx in runc: engine-like defaults, privileged, confined."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.collect.seccomp.tables import native_calls
from ringfence.collect.targets import collect
from ringfence.knowledge.loader import load
from ringfence.measure.assemble import Asked, measure
from ringfence.measure.judge import deployment_of
from ringfence.model.facts import Facts
from ringfence.model.measurement import Measurement
from tests.command import ringfence
from tests.system import containers
from tests.system.conftest import open_to_others, program

pytestmark = pytest.mark.system
KNOWLEDGE = load()
NEWEST_OF_LIBSECCOMP = 448
"""process_mrelease, the newest call that Debian 12's libseccomp 2.5.4 knows."""
KINDS = ("defaults", "privileged", "confined")


def measured(facts: Facts) -> Measurement:
    asked = Asked(KNOWLEDGE.scales["classic"], start="internet", plan=False)
    return measure(facts.target, deployment_of(facts, KNOWLEDGE), KNOWLEDGE, asked)


@pytest.fixture(scope="module")
def bundles(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    program("runc")
    place = tmp_path_factory.mktemp("bundles")
    open_to_others(place)
    configuration = place / "nginx.conf"
    configuration.write_text(containers.NGINX)
    defaults = containers.engine_defaults(rootfs, configuration)
    configs = {
        "defaults": defaults,
        "privileged": containers.privileged(defaults),
        "confined": containers.confined(defaults),
    }
    return {name: containers.bundle(place / name, config) for name, config in configs.items()}


@pytest.fixture(scope="module")
def live(bundles: dict[str, Path]) -> Iterator[dict[str, tuple[Facts, Measurement]]]:
    found = {}
    for kind in KINDS:
        with containers.running(bundles[kind]) as (name, _):
            facts = collect(name, KNOWLEDGE)
            found[kind] = (facts, measured(facts))
    yield found


Live = dict[str, tuple[Facts, Measurement]]


def ids(result: Measurement) -> set[str]:
    return {vector.id for vector in result.vectors if vector.steps is not None}


def test_they_come_out_in_order_of_depth(live: Live) -> None:
    confined, defaults, privileged = (
        live[kind][1].surface.total for kind in ("confined", "defaults", "privileged")
    )
    assert confined < defaults < privileged
    assert ids(live["confined"][1]) < ids(live["defaults"][1]) < ids(live["privileged"][1])


def test_the_confined_one_leaves_the_core_system_calls_alone(live: Live) -> None:
    result = live["confined"][1]
    escalations = {name for name in ids(result) if not name.startswith(("tcp:", "device-"))}
    assert escalations == {"core-system-calls"}


def test_the_report_names_the_fact_that_made_each_difference(live: Live) -> None:
    closed = {vector.id: vector for vector in live["confined"][1].closed}
    for name in ids(live["defaults"][1]) - ids(live["confined"][1]):
        assert closed[name].evidence, name
        assert closed[name].held_by, name


def test_privileged_opens_what_only_privilege_opens(live: Live) -> None:
    opened = ids(live["privileged"][1]) - ids(live["defaults"][1])
    assert {"io-uring", "disks", "capability-sys-admin", "usermode-helper-core-pattern"} <= opened


def test_an_engine_s_device_rules_and_the_image_s_sudo_rules_are_read(live: Live) -> None:
    """An image without sudo has no sudo rule; a node made under an engine's defaults opens not."""
    ends = {kind: {vector.id for vector in live[kind][1].closed} for kind in KINDS}
    for kind in KINDS:
        assert "sudo-rule" not in ids(live[kind][1]), kind
    assert "device-nodes-made" in ends["defaults"] - ids(live["defaults"][1])
    assert "device-nodes-made" in ids(live["privileged"][1])
    _, defaults = live["defaults"]
    assert defaults.zero_days_to_admin.system == 2
    told = " ".join(item.what for item in defaults.unseen)
    assert "mac:no-landlock" in told
    assert "devices-absent" not in told


def test_userfaultfd_is_told_where_it_is_open_and_where_not(live: Live) -> None:
    weights = {item.id: item.weight for item in live["privileged"][1].vectors}
    assert weights["userfaultfd"] == 0
    assert "userfaultfd" in {item.id for item in live["defaults"][1].closed}


def test_the_confined_bundle_is_no_deeper_than_what_runs(
    live: Live, bundles: dict[str, Path]
) -> None:
    described = measured(collect(str(bundles["confined"]), KNOWLEDGE))
    assert described.profile[1] == live["confined"][1].profile[1]


def test_the_worker_handles_the_bytes_not_the_master(live: Live) -> None:
    facts, result = live["defaults"]
    master, *workers = facts.processes
    point = result.entry_points[0]
    assert point.port == 8080
    assert point.handler.pid in {worker.pid for worker in workers}
    assert point.handler.user == "www-data"
    assert master.credentials.value is not None
    assert master.credentials.value.uid == 0


def test_a_container_has_zones_of_its_own(live: Live) -> None:
    for _, result in live.values():
        assert result.deployment.zones[0] == "container"
        assert result.target.kind == "container"


def test_the_seccomp_filter_of_the_live_process_is_that_of_the_configuration(
    live: Live, bundles: dict[str, Path]
) -> None:
    described = collect(str(bundles["confined"]), KNOWLEDGE)
    declared = described.processes[0].seccomp.value
    observed = live["confined"][0].processes[0].seccomp.value
    assert declared is not None
    assert observed is not None
    for name, verdict in declared.calls.items():
        # A name newer than runc's libseccomp is left out of the filter: only the live one tells.
        if native_calls()[name] <= NEWEST_OF_LIBSECCOMP:
            assert observed.calls[name].actions == verdict.actions, name
    for question, verdict in declared.asked.items():
        assert observed.asked[question].actions == verdict.actions, question


def test_a_bundle_is_measured_before_it_runs(live: Live, bundles: dict[str, Path]) -> None:
    totals = {}
    for kind in KINDS:
        result = measured(collect(str(bundles[kind]), KNOWLEDGE))
        totals[kind] = result.surface.total
        assert result.target.kind == "bundle"
        assert result.evidence_coverage.observed < 1
    assert totals["confined"] < totals["defaults"] < totals["privileged"]


def test_a_secret_in_the_environment_is_named_and_never_shown(live: Live) -> None:
    import msgspec

    facts, result = live["defaults"]
    text = msgspec.json.encode(facts) + msgspec.json.encode(result)
    assert b"API_TOKEN" in text
    assert b"do-not-print-me" not in text


def test_the_comparison_names_the_fact_that_made_each_difference(
    bundles: dict[str, Path],
) -> None:
    done = ringfence("compare", *bundles.values(), "--targets-only", "--format", "json")
    result = json.loads(done.out)
    names = [item["deployment"]["name"] for item in result["measurements"]]
    defaults, privileged, confined = names
    assert result["order"] == [confined, defaults, privileged]
    found = {item["vector"]: item for item in result["differences"]}
    assert "io-uring" in found
    assert "io_uring_setup: errno 1" in found["io-uring"]["closed_by"][defaults]["detail"]
    assert set(found["io-uring"]["weights"]) == {privileged}
    setuid = found["setuid-programs"]
    assert set(setuid["weights"]) == {defaults, privileged}
    assert setuid["closed_by"][confined]["detail"] == "process.noNewPrivileges True"
    for item in found.values():
        assert set(item["weights"]) < set(names)
        assert not set(item["weights"]) & set(item["closed_by"])


LISTENS = "use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 1, LocalPort => 7777); sleep"


def test_what_the_engine_started_in_it_later_belongs_to_it(bundles: dict[str, Path]) -> None:
    with containers.running(bundles["confined"]) as (name, _):
        before = collect(name, KNOWLEDGE)
        run = [program("runc"), "exec", "-d", "-u", "0:0", name, "perl", "-e", LISTENS]
        subprocess.run(run, check=True, timeout=30, stdout=subprocess.DEVNULL)
        for _ in range(100):
            after = collect(name, KNOWLEDGE)
            if any(item.port == 7777 for item in after.listeners):
                break
            time.sleep(0.05)
    assert {item.port for item in after.listeners} - {item.port for item in before.listeners} == {
        7777
    }
    added = {process.program for process in after.processes[len(before.processes) :]}
    assert added == {"perl"}
    assert after.processes[0].pid == before.processes[0].pid


def test_elf_files_are_counted_where_they_are_looked_into(
    live: Live, bundles: dict[str, Path]
) -> None:
    running = live["defaults"][1]
    assert running.counts["elf"].value is None
    assert any("ELF files" in item.what for item in running.unseen)
    resting = measured(collect(str(bundles["defaults"]), KNOWLEDGE))
    assert (resting.counts["elf"].value or 0) > 500
    assert not any("ELF files" in item.what for item in resting.unseen)
