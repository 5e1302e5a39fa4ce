"""An AIDE database becomes a baseline: what the rules leave out, words that do not fit."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from pathlib import Path

import pytest

from ringfence.watch.baseline.aide.attributes import BITS
from ringfence.watch.baseline.aide.configuration import read_configuration
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


def database(tree: Path, *algorithms: str) -> Path:
    """The database that AIDE would write for a tree without odd names; of each file by the next of
    `algorithms` in turn, sha256 where there are none."""
    algorithms = algorithms or ("sha256",)
    rows = ["@@begin_db", f"@@db_spec name perm attr size {' '.join(algorithms)}"]
    turn = itertools.cycle(algorithms)
    for path in (tree, *sorted(tree.rglob("*"))):
        status = path.lstat()
        digests = dict.fromkeys(algorithms, "0")
        if path.is_file() and not path.is_symlink() and (name := next(turn)) != "whirlpool":
            data = hashlib.new(name, path.read_bytes()).digest()
            digests[name] = base64.b64encode(data).decode()
        values = " ".join(digests.values())
        rows.append(f"{path} {status.st_mode:o} {KEPT} {status.st_size} {values}")
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
    path = database(tree, "sha512")
    done = Watched(tmp_path, "host").init("--from-aide", path)
    assert done.err.endswith(" sha512, sealed\n")


@pytest.mark.parametrize("algorithms", [
    ("sha256",), ("sha512",), ("sha256", "sha512"), ("sha512", "sha1"), ("md5",),
    ("md5", "sha512", "sha256"),
])  # fmt: skip
def test_each_file_is_held_against_the_digest_that_it_has(
    tree: Path, tmp_path: Path, algorithms: tuple[str, ...]
) -> None:
    watched = Watched(tmp_path, "host")
    done = watched.init("--from-aide", database(tree, *algorithms))
    weak = {"md5", "sha1"} & {*algorithms}
    assert ("WARNING" in done.err) == bool(weak)
    report = watched.report()
    assert not report["changed"]
    assert any("SHA-1 or MD5 alone" in note for note in report["notes"]) == bool(weak)
    names = ("cache/inner", "kept", "left")
    for name in names:
        (tree / name).write_bytes((tree / name).read_bytes().swapcase())
    found = sorted(watched.report()["changed"], key=lambda item: str(item["path"]))
    assert paths(found) == [f"{tree}/{name}" for name in names]
    turn = itertools.cycle(algorithms)
    assert [[*item["attributes"]] for item in found] == [[next(turn)] for _ in names]


def test_files_without_a_digest_are_counted_and_named(tree: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path, "host")
    path = database(tree, "sha256", "whirlpool")
    text = f"content of 1 file ({tree}/kept) is not compared"
    assert text in watched.init("--from-aide", path).err
    assert any(text in note for note in watched.report()["notes"])
    (tree / "kept").write_bytes((tree / "kept").read_bytes().swapcase())
    assert watched.check().code == 0
    configuration = tmp_path / "aide.conf"
    configuration.write_text(f"{tree} p+s+sha256\n")
    words = ["--from-aide", path, "--from-aide", configuration]
    assert text in watched.init(*words).err
    configuration.write_text(f"{tree} p+s\n")
    assert "WARNING" not in watched.init(*words).err


def test_a_symlink_has_the_size_of_its_target_as_for_aide(tree: Path, tmp_path: Path) -> None:
    link = tree / "link"
    link.symlink_to("kept")
    path = database(tree)
    configuration = tmp_path / "aide.conf"
    configuration.write_text(f"{tree} p+s+sha256\n")
    watched = Watched(tmp_path, "host")
    for words in ([path], [path, configuration], [configuration]):
        watched.init(*(word for file in words for word in ("--from-aide", file)))
        assert watched.check().code == 0
        link.unlink()
        link.symlink_to("elsewhere")
        (found,) = watched.report()["changed"]
        assert found["path"] == str(link)
        assert found["attributes"] == {"size": [4, 9]}
        link.unlink()
        link.symlink_to("kept")


@pytest.mark.parametrize("place", [0, 1])
def test_a_file_that_is_missing_is_named(tree: Path, tmp_path: Path, place: int) -> None:
    configuration = tmp_path / "aide.conf"
    configuration.write_text(f"{tree} p+s+sha256\n")
    files = [configuration, tmp_path / "none"]
    watched = Watched(tmp_path, "host")
    done = ringfence("watch", "init", "host", "-o", watched.baseline, "--key", watched.key,
                     "--from-aide", files[place], "--from-aide", files[1 - place])  # fmt: skip
    assert done.code == 2
    assert f"{files[1]}: cannot be read: no such file" in done.err


@pytest.mark.parametrize(("quoted", "name"), [
    (r"\Qa.b[c\E", "a.b[c"), (r"a\Q+\Eb", "a+b"), (r"a\Q(b", "a(b"), (r"a\E", "a"),
])  # fmt: skip
def test_quotes_of_pcre_are_taken_over(tmp_path: Path, quoted: str, name: str) -> None:
    configuration = tmp_path / "aide.conf"
    configuration.write_text(f"/x/{quoted} p\n")
    (rule,) = read_configuration(configuration).rules
    assert re.fullmatch(rule.regex, f"/x/{name}")
    assert not re.fullmatch(rule.regex, "/x/azb")
    assert f"/x/{name}".startswith(rule.prefix)
