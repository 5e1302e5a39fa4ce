from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from ringfence.errors import InputError, UsageError
from ringfence.watch.baseline.rules import (
    MOST_SHADOWS,
    Mode,
    Rules,
    parse_rule,
    read_rules,
    rule_for,
)
from tests.watching import Watched, paths


def mode(rules: list[str], path: bytes, kind: str = "f") -> Mode:
    folder, _, name = path.rpartition(b"/")
    return Rules([parse_rule(text) for text in rules]).of_path(folder, name, kind).mode


def test_the_last_rule_that_matches_wins() -> None:
    first, second = "/var/log/**=grows", "/var/log/btmp=ignored"
    assert mode([first, second], b"var/log/btmp") is Mode.IGNORED
    assert mode([second, first], b"var/log/btmp") is Mode.GROWS
    assert mode([first, second], b"var/log/syslog") is Mode.GROWS


@pytest.mark.parametrize(
    ("rules", "path", "expected"),
    [
        (["/a/**=ignored", "/a/b/**=grows"], b"a/b/g", Mode.GROWS),
        (["/a/**=ignored", "/a/b/**=grows"], b"a/c", Mode.IGNORED),
        (["/a=ignored", "/a/b/g=grows"], b"a/b/g", Mode.GROWS),
        (["/a=ignored", "/a/b/g=grows"], b"a/b/h", Mode.IGNORED),
        (["/a=ignored", "/a/b/g=grows"], b"ab/h", Mode.EXACT),
        (["/a/b/g=grows", "/a=ignored"], b"a/b/g", Mode.IGNORED),
        (["/a=ignored", "/a/b=grows", "/a/b=ignored", "/a/b/c=exact"], b"a/b/c", Mode.EXACT),
        (["/a=ignored", "/a/b=grows", "/a/b=ignored", "/a/b/c=exact"], b"a/b/d", Mode.IGNORED),
        (["/=ignored", "/etc/**=exact"], b"etc/passwd", Mode.EXACT),
        (["/=ignored", "/etc/**=exact"], b"usr/x", Mode.IGNORED),
        (["cache=ignored", "*.py=exact"], b"a/cache/b/c.py", Mode.EXACT),
        (["cache=ignored", "*.py=exact"], b"a/cache/b/c.pyc", Mode.IGNORED),
    ],
)
def test_what_is_below_an_ignored_folder_is_ignored_but_for_later_rules(
    rules: list[str], path: bytes, expected: Mode
) -> None:
    assert mode(rules, path) is expected


@pytest.mark.parametrize(
    ("rules", "entered"),
    [
        (["/a/**=ignored"], []),
        (["/a/**=ignored", "/a/b/**=grows"], [b"b"]),
        (["/a/b/**=grows", "/a/**=ignored"], []),
        (["/a/**=ignored", "/a/c/d/e=grows"], [b"c"]),
        (["/a/**=ignored", "*.py=grows"], [b"b", b"c"]),
        (["/other/**=ignored"], [b"b", b"c"]),
    ],
)
def test_ignored_folders_are_entered_where_a_later_rule_may_match(
    rules: list[str], entered: list[bytes]
) -> None:
    assert Rules([parse_rule(text) for text in rules]).entered(b"a", [b"b", b"c"]) == entered


def test_more_folders_than_are_kept_are_ignored_by_those_above_them() -> None:
    rules = Rules([parse_rule("/a=ignored"), parse_rule("/a/b/**/x=exact")])
    deep = b"a/b" + b"/d" * (2 * MOST_SHADOWS)
    for folder in (deep, b"other/b", b"a/b", deep):
        inside = folder.startswith(b"a/")
        assert rules.of_path(folder, b"x", "f").mode is Mode.EXACT
        assert (rules.of_path(folder, b"y", "f").mode is Mode.IGNORED) == inside


@pytest.mark.parametrize("path", [b"a*b", b"[x]", b"a\\b", b"x/\xff\n?"])
def test_a_rule_for_one_path_matches_it_alone(path: bytes) -> None:
    rules = Rules([rule_for(path, Mode.IGNORED)])
    folder, _, name = path.rpartition(b"/")
    assert rules.of_path(folder, name, "f").mode is Mode.IGNORED
    assert rules.of_path(folder, name + b"x", "f").mode is Mode.EXACT
    assert rules.of_path(b"elsewhere", name, "f").mode is Mode.EXACT


def test_folders_without_rules_cost_nothing() -> None:
    rules = Rules([parse_rule("/var/log/**=grows")])
    assert rules.of_folder(b"usr/bin").simple is not None
    assert rules.of_folder(b"var/log").simple is None


@pytest.mark.parametrize("text", ["/a", "/a=odd", "=exact", "/[b-a]=exact", "/a=unlisted"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rule(text)


def test_rules_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rule]]\nglob = "/a"\nmode = "ignored"\n')
    assert [rule.mode for rule in read_rules(path)] == [Mode.IGNORED]
    for text in ("", "[rule]\n", '[[rule]]\nglob="/a"\n', '[[rule]]\nglob="a"\nmode="b"\n', "x=="):
        path.write_text(text)
        with pytest.raises((InputError, UsageError)):
            read_rules(path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_check_finds_what_a_later_rule_keeps_below_an_ignored_folder(
    tmp_path: Path, packed: bool
) -> None:
    root, archive = tmp_path / "root", tmp_path / "root.tar"
    for name in ("a/b/kept", "a/c/left", "other"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("before")

    def looked_at() -> None:
        with tarfile.open(archive, "w") as file:
            file.add(root, ".")

    looked_at()
    watched = Watched(tmp_path, archive if packed else root)
    watched.init("--rule", "/a/**=ignored", "--rule", "/a/b/**=exact")
    assert watched.changed() == {}
    for name in ("a/b/kept", "a/c/left", "a/b/new", "a/c/new"):
        (root / name).write_text("after!")
    looked_at()
    found = watched.report()
    assert paths(found["changed"]) == ["/a/b/kept"]
    assert paths(found["added"]) == ["/a/b/new"]
    assert not found["removed"]
