"""State files and bundles that make no sense: one error, or what they say is left out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ringfence.collect.container.bundle import read_bundle
from ringfence.collect.container.running import find_container
from ringfence.errors import InputError
from ringfence.knowledge.loader import load


def state(place: Path, **fields: Any) -> str:
    """A container `web` whose first process is this one."""
    (place / "web").mkdir()
    row = {"init_process_pid": os.getpid(), **fields}
    (place / "web" / "state.json").write_text(json.dumps(row))
    return "web"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RINGFENCE_RUNTIME_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"init_process_start": "5"}, "init_process_start is no number"),
        ({"init_process_start": None}, "init_process_start is no number"),
        ({"init_process_start": True}, "init_process_start is no number"),
        ({"init_process_start": 5}, "is another one by now"),
        ({"bundle": "/a\0b"}, "zero byte"),
        ({"config": {"labels": ["bundle=/a\0b"]}}, "zero byte"),
        ({"init_process_pid": True}, "does not run"),
        ({"init_process_pid": 10**400}, "does not run"),
    ],
)
def test_a_state_that_makes_no_sense_is_refused(
    fields: dict[str, Any], said: str, root: Path
) -> None:
    with pytest.raises(InputError, match=said):
        find_container(state(root, **fields))


def test_a_state_without_a_start_is_taken_as_it_is(root: Path) -> None:
    found = find_container(state(root, config={"labels": ["a=b", "bundle=/a"]}))
    assert (found.pid, found.bundle) == (os.getpid(), Path("/a"))


def test_numbers_and_paths_beyond_the_kernel_are_left_out(root: Path) -> None:
    large = 10**400
    config = {
        "root": {"path": "a" * 5000},
        "process": {"user": {"uid": large}},
        "linux": {"resources": {
            "cpu": {"quota": large, "period": large}, "memory": {"limit": large},
            "pids": {"limit": -large},
        }},
    }  # fmt: skip
    (root / "config.json").write_text(json.dumps(config))
    facts = read_bundle(root, load())
    limits = facts.processes[0].limits.value
    assert limits is not None
    assert (limits.cpu_quota, limits.memory_bytes, limits.pids) == (None, None, None)
    assert "is not a directory" in facts.unseen[0].why
    assert len(facts.unseen[0].why) < 300
