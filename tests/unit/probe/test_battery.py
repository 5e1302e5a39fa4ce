"""The battery as data: each probe named once, argued for, and in the knowledge base's own words."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from ringfence.knowledge.loader import load
from ringfence.knowledge.vocabulary import check_condition
from ringfence.model.need import leaves
from ringfence.probe.battery import PROBES
from ringfence.probe.definition import Probe
from ringfence.probe.expect import need_of

KNOWLEDGE = load()
OTHERS = [probe for probe in PROBES if probe.group != "system calls"]


def test_each_id_stands_for_one_probe() -> None:
    assert not [name for name, count in Counter(probe.id for probe in PROBES).items() if count > 1]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.id)
def test_a_probe_is_argued_for_and_decidable(probe: Probe) -> None:
    assert len(probe.safety) > 25, "its docstring is the safety argument"
    assert re.fullmatch(r"T\d{4}(\.\d{3})?", probe.technique)
    for leaf in leaves(need_of(probe, KNOWLEDGE)):
        assert not check_condition(leaf, KNOWLEDGE)
    for name in (*probe.decides, *probe.rules_out):
        kind, _, subject = name.partition(":")
        if kind == "probe":
            assert subject in KNOWLEDGE.families or subject in KNOWLEDGE.vectors
        else:
            assert not check_condition(name, KNOWLEDGE)


def test_no_condition_is_settled_twice() -> None:
    """Of two attempts the later one would silently win. Capabilities that two calls ask for are
    settled by both alike, and openings by all attempts at them together."""
    settled = Counter(name for probe in OTHERS for name in probe.decides
                      if not name.startswith(("cap:", "nscap:", "probe:")))  # fmt: skip
    assert not [name for name, count in settled.items() if count > 1]


def test_every_family_that_asks_for_a_call_is_among_the_probes() -> None:
    """By an attempt of its own, or by each call that it needs (the oracle's)."""
    asked = {leaf for probe in PROBES for leaf in leaves(need_of(probe, KNOWLEDGE))}
    settled = {name for probe in PROBES for name in probe.decides}
    for family in KNOWLEDGE.families.values():
        calls = [leaf for leaf in leaves(family.needs) if leaf.startswith("syscall:")]
        assert f"probe:{family.id}" in settled or all(name in asked for name in calls), family.id


def test_every_path_of_the_knowledge_base_is_tried() -> None:
    tried = {name for probe in PROBES for name in probe.decides if name.startswith("path:")}
    assert tried == {f"path:{name}" for name in KNOWLEDGE.paths}
