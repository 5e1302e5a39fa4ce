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


@pytest.mark.parametrize(("target", "words", "why"), [
    ("host", ["--only", "/etc"], "leave out --only"),
    ("host", ["--hash", "sha256"], "leave out --hash"),
    ("host", ["--hash", "blake3"], "leave out --hash"),
    ("host", ["--with", "mtime"], "leave out --with"),
    ("/etc /usr", [], "the target is `host`"),
])  # fmt: skip
def test_what_a_database_has_no_use_for_is_refused(
    tree: Path, tmp_path: Path, target: str, words: list[str], why: str
) -> None:
    watched = Watched(tmp_path, *target.split())
    done = ringfence("watch", "init", *watched.targets, "-o", watched.baseline, "--key",
                     watched.key, "--from-aide", database(tree), *words)  # fmt: skip
    assert (done.code, done.out) == (2, "")
    assert why in done.err
    assert not watched.baseline.exists()


def test_a_configuration_alone_is_a_pass_that_looks_as_asked(tree: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "aide.conf"
    configuration.write_text(f"{tree} p+s+sha256\n")
    watched = Watched(tmp_path, "host")
    done = watched.init("--from-aide", configuration, "--hash", "blake3")
    assert done.err.endswith(" blake3, sealed\n")
    assert watched.check().code == 0


def test_the_digests_of_a_database_are_named(tree: Path, tmp_path: Path) -> None:
    path = database(tree)
    done = Watched(tmp_path, "host").init("--from-aide", path)
    assert done.err.endswith(" sha256, sealed\n")
    path.write_text(path.read_text().replace("size sha256", "size sha512"))
    done = Watched(tmp_path, "host").init("--from-aide", path)
    assert done.err.endswith(" sha512, sealed\n")
