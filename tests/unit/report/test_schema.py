"""The published schema is the one of the records, and real results satisfy it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.command import ringfence

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "docs" / "schema"
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


@pytest.mark.parametrize("kind", ["measurement", "comparison"])
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
