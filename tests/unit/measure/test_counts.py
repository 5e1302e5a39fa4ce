"""One-dimensional counts: what was not looked at is not none, and a part is not the whole."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ringfence.collect.declared import read_declared
from ringfence.collect.files.directory import read_directory, read_programs
from ringfence.knowledge.loader import load
from ringfence.measure.assemble import Asked, measure
from ringfence.measure.deduce import deduce
from ringfence.measure.mechanisms import describe
from ringfence.measure.place import place
from ringfence.model.deployment import Count
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.facts import Facts, Target
from ringfence.model.files import Tree
from ringfence.model.process import Memory
from ringfence.report import markdown, terminal, words
from ringfence.report.as_file import as_file
from ringfence.report.look import Look
from tests.unit.measure.test_admin import SAID, process

KNOWLEDGE = load()
SEEN = Evidence(Grade.OBSERVED, "here")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/true").write_bytes(Path("/bin/true").read_bytes())
    (tmp_path / "usr/bin/true").chmod(0o4755)
    return tmp_path


def counts(tree: Tree) -> dict[str, Count]:
    return deduce(Facts(Target("host", "t"), tree=tree), KNOWLEDGE).counts


def test_a_tree_that_was_read_in_part_has_lower_bounds(root: Path) -> None:
    tree = read_directory(root)
    for name in ("files", "bytes", "executables", "setuid", "packages", "elf_no_relro"):
        whole = counts(tree)[name]
        part = counts(msgspec.structs.replace(tree, complete=False))[name]
        assert (part.value, part.at_least) == (whole.value, True)
        assert not whole.at_least
        assert part.value is not None


def test_elf_files_that_were_not_looked_into_are_not_none(root: Path) -> None:
    assert counts(read_directory(root))["elf"] == Count(1, Evidence(Grade.OBSERVED, str(root)))
    quick = counts(read_directory(root, with_elf=False))["elf"]
    assert (quick.value, quick.evidence.grade) == (None, Grade.ASSUMED)


def test_folders_of_programs_say_nothing_of_other_files(root: Path) -> None:
    found = counts(read_programs(root))
    assert (found["setuid"].value, found["setuid"].at_least) == (1, True)
    for name in ("files", "bytes", "libraries", "packages", "elf"):
        assert found[name].value is None


def test_a_service_brings_the_code_that_it_runs_at_least() -> None:
    seen = Seen(Memory(0, False, None, {"/usr/sbin/nginx": 7, "/lib/libc.so.6": 5}, SAID), SAID)
    one = msgspec.structs.replace(process(), memory=seen)
    service = deduce(Facts(Target("process", "t"), processes=(one,)), KNOWLEDGE)
    placed = place(service, KNOWLEDGE.templates["container-minimal"], KNOWLEDGE)
    assert (placed.counts["files"].value, placed.counts["files"].at_least) == (2, True)
    assert words.count("files", placed.counts) == "≥ 2"
    assert words.count("files", {"files": Count(2, SEEN)}) == "2"
    assert words.count("files", {"files": Count(None, SEEN)}) == "-"


def test_an_application_in_the_kernels_ring_has_no_system_calls_to_count() -> None:
    service = deduce(Facts(Target("process", "t"), processes=(process(),)), KNOWLEDGE)
    for template in KNOWLEDGE.templates.values():
        calls = place(service, template, KNOWLEDGE).counts.get("system_calls")
        if template.ring == 0:
            assert calls is not None
            assert calls.value is None
            assert "none to count" in calls.evidence.detail
        elif template.counts.get("system_calls") is not None:
            assert calls is not None
            assert calls.value


def test_of_an_image_of_one_application_its_one_program_is_counted() -> None:
    alone = {
        name for name, template in KNOWLEDGE.templates.items()
        if any("no other programs inside" in note for note in template.notes)
    }  # fmt: skip
    counted = {
        name: template.counts["executables"] for name, template in KNOWLEDGE.templates.items()
        if "executables" in template.counts
    }  # fmt: skip
    assert set(counted) == alone
    assert {count.value for count in counted.values()} == {1}
    assert all(count.source.startswith(("https://", "doi:")) for count in counted.values())


def test_a_lower_bound_stays_one_in_a_file(root: Path, tmp_path: Path) -> None:
    whole = read_directory(root)
    for complete in (True, False):
        tree = msgspec.structs.replace(whole, complete=complete)
        found = deduce(Facts(Target("host", "t"), tree=tree), KNOWLEDGE)
        path = tmp_path / "again.toml"
        path.write_text(as_file(found, describe(found, KNOWLEDGE)))
        again = read_declared(path, KNOWLEDGE).counts["files"]
        assert (again.value, again.at_least) == (1, not complete)


@pytest.mark.parametrize("silent", [0, 1])
def test_where_sockets_were_not_shown_entry_points_may_be_missing(silent: int) -> None:
    facts = Facts(Target("process", "t"), processes=(process(),), silent=silent)
    found = deduce(facts, KNOWLEDGE)
    told = [item.why for item in found.unseen if item.what == "entry points"]
    assert [why.partition(":")[0] for why in told] == (
        ["1 of 1 processes do not show their sockets"] * silent
    )
    placed = place(found, KNOWLEDGE.templates["container-default"], KNOWLEDGE)
    asked = Asked(KNOWLEDGE.scales["classic"], plan=False)
    for each in (found, placed):
        result = measure(facts.target, each, KNOWLEDGE, asked)
        points = result.counts["entry_points"]
        assert (points.value, points.at_least) == (0, bool(silent))
        assert words.headline(result).endswith("; seen in part") == bool(silent)
        caveat = words.in_part(result)
        assert ("entry points may be missing" in caveat) == bool(silent)
        assert caveat in terminal.measurements((result,), Look(width=1000))
        assert caveat in markdown.measurements((result,), Look())
