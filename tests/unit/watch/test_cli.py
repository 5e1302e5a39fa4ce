"""The command line: formats, keys, words that do not fit together. Needs no root."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote_to_bytes

import msgspec
import pytest

from ringfence.watch.baseline import rest
from ringfence.watch.baseline.seal import generate
from tests.command import ringfence
from tests.watching import Watched


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "a.conf").write_text("a")
    (root / "program").write_text("b")
    (root / "program").chmod(0o755)
    made = Watched(tmp_path, root)
    made.init()
    return made


def changed(watched: Watched) -> None:
    root = Path(str(watched.targets[0]))
    (root / "etc" / "a.conf").write_text("changed")
    (root / "program").unlink()
    (root / "odd \x1b[31mname").write_text("x")


def test_unchanged_is_0_and_changed_is_1(watched: Watched) -> None:
    done = watched.check()
    assert done.code == 0
    assert "unchanged" in done.out
    changed(watched)
    done = watched.check()
    assert done.code == 1
    assert "1 added, 1 removed, 1 changed" in done.out
    assert "\x1b" not in done.out


def test_sarif(watched: Watched) -> None:
    assert json.loads(watched.check("--format", "sarif").out)["runs"][0]["results"] == []
    changed(watched)
    done = watched.check("--format", "sarif")
    assert done.code == 1
    (run,) = json.loads(done.out)["runs"]
    found = {
        row["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]: (
            row["ruleId"], row["level"],
        )
        for row in run["results"]
    }  # fmt: skip
    assert found == {
        "etc/a.conf": ("watch/changed", "warning"),
        "program": ("watch/removed", "error"),
        "odd%20%1B%5B31mname": ("watch/added", "note"),
    }
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {row["ruleId"] for row in run["results"]} <= rules


TWINS = (b"n\xff", rb"n\xff", b"m\n", b"m?", b"m", b"m%", b"m m")
"""Names of which several look alike in a careless form."""


def uris(report: dict[str, Any]) -> list[str]:
    return [
        row["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for row in report["runs"][0]["results"]
    ]


def test_no_two_files_have_one_form(watched: Watched) -> None:
    root = bytes(Path(str(watched.targets[0])))
    for name in TWINS:
        with open(root + b"/" + name, "wb"):
            pass
    found = uris(json.loads(watched.check("--format", "sarif").out))
    assert {unquote_to_bytes(uri) for uri in found} == set(TWINS)
    assert {"n%FF", "n%5Cxff", "m%0A", "m%3F"} < set(found)
    added = watched.report()["added"]
    names = {base64.b64decode(item["path_bytes"]) if "path_bytes" in item
             else item["path"].encode() for item in added}  # fmt: skip
    assert names == {b"/" + name for name in TWINS}
    lines = [line for line in watched.check().out.splitlines() if " added " in line[:20]]
    assert len({line.split(maxsplit=2)[2] for line in lines}) == len(TWINS)
    assert any(r"$'/n\xff'" in line for line in lines)
    assert any(r"'/n\xff'" in line and "$" not in line for line in lines)


def test_a_link_that_leads_elsewhere_than_it_reads(watched: Watched) -> None:
    link = bytes(Path(str(watched.targets[0]))) + b"/link"
    os.symlink(b"n\xff", link)
    (item,) = watched.report()["added"]
    assert item["attributes"]["target"] == [None, r"n\xff"]
    assert item["attributes"]["target_bytes"] == [None, "bv8="]
    os.unlink(link)
    os.symlink(rb"n\xff", link)
    (item,) = watched.report()["added"]
    assert item["attributes"]["target"] == [None, r"n\xff"]
    assert "target_bytes" not in item["attributes"]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("see [the fix](https://evil.example/x) {0} {1}",
         r"see \[the fix\](https://evil.example/x) {{0}} {{1}}"),
        (r"a\[b]", r"a\\\[b\]"), ("plain (x)", "plain (x)"),
    ],
)  # fmt: skip
def test_a_message_of_sarif_has_no_links_and_no_placeholders(
    target: str, text: str, tmp_path: Path
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "link").symlink_to("a")
    watched = Watched(tmp_path, root)
    watched.init()
    (root / "link").unlink()
    (root / "link").symlink_to(target)
    (run,) = json.loads(watched.check("--format", "sarif").out)["runs"]
    (row,) = [row for row in run["results"] if row["ruleId"] == "watch/changed"]
    assert f"target: a -> {text}" in row["message"]["text"].split("; ")[0]
    assert row["properties"]["attributes"]["target"] == ["a", target]


def test_the_names_of_the_json(watched: Watched) -> None:
    changed(watched)
    report = watched.report()
    assert report["verified"] is True
    assert report["sealed_by"].startswith("ed25519:")
    (item,) = report["changed"]
    assert set(item) == {"path", "severity", "what", "attributes"}
    assert item["attributes"]["size"] == [1, 7]
    assert report["removed"][0]["attributes"]["mode"] == ["0755", None]


def test_a_report_goes_to_a_file(watched: Watched, tmp_path: Path) -> None:
    done = watched.check("-o", tmp_path / "report")
    assert (done.code, done.out) == (0, "")
    assert "unchanged" in (tmp_path / "report").read_text()


def test_words_that_do_not_fit(tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    for words in (
        ["-o", out],
        ["-o", out, "--key", "a", "--generate-key", "b"],
        ["-o", out, "--key", tmp_path / "no-such-key"],
        ["-o", out, "--generate-key", tmp_path / "k1", "--rule", "/a=odd"],
        ["-o", out, "--generate-key", tmp_path / "k2", "--only", "nothing"],
        ["-o", tmp_path / "no" / "folder", "--generate-key", tmp_path / "k3"],
    ):
        done = ringfence("watch", "init", tree, *words)
        assert (done.code, done.out) == (2, ""), words
        assert not out.exists()
    assert ringfence("watch", "init", tmp_path / "nothing", "-o", out, "--generate-key",
                     tmp_path / "k4").code == 2  # fmt: skip


def test_a_new_key_pair_seals(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    out, key = tmp_path / "out", tmp_path / "new"
    done = ringfence("watch", "init", tmp_path / "tree", "-o", out, "--generate-key", key)
    assert done.code == 0, done.err
    done = ringfence("watch", "check", tmp_path / "tree", "--baseline", out,
                     "--public-key", f"{key}.pub")  # fmt: skip
    assert done.code == 0, done.err


def test_a_public_key_that_is_not_that_of_the_key_is_refused(tmp_path: Path) -> None:
    mine, other, new = Watched(tmp_path, tmp_path / "tree"), tmp_path / "other", tmp_path / "new"
    generate(other)
    (tmp_path / "tree").mkdir()
    for words, why in (
        (["--key", mine.key, "--public-key", f"{other}.pub"], "does not belong to --public-key"),
        (["--generate-key", new, "--public-key", mine.public], "leave out --public-key"),
    ):
        done = ringfence("watch", "init", tmp_path / "tree", "-o", mine.baseline, *words)
        assert (done.code, done.out) == (2, "")
        assert why in done.err
        assert not mine.baseline.exists() and not new.exists()
    mine.init("--public-key", mine.public)
    assert mine.check().code == 0
    for key, code in ((other, 2), (mine.key, 0)):
        assert mine.check("--update", "--key", key).code == code


@pytest.mark.parametrize("times", [["mtime"], ["mtime", "ctime"], ["inode"], []])
def test_a_baseline_that_touches_a_folder_of_its_own_says_so(
    tmp_path: Path, times: list[str]
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    watched = Watched(tmp_path, tree)
    words = [word for name in times for word in ("--with", name)]
    assert "its own folder" not in watched.init(*words).err
    assert watched.check().code == 0
    watched.baseline = tree / "baseline"
    told = "mtime" in times
    assert (f"changes {' and '.join(times)} of its own folder" in watched.init(*words).err) is told
    found = watched.changed()
    assert found == ({"/": sorted(times)} if told else {})
    (tree / "beside").mkdir()
    watched.baseline = tree / "beside/baseline"
    for others in ([*words, "--only", "other"], [*words, "--rule", "/beside=ignored"]):
        (tree / "other").touch()
        assert "its own folder" not in watched.init(*others).err


def test_help_names_the_commands() -> None:
    done = ringfence("watch", "--help")
    assert "init" in done.out and "check" in done.out


def test_a_folder_of_the_host_is_not_the_paths_that_a_baseline_is_of(tmp_path: Path) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    for path in (folder, other):
        path.mkdir()
        (path / "file").write_text("x")
    several = Watched(tmp_path, folder, other)
    several.init()
    assert several.check().code == 0
    for named in (folder, folder.parent):
        several.targets = (named,)
        done = several.check()
        assert (done.code, done.out) == (2, "")
        assert "of other paths" in done.err


def test_a_copy_of_the_host_is_checked_as_the_host(tmp_path: Path) -> None:
    folder, copy = tmp_path / "folder", tmp_path / "copy"
    inside = copy / str(folder)[1:]
    inside.mkdir(parents=True)
    folder.mkdir()
    (folder / "file").write_text("x")
    watched = Watched(tmp_path, folder, folder / "file")
    watched.init()
    watched.targets = (copy,)
    done = watched.check()
    assert done.code == 1
    assert "1 removed" in done.out


@pytest.mark.parametrize("word", ["a" * 300, "/" + "a" * 5000, "9" * 5000])
def test_a_target_with_too_long_a_name_is_one_line(word: str, tmp_path: Path) -> None:
    done = ringfence("watch", "init", word, "-o", tmp_path / "base", "--key", tmp_path / "key")
    assert done.code == 2
    assert done.err.endswith("cannot be read: file name too long\n")


def test_a_clock_that_was_set_back_is_told(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").write_text("x")
    real = rest.clock()
    ahead = msgspec.structs.replace(real, ahead=real.ahead + 10**9)
    for began, told in ((real, False), (ahead, True)):
        with mock.patch("ringfence.watch.baseline.passes.clock", lambda began=began: began):
            done = ringfence("watch", "init", tmp_path / "tree", "-o", tmp_path / f"base{told}",
                             "--generate-key", tmp_path / f"key{told}")  # fmt: skip
        assert done.code == 0
        assert ("the clock was set back meanwhile: run it again" in done.err) is told
