from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import InputError, UsageError
from ringfence.watch.baseline.rules import Mode, Rules, parse_rule, read_rules, rule_for


def mode(rules: list[str], path: bytes, kind: str = "f") -> Mode:
    folder, _, name = path.rpartition(b"/")
    return Rules([parse_rule(text) for text in rules]).of_path(folder, name, kind).mode


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("/var/log/**", b"var/log/a", True),
        ("/var/log/**", b"var/log/a/b/c", True),
        ("/var/log/**", b"var/log", False),
        ("/var/log/*", b"var/log/a/b", False),
        ("/var/log/*", b"var/log/a", True),
        ("/var/**/x", b"var/x", True),
        ("/var/**/x", b"var/a/b/x", True),
        ("/var/**/x", b"var/a/xx", False),
        ("*.pyc", b"usr/lib/a.pyc", True),
        ("*.pyc", b"a.pyc", True),
        ("*.pyc", b"a.py", False),
        ("/a?c", b"abc", True),
        ("/a?c", b"a/c", False),
        ("/[ab]", b"a", True),
        ("/[!ab]", b"a", False),
        ("/[!ab]", b"c", True),
        (r"/a\*", b"a*", True),
        (r"/a\*", b"ab", False),
        ("/a\nb", b"a\nb", True),
        ("/*", b"a\xff\nb", True),
    ],
)
def test_globs(glob: str, path: bytes, matches: bool) -> None:
    expected = Mode.IGNORED if matches else Mode.EXACT
    assert mode([f"{glob}=ignored"], path) is expected


def test_the_last_rule_that_matches_wins() -> None:
    first, second = "/var/log/**=grows", "/var/log/btmp=ignored"
    assert mode([first, second], b"var/log/btmp") is Mode.IGNORED
    assert mode([second, first], b"var/log/btmp") is Mode.GROWS
    assert mode([first, second], b"var/log/syslog") is Mode.GROWS


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
