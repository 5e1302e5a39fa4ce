"""A baseline that is made or renewed, and what a check found, are in the ledger."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import ringfence
from tests.unit.watch.ledgers import KEY, OTHER, checked
from tests.unit.watch.test_ledger_log import write_keys
from tests.watching import Watched


class Kept:
    """A target, its baseline and a ledger with a key of its own."""

    def __init__(self, place: Path) -> None:
        self.target = place / "target"
        self.target.mkdir()
        (self.target / "data").write_text("1")
        self.watched = Watched(place, self.target)
        self.ledger = place / "log"
        write_keys(place, KEY, "own")
        self.words = ("--ledger", self.ledger, "--ledger-key", place / "own.key")

    def rows(self) -> list[dict[str, Any]]:
        """What stands in the ledger, but for what it says of itself."""
        shown = ringfence("watch", "log", self.ledger, "--format", "json")
        rows = [json.loads(line) for line in shown.out.splitlines()]
        return [row for row in rows if row["kind"] != "ledger"]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def signed(path: Path) -> str:
    """What the seal signs: all of the file but the public key and the signature."""
    return hashlib.sha256(path.read_bytes()[: -32 - 64]).hexdigest()


def test_a_new_baseline_is_a_policy_change(kept: Kept) -> None:
    kept.watched.init(*kept.words, "--rule", "/data=grows")
    (row,) = kept.rows()
    assert (row["kind"], row["subject"]) == ("policy", str(kept.target))
    wanted = {"event": "baseline", "baseline": str(kept.watched.baseline), "entries": 2,
              "sha256": signed(kept.watched.baseline), "rules": ["/data=grows"]}  # fmt: skip
    assert wanted.items() <= row["detail"].items()
    assert checked(kept.ledger).broken is None


def test_without_a_ledger_nothing_is_kept(kept: Kept) -> None:
    kept.watched.init()
    assert kept.watched.check().code == 0
    assert not kept.ledger.exists()


def test_a_check_leaves_what_it_found_and_its_end(kept: Kept) -> None:
    kept.watched.init()
    assert kept.watched.check(*kept.words).code == 0
    (end,) = kept.rows()
    assert (end["kind"], end["detail"]["verdict"], end["detail"]["found"]) == (
        "event", "unchanged", 0
    )  # fmt: skip
    (kept.target / "data").chmod(0o4755)
    assert kept.watched.check(*kept.words).code == 1
    _, found, end = kept.rows()
    assert (found["subject"], found["detail"]["severity"]) == ("/data", "critical")
    assert found["detail"]["attributes"] == {"mode": ["0644", "4755"]}
    assert (end["detail"]["event"], end["detail"]["verdict"]) == ("full-check", "differs")
    assert kept.watched.check("--quick", *kept.words).code == 1
    assert kept.rows()[-1]["detail"]["event"] == "quick-check"


def test_a_renewed_baseline_is_a_policy_change(kept: Kept) -> None:
    kept.watched.init()
    update = ("--update", "--key", kept.watched.key, *kept.words)
    assert kept.watched.check(*update).code == 0
    assert [row["kind"] for row in kept.rows()] == ["event"], "nothing was sealed"
    (kept.target / "new").touch()
    assert kept.watched.check(*update).code == 1
    *_, row = kept.rows()
    assert (row["kind"], row["detail"]["event"]) == ("policy", "baseline-updated")
    assert row["detail"]["sha256"] == signed(kept.watched.baseline)


def test_a_baseline_that_is_not_to_be_trusted_is_kept_too(kept: Kept) -> None:
    kept.watched.init()
    with kept.watched.baseline.open("ab") as file:
        file.write(b"x")
    done = kept.watched.check(*kept.words)
    assert done.code == 2
    (row,) = kept.rows()
    assert row["detail"]["verdict"] == "failed" and "altered" in row["detail"]["why"]


def test_its_key_belongs_to_it(kept: Kept, tmp_path: Path) -> None:
    kept.watched.init()
    for words in (kept.words[:2], kept.words[2:]):
        done = kept.watched.check(*words)
        assert done.code == 2 and "--ledger and --ledger-key belong together" in done.err
    done = kept.watched.check("--sink", "journald")
    assert done.code == 2 and "add --ledger DIR --ledger-key FILE" in done.err
    kept.watched.init(*kept.words)
    write_keys(tmp_path, OTHER, "other")
    done = kept.watched.check(*kept.words[:3], tmp_path / "other.key")
    assert done.code == 2, "another writer's ledger"
