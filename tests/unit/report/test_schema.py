"""The published schemas are those of the records, and real results satisfy them; those that need
root are held against theirs in tests/system/test_schemas.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ringfence.report.schemas import RESULTS
from tests.command import ringfence
from tests.unit.watch.ledgers import KEY, small
from tests.unit.watch.test_ledger_log import log, write_keys
from tests.watching import Watched

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "docs" / "schema"
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


@pytest.mark.parametrize("kind", RESULTS)
def test_the_published_schema_is_current(kind: str) -> None:
    published = (SCHEMAS / f"{kind}-1.json").read_text()
    assert published == ringfence("schema", kind).out, f"ringfence schema {kind} > the file"


def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"{kind}-1.json").read_text())
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_measurement_satisfies_it(example: Path) -> None:
    document = json.loads(ringfence("measure", example, "--format", "json").out)
    jsonschema.validate(document, schema("measurement"))
    del document["surface"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema("measurement"))


def test_a_comparison_satisfies_it() -> None:
    done = ringfence("compare", EXAMPLES[0], "--format", "json", "--no-plan")
    jsonschema.validate(json.loads(done.out), schema("comparison"))


def refuses_without(document: Any, name: str, field: str) -> None:
    """It satisfies its schema, and not any more once a field is gone."""
    jsonschema.validate(document, schema(name))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({key: document[key] for key in document if key != field}, schema(name))


def test_a_check_satisfies_it(tmp_path: Path) -> None:
    target = tmp_path / "tree"
    target.mkdir()
    (target / "a").write_text("a")
    watched = Watched(tmp_path, target)
    watched.init()
    refuses_without(watched.report(), "check", "sealed_by")
    (target / "a").write_text("b")
    (target / "b").touch()
    refuses_without(watched.report(), "check", "added")
    changed = watched.report()
    del changed["changed"][0]["severity"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, schema("check"))


def test_every_line_of_a_ledger_satisfies_it(tmp_path: Path) -> None:
    small(tmp_path / "log", 20)
    rows = [json.loads(row) for path in sorted((tmp_path / "log").glob("segment-*"))
            for row in path.read_text().splitlines()]  # fmt: skip
    assert {row["type"] for row in rows} == {"segment", "record", "head"}
    for row in rows:
        refuses_without(row, "ledger", "prev")


def test_what_is_said_of_a_ledger_satisfies_it(tmp_path: Path) -> None:
    small(tmp_path / "log", 5)
    key = write_keys(tmp_path, KEY, "own")
    words = (tmp_path / "log", "--public-key", key)
    whole = json.loads(log(*words, "--verify", "--format", "json").out)
    refuses_without(whole, "verification", "broken")
    assert whole["head"] is not None
    for proof in (("--inclusion", 2), ("--consistency", 3)):
        refuses_without(json.loads(log(*words, *proof).out), "proof", "checkpoint")
    segment = max((tmp_path / "log").glob("segment-*"))
    segment.write_bytes(segment.read_bytes()[:-9])
    broken = json.loads(log(*words, "--verify", "--format", "json").out)
    assert broken["head"] is None
    refuses_without(broken, "verification", "notes")
