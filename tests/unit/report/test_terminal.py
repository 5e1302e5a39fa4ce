"""The terminal's report: names from outside do nothing to the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import ringfence

PRIVILEGED = Path("examples/4-privileged-container.toml")

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


def test_a_plan_tells_the_depth_that_a_step_removes_and_only_that() -> None:
    printed = ringfence("measure", PRIVILEGED).out.split("\nPlan ")[1]
    measured = json.loads(ringfence("measure", PRIVILEGED, "--format", "json").out)
    before, changed = measured["zero_days_to_admin"], 0
    for step in measured["plan"]:
        after = step["zero_days_after"]
        text = " ".join(printed.split(f"({step['mechanism']}): ")[1].split()).split(" podman ")[0]
        for zone in ("system", "machine"):
            told = f"{zone} {before[zone]} to {after[zone]}"
            assert (told in text) == (before[zone] != after[zone])
        changed += before != after
        before = after
    assert 0 < changed < len(measured["plan"])


@pytest.mark.parametrize("columns", ["40", "200"])
def test_a_setting_is_printed_line_by_line_and_never_broken(
    columns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    service = tmp_path / "service.toml"
    service.write_text(Path("examples/1-general-purpose-server.toml").read_text().replace(
        'default = "closed"', 'default = "open"'))  # fmt: skip
    step = next(step for step in json.loads(ringfence("measure", service, "--format", "json").out)
                ["plan"] if step["mechanism"] == "service-seccomp")  # fmt: skip
    printed = ringfence("measure", service).out.splitlines()
    written = ringfence("measure", service, "--format", "markdown").out.splitlines()
    assert len(step["setting"]["systemd"].splitlines()) == 5
    for text in step["setting"].values():
        for line in text.splitlines():
            assert any(shown.endswith(f" {line}") for shown in printed), line
            assert f"     {line}" in written
    explained = ringfence("explain", "service-seccomp").out
    assert "    RestrictNamespaces=yes\n" in explained


def test_a_vector_that_the_start_never_gets_to_is_in_the_json_alone(tmp_path: Path) -> None:
    service = tmp_path / "service.toml"
    text = Path("examples/1-general-purpose-server.toml").read_text()
    local = text[text.index("[[entry_points]]") : text.index("[conditions]")].replace(
        'id = "http"', 'id = "control"\nreach = "local"'
    )
    service.write_text(text.replace("[conditions]", local + "[conditions]"))
    for start, shown in (("internet", False), ("local", True)):
        asked = ("measure", service, "--from", start, "--no-plan", "--format")
        measured = json.loads(ringfence(*asked, "json").out)
        steps = {vector["id"]: vector["steps"] for vector in measured["vectors"]}
        assert (steps["control.leak"] is not None) == shown
        assert measured["counts"]["vectors"]["value"] == (5 if shown else 3)
        for written in ("terminal", "markdown"):
            printed = ringfence(*asked, written).out
            assert "http.leak" in printed
            assert ("control.leak" in printed) == shown
