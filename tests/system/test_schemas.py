"""Results that need root or a machine are what `ringfence schema` says they are."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.command import ringfence
from tests.guests.build import kernel
from tests.system.conftest import python_process
from tests.system.guests import examined
from tests.system.hardening import Done, static_server
from tests.system.test_run_memory import SERVER
from tests.system.watch_runs import Run, tmpfs

pytestmark = pytest.mark.system


def refuses_without(document: dict[str, Any], name: str, field: str) -> None:
    """It satisfies its schema, and not any more once a field is gone."""
    schema = json.loads(ringfence("schema", name).out)
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({key: document[key] for key in document if key != field}, schema)


def test_a_probing_satisfies_it() -> None:
    with python_process("") as pid:
        done = ringfence("probe", pid, "--format", "json")
    assert done.code == 0, done.err
    refuses_without(json.loads(done.out), "probe", "attempts")


def test_an_examination_satisfies_it() -> None:
    refuses_without(examined(kernel("sleep"), "--boots", 2), "examination", "facts")


def test_a_hardening_satisfies_it(tmp_path: Path) -> None:
    tree = static_server(tmp_path / "tree", SERVER)
    done = Done(str(tree), "-o", str(tmp_path / "result"), "--http", "http://localhost:8080/",
                command=("/bin/server",))  # fmt: skip
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "result/report.json").read_text())
    refuses_without(document, "hardening", "retest")


def test_what_was_learned_and_told_satisfies_it(tmp_path: Path) -> None:
    learned = tmp_path / "learned.json"
    with tmpfs(tmp_path / "target") as target:
        (target / "script").write_text("#!/bin/sh\nexit 0\n")
        (target / "script").chmod(0o755)
        run = Run(tmp_path, target)
        run.watched.init()
        with run.running("--learn", learned, sign="enforce"):
            subprocess.run([target / "script"], check=True)
            run.until_event("learned", "/script")
            assert run.stop() == 0
    refuses_without(json.loads(learned.read_text()), "learned", "files")
    (segment,) = run.ledger.glob("segment-*")
    for row in segment.read_text().splitlines():
        refuses_without(json.loads(row), "ledger", "prev")
