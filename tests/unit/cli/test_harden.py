"""`ringfence harden`: words and configuration that make no sense are refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.cli.harden import configured
from ringfence.errors import InputError, UsageError
from ringfence.harden.service import Identity, Service, identity
from ringfence.harden.source import Source, open_source, with_environment
from tests.command import ringfence
from tests.unit.harden.trees import planted


@pytest.mark.parametrize(
    "line",
    [
        "command = [5]", "wait = [1]", "keep-shell = [1]", "keep-shell = 1", "phases = {a = 1}",
        "base-time = 1979-05-27T07:32:00Z", "base-time = true", "kernel = 5", "output = 5",
        "http = 5", 'http = "x"', 'command = "x"', 'target = ["a"]', 'port = ["80"]',
        'name = "a\\u0000"', 'keep = ["a\\u0000"]', "wait = true", "user = 1.5",
    ],
)  # fmt: skip
def test_a_word_of_the_wrong_type_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"[harden]\n{line}\n")
    with pytest.raises(InputError, match=rf"mine\.toml: {line.split()[0]} in \[harden\]"):
        configured(["--config", str(path)])


def test_a_configuration_that_is_no_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("harden = 5\n")
    with pytest.raises(InputError, match=r"mine\.toml: harden is no table; .*\[harden\]"):
        configured(["--config", str(path)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[hardn]\nuser = "root"\n', r"unknown table 'hardn'; did you mean \[harden\]\?"),
        ("[Harden]\nport = [80]\n", r"unknown table 'Harden'; did you mean \[harden\]\?"),
        ("[harden]\n[[measure]]\n", r"unknown table 'measure'; \[harden\] is the only one"),
        ("version = 1\n[harden]\n", r"unknown word 'version'; \[harden\] is the only one"),
        ('user = "root"\n', r"the word 'user' stands before any table; begin with \[harden\]"),
        ('[harden]\ndorp = ["/x"]\n', r"unknown word 'dorp' in \[harden\]; did you mean drop\?"),
        ("[harden]\nxyzzy = 1\n", r"unknown word 'xyzzy' in \[harden\]; use allow, "),
    ],
)
def test_what_a_configuration_does_not_have_is_refused_with_the_nearest(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"mine\.toml: {said}"):
        configured(["--config", str(path)])


def test_a_configuration_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    for text in ("", "# nothing yet\n", "[harden]\n"):
        path.write_text(text)
        assert configured(["--config", str(path)]) == {}


@pytest.mark.parametrize("stamp", ["99999999999999", "-1", "253402300800"])
def test_a_date_that_cannot_be_written_is_refused(stamp: str, tmp_path: Path) -> None:
    words = ("harden", tmp_path, "-o", tmp_path / "out")
    done = ringfence(*words, "--base-time", stamp)
    assert (done.code, done.err.count("\n")) == (2, 1)
    path = tmp_path / "mine.toml"
    path.write_text(f"[harden]\nbase-time = {stamp}\n")
    done = ringfence(*words, "--config", path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--base-time" in done.err


@pytest.mark.parametrize("stamp", ["²", "99999999999999999999", "253402300800", "-1", "x"])
def test_a_date_of_the_environment_that_is_none_is_refused(
    stamp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", stamp)
    done = ringfence("harden", tmp_path, "-o", tmp_path / "out")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "SOURCE_DATE_EPOCH" in done.err
    # What is not used is not looked at; the folder without a command is then what is refused.
    done = ringfence("harden", tmp_path, "-o", tmp_path / "out", "--base-time", "253402300799")
    assert "SOURCE_DATE_EPOCH" not in done.err


def test_a_name_is_looked_at_before_any_work(tmp_path: Path) -> None:
    done = ringfence("harden", tmp_path, "-o", tmp_path / "out", "--name", "../../up")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--name up" in done.err


def test_words_of_the_right_types_are_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[harden]\ncommand = ["/bin/a"]\nport = [80]\nwait = 5\nkeep-shell = true\n'
        'user = 33\nas = "vm"\n'
    )
    assert configured(["--config", str(path)]) == {
        "command": ["/bin/a"], "port": [80], "wait": 5, "keep_shell": True, "user": 33,
        "form": "vm",
    }  # fmt: skip


def test_a_file_is_named_in_either_way_and_the_last_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, port in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.toml").write_text(f"[harden]\nport = [{port}]\n")
    assert configured(["--config=one.toml"]) == {"port": [1]}
    assert configured(["--config=one.toml", "x", "--config", "two.toml"]) == {"port": [2]}
    assert configured(["--config", "two.toml", "--config=one.toml"]) == {"port": [1]}
    assert configured(["x", "--config"]) == configured([]) == {}


@pytest.mark.parametrize("word", ["inf", "nan", "-5", "3601", "x"])
def test_a_wait_that_is_no_time_is_refused(word: str, tmp_path: Path) -> None:
    done = ringfence("harden", tmp_path, "-o", tmp_path / "out", "--wait", word)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--wait" in done.err


def test_a_target_with_too_long_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="file name too long"):
        open_source("a" * 300, ("/bin/a",), tmp_path)


def test_a_variable_that_is_not_utf_8_is_refused() -> None:
    source = Source("command", "a", Path("/"), Service(("a",)))
    with pytest.raises(UsageError, match="A: a variable that is not UTF-8"):
        with_environment(source, ("A=\udcff",))


@pytest.mark.parametrize("user", ["²", "9" * 20, "4294967295", "0:4294967295", "0:²", "9" * 5000])
def test_a_user_that_there_cannot_be_is_refused(user: str, tmp_path: Path) -> None:
    tree = planted(tmp_path, {"etc/passwd": "a:x:²:²:::\n", "etc/group": "g:x:²:a\n"})
    with pytest.raises(InputError):
        identity(user, tree)


def test_the_largest_user_is_one(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"etc/passwd": "a:x:1:2:::\n", "etc/group": "g:x:²:a\n"})
    assert identity("4294967294", tree).uid == 4294967294
    assert identity("a", tree) == Identity(1, 2)
