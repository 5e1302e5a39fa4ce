"""Baselines as tests make and check them: through the command line, with a key made once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ringfence.watch.baseline.seal import generate
from tests.command import Outcome, ringfence


class Watched:
    """A target with its baseline and key, all below `place`."""

    def __init__(self, place: Path, *targets: object) -> None:
        self.targets = targets
        self.key = place / "key"
        self.public = place / "key.pub"
        self.baseline = place / "baseline"
        if not self.key.exists():
            generate(self.key)

    def init(self, *words: object) -> Outcome:
        """`watch init`, which must succeed."""
        done = ringfence("watch", "init", *self.targets, "-o", self.baseline,
                         "--key", self.key, *words)  # fmt: skip
        assert done.code == 0, done.err
        return done

    def check(self, *words: object) -> Outcome:
        """`watch check` with its exit code as it is."""
        return ringfence("watch", "check", *self.targets, "--baseline", self.baseline,
                         "--public-key", self.public, *words)  # fmt: skip

    def report(self, *words: object) -> dict[str, Any]:
        """The JSON report of a check; its exit code must fit it."""
        done = self.check("--format", "json", *words)
        assert done.code in (0, 1), done.err
        found: dict[str, Any] = json.loads(done.out)
        assert done.code == int(bool(found["added"] or found["removed"] or found["changed"]))
        return found

    def changed(self, *words: object) -> dict[str, list[str]]:
        """Path -> the names of its changed attributes; nothing may be added or removed."""
        found = self.report(*words)
        assert not found["added"] and not found["removed"], found
        return {item["path"]: sorted(item["attributes"]) for item in found["changed"]}


def paths(items: list[dict[str, Any]]) -> list[str]:
    """The paths of report items."""
    return [item["path"] for item in items]
