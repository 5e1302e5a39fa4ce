"""What is measured as it runs, and what is placed first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.collect.files.directory import read_directory
from ringfence.collect.process.tree import processes
from ringfence.knowledge.loader import load
from ringfence.measure.judge import deployment_of
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.facts import Facts, Target
from ringfence.model.process import Listener


@pytest.mark.parametrize(("kind", "zone"), [("host", "system"), ("rootfs", "container")])
def test_a_host_of_which_no_process_was_seen_is_no_image(
    tmp_path: Path, kind: str, zone: str
) -> None:
    facts = Facts(Target(kind, "here"), tree=read_directory(tmp_path, with_elf=False))
    found = deployment_of(facts, load())
    assert found.zones[0].name == zone
    assert bool(found.notes) == (kind == "rootfs")
    assert bool(found.entry_points) == (kind == "rootfs")


@pytest.mark.parametrize(("seen", "grade"), [(True, Grade.OBSERVED), (False, Grade.ASSUMED)])
def test_a_suspected_holder_of_a_socket_is_assumed(seen: bool, grade: Grade) -> None:
    knowledge = load()
    members, _ = processes([os.getpid()], knowledge)
    listener = Listener(
        "tcp", "::", 80, 1, (os.getpid(),), (), Evidence(Grade.OBSERVED, "test"),
        holders_seen=seen,
    )  # fmt: skip
    facts = Facts(Target("host", "here"), members, (listener,))
    (point,) = deployment_of(facts, knowledge).entry_points
    assert point.handler.evidence.grade is grade
