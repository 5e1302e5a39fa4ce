"""`ringfence measure`: formats, limits, files to edit, bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ringfence
from tests.images import Entry, layer, oci_archive, oci_files, write_archive

EXAMPLES = Path(__file__).parents[3] / "examples"
SERVER = EXAMPLES / "1-general-purpose-server.toml"


def test_the_terminal_says_in_ten_lines_where_it_is_worst_and_what_to_do_first() -> None:
    done = ringfence("measure", SERVER)
    assert done.code == 0
    assert done.err == ""
    first = done.out.splitlines()[:12]
    assert "surface 16 from internet" in first[0]
    assert any("worst" in line and "system:user to system:admin" in line for line in first)


def test_json_is_one_document_with_the_published_names() -> None:
    done = ringfence("measure", SERVER, "--format", "json")
    document = json.loads(done.out)
    assert document["schema"] == "ringfence.measurement/1"
    assert document["surface"]["total"] == 16
    assert document["zero_days_to_admin"] == {"system": 2, "machine": 2}
    assert {"target", "deployment", "entry_points", "vectors", "profile", "blast_radius",
            "evidence_coverage", "unseen", "plan", "counts"} <= set(document)  # fmt: skip


def test_several_targets_are_several_measurements() -> None:
    done = ringfence("measure", SERVER, EXAMPLES / "2-unikernel.toml", "--format", "json")
    assert [item["surface"]["total"] for item in json.loads(done.out)] == [16, 101]


def test_markdown_has_every_vector() -> None:
    done = ringfence("measure", SERVER, "--format", "markdown")
    assert "| `core-system-calls` |" in done.out
    assert "| `http.leak` |" in done.out


def test_mechanisms_and_counts_stand_in_both_readable_forms(tmp_path: Path) -> None:
    image = oci_archive(tmp_path / "image.tar", [layer([Entry("bin/sh", mode=0o755)])])
    shown = ringfence("measure", image, "--no-plan").out
    assert "container (container) off: user-namespace" in shown
    assert "files 1" in shown
    written = ringfence("measure", image, "--no-plan", "--format", "markdown").out
    assert "| container (container) | `user-namespace` | off |" in written
    assert "| files | 1 |" in written


@pytest.mark.parametrize(
    ("limit", "code"),
    [("surface>15", 1), ("surface>16", 0), ("vectors>=3", 1), ("system<2", 0), ("system<=2", 1),
     ("machine<3", 1)],
)  # fmt: skip
def test_limits_decide_the_exit_code(limit: str, code: int) -> None:
    done = ringfence("measure", SERVER, "--fail-on", limit)
    assert done.code == code
    assert ("limit passed" in done.err) == bool(code)


def test_a_limit_that_is_not_understood_stops_before_the_measurement() -> None:
    done = ringfence("measure", SERVER, "--fail-on", "risk>3")
    assert done.code == 2
    assert done.out == ""
    assert "'risk>3' is not understood" in done.err


def test_the_other_scale_and_one_of_ones_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('id = "mine"\ndata = 2\nuser = 4\nadmin = 8\nadmin_alone = 8\ndiscount = 2\n')
    done = ringfence("measure", SERVER, "--scale", mine, "--format", "json", "--no-plan")
    assert json.loads(done.out)["surface"]["total"] == 2 + 4 + 8 / 2
    done = ringfence("measure", SERVER, "--scale", "golden")
    assert done.code == 2
    assert "golden" in done.err
    mine.write_text(mine.read_text().replace('"mine"', '"classic"'))
    done = ringfence("measure", SERVER, "--scale", mine)
    assert (done.code, done.out) == (2, "")
    assert "'classic'" in done.err


def test_a_published_vulnerability_that_the_user_knows_of() -> None:
    words = ("measure", SERVER, "--format", "json", "--no-plan")
    before = json.loads(ringfence(*words).out)
    after = json.loads(ringfence(*words, "--known", "http.execution=CVE-2021-23017").out)
    assert after["surface"]["total"] == before["surface"]["total"]
    assert len(after["vectors"]) == len(before["vectors"])
    assert (before["zero_days_to_admin"]["system"], after["zero_days_to_admin"]["system"]) == (2, 1)
    criminal = "internet/criminal"
    assert before["surface"]["by_attacker"][criminal] == 0
    assert after["surface"]["by_attacker"][criminal] == 5


@pytest.mark.parametrize(
    "text",
    ["http.execution", "http.execution=soon", "nothing=CVE-2021-23017",
     "http.execution=CVE-2021-23017\n", "http.execution=CVE-202\u0661-23017"],
)  # fmt: skip
def test_a_known_vulnerability_that_makes_no_sense(text: str) -> None:
    done = ringfence("measure", SERVER, "--known", text)
    assert done.code == 2
    assert "--known" in done.err


def test_a_known_vulnerability_of_an_entry_point_with_an_equals_sign(tmp_path: Path) -> None:
    design = tmp_path / "x.toml"
    design.write_text(SERVER.read_text().replace('id = "http"', 'id = "a=b"'))
    words = ("measure", design, "--format", "json", "--no-plan")
    found = json.loads(ringfence(*words, "--known", "a=b.execution=CVE-2021-23017").out)
    assert found["zero_days_to_admin"]["system"] == 1


def test_the_start_can_be_chosen() -> None:
    done = ringfence("measure", SERVER, "--from", "supply-chain", "--format", "json", "--no-plan")
    assert json.loads(done.out)["surface"]["total"] == 100
    assert ringfence("measure", SERVER, "--from", "the moon").code == 2


def test_as_file_gives_the_same_measurement_again(tmp_path: Path) -> None:
    """Written out and read back, from an artefact that had to be placed and from a design."""
    image = oci_archive(tmp_path / "image.tar", [layer([Entry("bin/sh", mode=0o755)])],
                        {"ExposedPorts": {"80/tcp": {}}})  # fmt: skip
    for target in (SERVER, image):
        written = tmp_path / "again.toml"
        assert ringfence("measure", target, "--as-file", "-o", written).code == 0
        first = json.loads(ringfence("measure", target, "--format", "json", "--no-plan").out)
        again = json.loads(ringfence("measure", written, "--format", "json", "--no-plan").out)
        for key in ("surface", "profile", "zero_days_to_admin", "blast_radius"):
            assert first[key] == again[key], (target, key)
        assert [v["id"] for v in first["vectors"]] == [v["id"] for v in again["vectors"]]


def test_a_mechanism_switched_in_the_file_changes_the_surface(tmp_path: Path) -> None:
    image = oci_archive(tmp_path / "image.tar", [layer([Entry("bin/sh", mode=0o755)])])
    text = ringfence("measure", image, "--as-file").out
    before = 'id = "seccomp-default-deny", state = "partial"'
    changed = text.replace(before, before.replace("partial", "on"))
    assert changed != text
    totals = []
    for name, content in (("before.toml", text), ("after.toml", changed)):
        (tmp_path / name).write_text(content)
        done = ringfence("measure", tmp_path / name, "--format", "json", "--no-plan")
        totals.append(json.loads(done.out)["surface"]["total"])
    assert totals[1] < totals[0]


def test_each_step_of_a_plan_can_be_taken_in_the_file(tmp_path: Path) -> None:
    """Also of those whose state could not be seen: an image says nothing of who can drop a user."""
    image = oci_archive(tmp_path / "image.tar", [layer([Entry("bin/sh", mode=0o755)])])
    document = json.loads(ringfence("measure", image, "--format", "json").out)
    text = ringfence("measure", image, "--as-file").out
    assert 'state = "unknown", measured = "unknown"' in text
    for step in document["plan"]:
        seen = re.search(rf'id = "{step["mechanism"]}", state = "(off|partial|unknown)"', text)
        assert seen is not None, step["mechanism"]
        text = text.replace(seen[0], seen[0].replace(f'"{seen[1]}"', '"on"'))
    (tmp_path / "after.toml").write_text(text)
    done = ringfence("measure", tmp_path / "after.toml", "--format", "json", "--no-plan")
    assert json.loads(done.out)["surface"]["total"] == document["plan"][-1]["surface_after"]


def test_output_goes_to_the_file_and_nowhere_else(tmp_path: Path) -> None:
    target = tmp_path / "report.md"
    done = ringfence("measure", SERVER, "--format", "markdown", "-o", target)
    assert (done.out, done.err) == ("", "")
    assert target.read_text().startswith("# ")
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = ringfence("measure", SERVER, "-o", tmp_path / "no" / "such" / "folder")
    assert done.code == 2
    assert "cannot be written" in done.err


def test_all_that_was_read_can_be_kept(tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    assert ringfence("measure", SERVER, "--facts", facts).code == 0
    assert json.loads(facts.read_text())["target"]["kind"] == "declared"


def bad_inputs(place: Path) -> dict[str, tuple[Path | str, str]]:
    """Targets that cannot be measured, and what the one line must say."""
    good = layer([Entry("etc/passwd", b"root:x:0:0\n" * 200)])
    files = oci_files([good])
    lists = dict(files)
    row = json.loads(files["index.json"])["manifests"][0]
    row["platform"] = {"architecture": "s390x", "os": "linux"}
    lists["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [row]}).encode()
    (place / "cut.tar").write_bytes(good[:1300])
    (place / "noise.bin").write_bytes(bytes(range(256)) * 40)
    (place / "broken.toml").write_text("name = ")
    (place / "policy").mkdir()
    fenced = place / "fenced"
    fenced.mkdir()
    (fenced / "image.oci.tar").write_bytes(good)
    (place / "odd.toml").write_text('name = "x"\nzonez = []\n')
    return {
        "cut": (place / "cut.tar", "cut short"),
        "noise": (place / "noise.bin", "is neither an image"),
        "manifest list": (write_archive(place / "list.tar", lists), "only for s390x"),
        "no such file": (place / "missing.tar", "there is no such file"),
        "no such process": ("4194304", "4194304"),
        "no such container": ("no-such-container", "no-such-container"),
        "no digit of ours": ("²", "no file or container of this name"),
        "no number of a process": ("99999999", "no file, process or container of this name"),
        "result of harden": (fenced, f"measure {fenced}/image.oci.tar"),
        "folder": (fenced.parent / "policy", "say what it is with --kind"),
        "too many digits": ("9" * 5000, "file name too long"),
        "too long a name": ("a" * 300, "file name too long"),
        "too long a path": (f"{place}/{'a' * 300}", "file name too long"),
        "toml": (place / "broken.toml", "cannot be read as TOML"),
        "unknown field": (place / "odd.toml", "zone"),
    }


CASES = ("cut", "noise", "manifest list", "no such file", "no such process", "no such container",
         "no digit of ours", "no number of a process",
         "result of harden", "folder", "too many digits", "too long a name", "too long a path",
         "toml", "unknown field")  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_exit_code_2(case: str, tmp_path: Path) -> None:
    target, said = bad_inputs(tmp_path)[case]
    done = ringfence("measure", target)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("ringfence: ")
    assert done.err.count("\n") == 1
    assert said in done.err


def test_every_bad_case_is_tried(tmp_path: Path) -> None:
    assert set(bad_inputs(tmp_path)) == set(CASES)


def test_control_characters_of_a_hostile_name_never_reach_the_terminal(tmp_path: Path) -> None:
    design = tmp_path / "x.toml"
    design.write_text(SERVER.read_text().replace("general-purpose server", r"a\u001b[31mb\nc [b]"))
    done = ringfence("measure", design)
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "[b]" in done.out


@pytest.mark.parametrize(
    "words",
    [[SERVER], ["--format", "json"], ["--fail-on", "surface>1"], ["--from", "local"],
     ["--scale", "assets"], ["--scale", "classic"], ["--no-plan"]],
)  # fmt: skip
def test_as_file_takes_one_target_and_nothing_that_belongs_to_a_measurement(
    words: list[object],
) -> None:
    done = ringfence("measure", SERVER, "--as-file", *words)
    assert (done.code, done.out) == (2, "")
    assert "--as-file" in done.err


@pytest.mark.parametrize("word", ["²", "٣", "9" * 5000, "12345678"])
def test_what_cannot_be_a_process_is_said(word: str) -> None:
    done = ringfence("measure", "--kind", "process", word)
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_standard_output_that_is_full_is_one_line() -> None:
    words = [sys.executable, "-m", "ringfence", "measure", str(SERVER)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "ringfence: standard output: cannot be written: no space left on device\n"


@pytest.mark.parametrize("kind", ["image", "rootfs"])
def test_what_does_not_begin_as_a_tar_archive_is_none(kind: str) -> None:
    done = ringfence("measure", SERVER, "--kind", kind)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"{SERVER}: is no tar archive; is it the right file" in done.err


def test_a_container_that_a_file_has_the_name_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("measure", "--kind", "container", "no-such-container")
    assert "no file or container of this name" in ringfence(*words).err
    (tmp_path / "no-such-container").touch()
    assert "no-such-container: no container of this name" in ringfence(*words).err


def test_attributes_that_an_image_does_not_have(tmp_path: Path) -> None:
    image = oci_archive(tmp_path / "image.tar", [layer([Entry("bin/sh", mode=0o755)])])
    done = ringfence("watch", "init", image, "-o", tmp_path / "b", "--generate-key",
                     tmp_path / "key", "--with", "inode")  # fmt: skip
    assert (done.code, done.err) == (2, "ringfence: an image does not tell inode\n")
