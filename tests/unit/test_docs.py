"""The documentation holds what it says: examples run, links lead somewhere, names exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from ringfence.cli.main import COMMANDS
from ringfence.cli.main import ringfence as group
from ringfence.harden.policy.languages import LANGUAGES
from ringfence.model.measurement import PlanStep
from ringfence.watch.baseline.seal import generate
from tests.command import ringfence

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_example_of_a_hand_written_deployment_is_measured(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "declared.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "shop.toml").write_text(example)
    done = ringfence("measure", tmp_path / "shop.toml")
    assert done.code == 0, done.err
    assert "known" in done.out


def test_the_scale_of_the_page_is_a_scale(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    (tmp_path / "mine.toml").write_text(text.partition("```toml\n")[2].partition("```")[0])
    example = ROOT / "examples" / "1-general-purpose-server.toml"
    done = ringfence("measure", example, "--scale", tmp_path / "mine.toml")
    assert done.code == 0, done.err


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    for name in COMMANDS:
        assert f"ringfence {name}" in page
        for option in re.findall(r"--[a-z-]+", ringfence(name, "--help").out):
            assert option in page or option == "--help", option


def test_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^make (\w+)|`make (\w+)`", text, re.MULTILINE)):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target
    for name in re.findall(r"^ringfence (\w+)", text, re.MULTILINE):
        assert name in COMMANDS


def test_the_example_of_the_ledger_runs_as_printed(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "ledger.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    generate(tmp_path / "ledger.key")
    for path in ("/var/lib/ringfence/ledger", "ledger.key"):
        assert f'"{path}"' in example
        example = example.replace(f'"{path}"', repr(str(tmp_path / Path(path).name)))
    names: dict[str, object] = {}
    exec(compile(example, "ledger.md", "exec"), names)  # noqa: S102
    assert isinstance(names["index"], int)
    generate(tmp_path / "other.key")
    for key, code in (("ledger", 0), ("other", 1)):
        done = ringfence("watch", "log", tmp_path / "ledger", "--verify",
                         "--public-key", tmp_path / f"{key}.key.pub")  # fmt: skip
        assert done.code == code, done.err


def test_help_marks_each_repeatable_option() -> None:
    for name in ("measure", "compare", "harden", "guest", "run", "probe"):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        for item in command.params:
            if isinstance(item, click.Option) and item.multiple:
                assert "Repeatable." in (item.help or ""), (name, item.name)


def test_options_of_watch_are_documented() -> None:
    shared = (ROOT / "docs" / "cli.md").read_text()
    for name, page in (("run", "watch"), ("log", "ledger")):
        text = shared + (ROOT / "docs" / f"{page}.md").read_text()
        for option in re.findall(r"--[a-z-]+", ringfence("watch", name, "--help").out):
            assert option in text or option == "--help", option


def test_the_fields_of_a_step_of_the_plan_are_documented() -> None:
    text = (ROOT / "docs" / "measure.md").read_text()
    listed = re.findall(r"`(\w+)`", text.partition("`plan` [{")[2].partition("}]")[0])
    assert tuple(listed) == PlanStep.__struct_fields__


def test_the_languages_of_policies_are_counted() -> None:
    """A second filter of seccomp and the labels beside SELinux's module are no languages."""
    languages = set(LANGUAGES) - {"seccomp-serving.json", "selinux.contexts"}
    assert len(languages) == 9
    assert "policies in nine languages" in (ROOT / "README.md").read_text()


def test_the_help_of_measure_names_every_kind_of_target() -> None:
    said = " ".join(ringfence("measure", "--help").out.split())
    for word in ("PID", "`host`", "container's name", "image archive", "root file system", "bundle",
                 "kernel, unikernel or disk image", "saved examination", "TOML"):  # fmt: skip
        assert word in said, word


def test_the_date_of_files_is_said_as_it_is_chosen() -> None:
    assert "Default: SOURCE_DATE_EPOCH, else 0." in " ".join(
        ringfence("harden", "--help").out.split()
    )
