"""The terminal's report: names from outside do nothing to the terminal."""

from __future__ import annotations

from pathlib import Path

from tests.command import ringfence

HOSTILE = """name = "NUMBER\\u001b[2J\\u001b]0;x\\u0007\\n## heading [bold]"
[[zones]]
name = "z\\n\\u001b[31m"
[[zones]]
name = "outer\\u009b1m"
[[entry_points]]
id = "a\\n\\u001b[1m"
"""


def declared(folder: Path, number: str) -> Path:
    path = folder / f"{number}.toml"
    path.write_text(HOSTILE.replace("NUMBER", number))
    return path


def test_control_characters_of_names_reach_no_terminal(tmp_path: Path) -> None:
    first, second = declared(tmp_path, "one"), declared(tmp_path, "two")
    for done in (
        ringfence("measure", first),
        ringfence("compare", first, second),
    ):
        assert (done.code, done.err) == (0, "")
        assert "?[2J?]0;x??## heading [bold]" in done.out
        assert "z??[31m" in done.out
        assert all(char.isprintable() or char == "\n" for char in done.out)
        assert not any(line.startswith("## heading") for line in done.out.splitlines())
