"""What is measured as it runs, and what is placed first."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.collect.files.directory import read_directory
from ringfence.knowledge.loader import load
from ringfence.measure.judge import deployment_of
from ringfence.model.facts import Facts, Target


@pytest.mark.parametrize(("kind", "zone"), [("host", "system"), ("rootfs", "container")])
def test_a_host_of_which_no_process_was_seen_is_no_image(
    tmp_path: Path, kind: str, zone: str
) -> None:
    facts = Facts(Target(kind, "here"), tree=read_directory(tmp_path, with_elf=False))
    found = deployment_of(facts, load())
    assert found.zones[0].name == zone
    assert bool(found.notes) == (kind == "rootfs")
    assert bool(found.entry_points) == (kind == "rootfs")
