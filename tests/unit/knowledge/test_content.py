"""What the knowledge base must hold, and how its entries hang together."""

from __future__ import annotations

import pytest

from ringfence.knowledge.loader import load
from ringfence.knowledge.records import Family
from ringfence.measure.conditions.registry import DECIDERS
from ringfence.model.need import leaves

KNOWLEDGE = load()
GROUPS = {
    "privilege-separation", "protection-rings", "protected-memory", "namespaces",
    "access-control", "execution-enforcement", "network-filtering", "audit", "logging",
    "integrity", "minimal-system", "limits", "machine-boundary", "kernel-settings",
}  # fmt: skip
NAMED = {
    "bare-metal", "server", "vm", "vm-hardened", "container-default", "container-privileged",
    "container-minimal", "container-in-vm", "gvisor", "microvm", "unikernel", "solo5-spt",
    "windows-service", "windows-container", "appliance",
}  # fmt: skip


def test_it_is_as_large_as_promised() -> None:
    assert len(KNOWLEDGE.mechanisms) >= 45
    assert len(KNOWLEDGE.vectors) >= 40
    assert len(KNOWLEDGE.families) >= 25


def test_every_group_of_the_catalogue_has_mechanisms() -> None:
    assert {mechanism.group for mechanism in KNOWLEDGE.mechanisms.values()} == GROUPS


def test_every_kind_of_vector_is_there() -> None:
    kinds = {vector.kind for vector in KNOWLEDGE.vectors.values()}
    assert kinds == {"entry", "escalation", "crossing"}


def test_every_deployment_of_the_catalogue_is_there() -> None:
    assert set(KNOWLEDGE.templates) >= NAMED


def test_both_scales_are_there_and_classic_gives_the_published_numbers() -> None:
    classic, assets = KNOWLEDGE.scales["classic"], KNOWLEDGE.scales["assets"]
    assert (classic.data, classic.user, classic.admin, classic.discount) == (1, 5, 100, 10)
    assert classic.admin_alone == classic.admin
    assert assets.admin_alone == 10


@pytest.mark.parametrize("family", KNOWLEDGE.families.values(), ids=lambda entry: entry.id)
def test_every_family_has_needs_and_references(family: Family) -> None:
    assert set(leaves(family.needs)) - {"kernel:shared"} or family.id == "core-system-calls"
    assert family.attack
    assert family.cwe
    assert family.close or family.id == "core-system-calls"


def test_published_examples() -> None:
    """A family without one says so by leaving the field out: no number is invented."""
    assert sum(1 for family in KNOWLEDGE.families.values() if family.cve) >= 25


def test_every_entry_cites_a_source_that_can_be_looked_up() -> None:
    tables = (KNOWLEDGE.mechanisms, KNOWLEDGE.families, KNOWLEDGE.vectors, KNOWLEDGE.templates,
              KNOWLEDGE.scales, KNOWLEDGE.features, KNOWLEDGE.paths)  # fmt: skip
    for table in tables:
        for entry in table.values():
            for source in entry.sources:
                assert source.startswith(("https://", "docs/", "doi:")), (entry.id, source)


def test_every_way_to_more_can_be_closed_by_some_mechanism() -> None:
    """Devices aside, which are taken away on the machine underneath."""
    closable = frozenset().union(*KNOWLEDGE.closed_by.values())
    for opening in KNOWLEDGE.openings:
        if not opening.id.startswith("device-"):
            assert closable.intersection(leaves(opening.needs)), opening.id


def test_every_condition_of_a_need_has_a_decider() -> None:
    for name in KNOWLEDGE.conditions:
        assert name.partition(":")[0] in DECIDERS, name


def test_every_mechanism_that_a_plan_may_propose_has_an_exact_setting() -> None:
    for mechanism in KNOWLEDGE.mechanisms.values():
        if mechanism.plan:
            assert mechanism.settings, mechanism.id


def test_windows_is_marked_as_a_lower_bound() -> None:
    assert {name for name, item in KNOWLEDGE.templates.items() if item.lower_bound} == {
        "windows-service",
        "windows-container",
    }
