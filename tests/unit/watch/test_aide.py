"""An AIDE database becomes a baseline: what the rules leave out, words that do not fit."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from ringfence.watch.baseline.aide.attributes import BITS
from tests.command import ringfence
from tests.watching import Watched, paths

KEPT = 1 << BITS["mode"] | 1 << BITS["size"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "cache").mkdir(parents=True)
    for name in ("kept", "left", "cache/inner"):
        (root / name).write_text(name)
    return root


def database(tree: Path) -> Path:
    """The database that AIDE would write for a tree without odd names."""
    rows = ["@@begin_db", "@@db_spec name perm attr size sha256"]
    for path in (tree, *sorted(tree.rglob("*"))):
        status = path.stat()
        digest = "0"
        if path.is_file():
            digest = base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
        rows.append(f"{path} {status.st_mode:o} {KEPT} {status.st_size} {digest}")
    found = tree.parent / "aide.db"
    found.write_text("\n".join([*rows, "@@end_db", ""]))
    return found


def test_what_a_rule_ignores_is_not_missed(tree: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path, "host")
    words = ["--rule", f"{tree}/left=ignored", "--rule", f"{tree}/cache=ignored"]
    watched.init("--from-aide", database(tree), *words)
    assert watched.check().code == 0
    (tree / "left").write_text("changed")
    (tree / "cache/inner").unlink()
    assert watched.check().code == 0
    (tree / "kept").unlink()
    assert paths(watched.report()["removed"]) == [f"{tree}/kept"]


def test_what_a_configuration_leaves_out_of_an_older_database_is_not_missed(
    tree: Path, tmp_path: Path
) -> None:
    configuration = tmp_path / "aide.conf"
    configuration.write_text(f"!{tree}/left$\n!{tree}/cache\n{tree} p+s+sha256\n")
    watched = Watched(tmp_path, "host")
    watched.init("--from-aide", database(tree), "--from-aide", configuration)
    assert watched.check().code == 0
    (tree / "kept").unlink()
    assert paths(watched.report()["removed"]) == [f"{tree}/kept"]


def test_a_database_of_nothing_but_ignored_files_is_refused(tree: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path, "host")
    done = ringfence("watch", "init", "host", "-o", watched.baseline, "--key", watched.key,
                     "--from-aide", database(tree), "--rule", f"{tree}=ignored")  # fmt: skip
    assert done.code == 2
    assert "holds no entries that the rules keep" in done.err
    assert not watched.baseline.exists()
