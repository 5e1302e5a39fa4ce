"""nosuid is the mount's own: it decides for the programs that lie on that mount alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ringfence.collect.files.directory import read_directory
from ringfence.knowledge.loader import load
from ringfence.measure.conditions.registry import decide_condition
from ringfence.measure.conditions.scene import scene
from ringfence.model.evidence import Seen
from ringfence.model.facts import Facts, Target
from ringfence.model.files import File, FileKind
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Mount
from tests.unit.measure.test_admin import SAID, process

KNOWLEDGE = load()
PROC = Mount("/proc", "/", "proc", "proc", frozenset({"rw"}))


def state(tmp_path: Path, mounts: dict[str, str], where: str = "", complete: bool = True) -> State:
    """Of `mount:suid`, with a setuid program at `where` (none for '')."""
    own = File(where, FileKind.REGULAR, 0o4755, 0, 0, 1, "")
    tree = msgspec.structs.replace(
        read_directory(tmp_path), privileged=(own,) if where else (), complete=complete
    )
    table = tuple(Mount(path, "/", "ext4", "a", frozenset(options.split(",")))
                  for path, options in mounts.items())  # fmt: skip
    one = msgspec.structs.replace(process(), mounts=Seen((*table, PROC), SAID))
    facts = Facts(Target("process", "t"), processes=(one,), tree=tree, container=True)
    return decide_condition("mount:suid", scene(facts, KNOWLEDGE), Level.USER).state


@pytest.mark.parametrize(
    ("root", "data", "where", "expected"),
    [
        ("rw,nosuid", "rw", "data/x", State.OPEN),
        ("rw,nosuid", "rw", "bin/x", State.CLOSED),
        ("rw", "rw,nosuid", "data/x", State.CLOSED),
        ("rw", "rw,noexec", "data/x", State.CLOSED),
        ("rw", "rw,nosuid", "bin/x", State.OPEN),
        ("rw,nosuid", "rw", "", State.OPEN),
        ("rw,nosuid", "rw,nosuid", "", State.CLOSED),
    ],
)
def test_the_mount_that_a_setuid_program_lies_on_decides(
    tmp_path: Path, root: str, data: str, where: str, expected: State
) -> None:
    assert state(tmp_path, {"/": root, "/data": data}, where) is expected


def test_where_files_were_left_out_every_mount_counts(tmp_path: Path) -> None:
    mounts = {"/": "rw,nosuid", "/data": "rw"}
    assert state(tmp_path, mounts, "bin/x", complete=False) is State.OPEN
    assert state(tmp_path, {"/": "rw,nosuid"}, "bin/x", complete=False) is State.CLOSED
