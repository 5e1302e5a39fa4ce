"""`ringfence harden`: words and configuration that make no sense are refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.cli.harden import configured
from ringfence.errors import InputError


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
