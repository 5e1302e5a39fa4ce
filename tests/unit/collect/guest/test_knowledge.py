"""guests.toml: sound as shipped, and what is wrong in it is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ringfence.errors import KnowledgeError
from ringfence.knowledge.guests import load_guests, read_guests
from ringfence.knowledge.loader import load
from ringfence.knowledge.vocabulary import check_condition

ROOT = Path(__file__).parents[4]
FILE = ROOT / "src" / "ringfence" / "knowledge" / "guests.toml"


def test_every_deployment_and_condition_exists() -> None:
    guests, knowledge = load_guests(), load()
    for system in (*guests.system, guests.unknown):
        for choice in system.deployments:
            assert choice.template in knowledge.templates
        assert set(system.enforced) <= set(knowledge.templates)
        assert system.application in ("inside", "beside", "apart", "unknown")
    conditions = [word.condition for word in guests.word]
    for condition in (*conditions, *(item.condition for item in guests.protection)):
        assert check_condition(condition, knowledge) == ""


def test_every_pattern_begins_with_its_string() -> None:
    for entry in load_guests().named():
        for version in entry.versions:
            plain = re.sub(r"\\([.() +])", r"\1", version.pattern).replace(r"\xff", "\xff")
            assert plain.replace(r"\t", "\t").startswith(version.string), entry.id


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [('"guest-os:Mini-OS"', '"sound:Mini-OS"', "there is no mark"),
     ("(?P<version>", "(?P<number>", "lacks the group"),
     ('magic = "4e564d544653"', 'magic = "NVMTFS"', "not hexadecimal"),
     ('id = "osv"', 'id = "solo5"', "an id of its own"),
     ('deployments = [{ template = "osv" }]', "deployments = []", "the last deployment"),
     ('application = "beside"', 'aplication = "beside"', "aplication")],
)  # fmt: skip
def test_what_is_wrong_is_named(old: str, new: str, problem: str, tmp_path: Path) -> None:
    text = FILE.read_text()
    assert old in text
    path = tmp_path / "guests.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(KnowledgeError, match=problem):
        read_guests(path)


def test_the_example_of_the_page_is_an_entry(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "guest.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "guests.toml"
    path.write_text(FILE.read_text() + example)
    assert read_guests(path).system[-1].id == "example"
