"""Deployments written by hand: what they state, what is refused, what a change asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.collect.declared import read_declared
from ringfence.errors import InputError
from ringfence.knowledge.loader import load
from ringfence.measure.openings import find
from ringfence.model.deployment import Deployment, Means
from ringfence.model.evidence import Grade
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.report.as_file import as_file

KNOWLEDGE = load()
LEAST = 'name = "x"\n[[zones]]\nname = "a"\n'


def read(tmp_path: Path, text: str) -> Deployment:
    path = tmp_path / "design.toml"
    path.write_text(text)
    return read_declared(path, KNOWLEDGE)


def test_the_least_that_can_be_said(tmp_path: Path) -> None:
    found = read(tmp_path, LEAST)
    assert found.kernel_zone == "a"
    assert [line.kind.value for line in found.boundaries] == ["process", "kernel", "network"]
    assert found.default.state is State.UNKNOWN


def test_an_exact_condition_beats_a_pattern_whatever_their_order(tmp_path: Path) -> None:
    text = (
        LEAST + '[conditions]\ndefault = "closed"\nopen = ["syscall:bpf"]\nclosed = ["syscall:*"]\n'
    )
    found = read(tmp_path, text)
    assert found.condition("syscall:bpf", Level.USER).state is State.OPEN
    assert found.condition("syscall:mount", Level.USER).state is State.CLOSED


def test_a_longer_pattern_beats_a_shorter_one_whichever_closes(tmp_path: Path) -> None:
    for wide, narrow in (("open", "closed"), ("closed", "open")):
        text = LEAST + f'[conditions]\n{wide} = ["syscall:*"]\n{narrow} = ["syscall:mo*"]\n'
        found = read(tmp_path, text)
        assert found.condition("syscall:mount", Level.USER).state is State(narrow)
        assert found.condition("syscall:bpf", Level.USER).state is State(wide)


def test_conditions_for_admin_alone(tmp_path: Path) -> None:
    text = LEAST + '[conditions]\ndefault = "closed"\n[conditions.admin]\nopen = ["cap:*"]\n'
    found = read(tmp_path, text)
    assert found.condition("cap:CAP_SYS_ADMIN", Level.USER).state is State.CLOSED
    assert found.condition("cap:CAP_SYS_ADMIN", Level.ADMIN).state is State.OPEN


def boundary(mechanism: str, kind: str = "process") -> str:
    return f'[[boundaries]]\nkind = "{kind}"\nzone = "a"\nmechanisms = [{mechanism}]\n'


NO_NEW = 'id = "no-new-privileges"'
POINT = '[[entry_points]]\nid = "x"\n'
BPF = '[[condition]]\nid = "syscall:bpf"\nstate = "open"\n'


def test_a_mechanism_on_closes_and_off_opens(tmp_path: Path) -> None:
    for state, expected in (("on", State.CLOSED), ("off", State.OPEN)):
        text = LEAST + boundary(f'{{ id = "no-new-privileges", state = "{state}" }}')
        found = read(tmp_path, text)
        assert found.condition("process:new-privileges", Level.USER).state is expected


def test_a_change_after_a_measurement_beats_the_conditions(tmp_path: Path) -> None:
    said = '[[condition]]\nid = "process:new-privileges"\nstate = "open"\n'
    for measured, expected in (("off", State.CLOSED), ("on", State.OPEN)):
        line = f'{{ id = "no-new-privileges", state = "on", measured = "{measured}" }}'
        found = read(tmp_path, LEAST + boundary(line) + said)
        assert found.condition("process:new-privileges", Level.USER).state is expected


def test_a_file_can_lower_a_grade_and_never_raise_it(tmp_path: Path) -> None:
    for claimed, believed in (("probed", Grade.DECLARED), ("assumed", Grade.ASSUMED)):
        text = (
            LEAST + '[[condition]]\nid = "syscall:bpf"\nstate = "open"\n'
            f'evidence = [{{ grade = "{claimed}", source = "me" }}]\n'
        )
        (evidence,) = read(tmp_path, text).conditions["syscall:bpf"].evidence
        assert evidence.grade is believed


def test_a_known_vulnerability_changes_the_means_and_adds_nothing(tmp_path: Path) -> None:
    point = '[[entry_points]]\nid = "http"\n'
    known = '[[known]]\nvector = "http.execution"\ncve = "CVE-2021-23017"\n'
    vectors = [
        find(read(tmp_path, LEAST + text), KNOWLEDGE).open for text in (point, point + known)
    ]
    assert [v.id for v in vectors[0]] == [v.id for v in vectors[1]]
    means = [{v.id: v.edge.means for v in found}["http.execution"] for found in vectors]
    assert means == [Means.ZERO_DAY, Means.KNOWN]


@pytest.mark.parametrize(("line", "supposed"), [("", False), ("supposed = true\n", True)])
def test_what_is_only_supposed_stays_so_when_it_is_written_out(
    tmp_path: Path, line: str, supposed: bool
) -> None:
    found = read(tmp_path, LEAST + POINT + line)
    again = read(tmp_path, as_file(found, found.boundaries))
    for deployment in (found, again):
        assert [point.supposed for point in deployment.entry_points] == [supposed]


def test_an_entry_point_without_a_leak(tmp_path: Path) -> None:
    found = read(tmp_path, LEAST + '[[entry_points]]\nid = "http"\nleak = "none"\n')
    entries = [v.id for v in find(found, KNOWLEDGE).open if v.reach is not None]
    assert entries == ["http.execution"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "missing required field `name`"),
        ('name = "x"\nzones = []\n', "length >= 1"),
        (LEAST + "[[zones]]\nname = 'a'\n", "zones need different names"),
        ('name = "x"\n[[zones]]\nname = "outside"\n', "'outside'"),
        ('schema = "other/9"\n' + LEAST, "this version reads"),
        ('kernel_zone = "b"\n' + LEAST, "there is no zone 'b'"),
        ("ring = 2\n" + LEAST, "ring is 2"),
        (LEAST + boundary('{ id = "magic", state = "on" }'), "no mechanism 'magic'"),
        (LEAST + boundary('{ id = "aslr", state = "maybe" }'), "Invalid enum value 'maybe'"),
        (LEAST + '[conditions]\nopen = ["syscal:bpf"]\n', "there is no kind 'syscal'"),
        (
            LEAST + '[[known]]\nvector = "http.execution"\ncve = "CVE-2021-23017"\n',
            "known: there is no vector 'http.execution'",
        ),
        (
            LEAST + "".join(f'[[entry_points]]\nid = "{n}"\n' for n in range(16_385)),
            "has 16,385 entry points",
        ),
        (LEAST + '[[entry_points]]\nid = "x"\nkind = "smoke"\n', "kind 'smoke' is none of"),
        (LEAST + '[[entry_points]]\nid = "x"\nleak = "luck"\n', "means 'luck' is none of"),
        (LEAST + '[[entry_points]]\nid = "x"\n[[entry_points]]\nid = "x"\n', "different ids"),
        (LEAST + '[[known]]\nvector = "x"\ncve = "soon"\n', "CVE"),
        (LEAST + "surprise = 1\n", "unknown field `surprise`"),
        ("a" * 100 + "\x00", "cannot be read as TOML"),
        (LEAST + POINT + "port = 0\n", "`int` >= 1 - at `$.entry_points[0].port`"),
        (LEAST + POINT + "port = 65536\n", "`int` <= 65535 - at `$.entry_points[0].port`"),
        (LEAST + "[counts]\nbytes = { value = -5 }\n", "`int` >= 0"),
        (LEAST + POINT + '[[known]]\nvector = "x.leak"\ncve = "CVE-2021-23017\\n"\n', "matching"),
        (LEAST + '[conditions]\nclosed = ["userns"]\n', "'userns' is a formula"),
        (LEAST + BPF.replace(":bpf", ":*"), "'syscall:*': a pattern stands in the lists"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert said in caught.value.line()
    assert "design.toml" in caught.value.line()
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[conditions]\nopen = ["syscall:bpf"]\nclosed = ["syscall:bpf"]\n',
            "conditions: 'syscall:bpf' is in the lists open and closed",
        ),
        (
            '[conditions.admin]\nunknown = ["cap:*"]\nopen = ["cap:*"]\n',
            "conditions.admin: 'cap:*' is in the lists open and unknown",
        ),
        (
            BPF + BPF.replace("open", "closed"),
            "condition 'syscall:bpf' of level user is open and closed",
        ),
        (
            '[conditions]\nclosed = ["syscall:bpf"]\n' + BPF,
            "condition 'syscall:bpf' of level user is closed and open",
        ),
        (
            boundary(f'{{ {NO_NEW}, state = "on" }}, {{ {NO_NEW}, state = "off" }}'),
            "boundary process of zone 'a': mechanism 'no-new-privileges' stands there twice",
        ),
        (
            boundary(f'{{ {NO_NEW}, state = "on" }}') + boundary(f'{{ {NO_NEW}, state = "off" }}'),
            "mechanism 'no-new-privileges' is off, at a boundary before on",
        ),
        (
            boundary(f'{{ {NO_NEW}, state = "on" }}', "kernel"),
            "mechanism 'no-new-privileges' belongs to a boundary process",
        ),
        (
            boundary(f'{{ {NO_NEW}, state = "partial", measured = "on" }}'),
            "mechanism 'no-new-privileges' can be changed to on or off, not to partial",
        ),
    ],
)
def test_a_contradiction_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, LEAST + text)
    assert said in caught.value.line() and "design.toml" in caught.value.line()


@pytest.mark.parametrize(
    "text",
    [
        '[conditions]\nopen = ["syscall:bpf"]\nclosed = ["syscall:*"]\n',
        '[conditions]\nopen = ["cap:*"]\n[conditions.admin]\nclosed = ["cap:*"]\n',
        '[conditions]\nopen = ["syscall:bpf"]\n' + BPF,
        BPF + BPF.replace("open", "closed") + 'level = "admin"\n',
        2 * boundary(f'{{ {NO_NEW}, state = "on" }}'),
        boundary(f'{{ {NO_NEW}, state = "partial", measured = "partial" }}'),
        POINT + "port = 65535\n[counts]\nbytes = { value = 0 }\n",
    ],
)
def test_what_only_looks_like_a_contradiction_is_read(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, LEAST + text).name == "x"


def test_a_file_of_unreasonable_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    with path.open("wb") as file:
        file.truncate(9 << 20)
    with pytest.raises(InputError, match="is larger than 8 MiB"):
        read_declared(path, KNOWLEDGE)


def test_zones_have_a_bound(tmp_path: Path) -> None:
    stack = [f'[[zones]]\nname = "z{number}"\n' for number in range(65)]
    assert len(read(tmp_path, 'name = "x"\n' + "".join(stack[:64])).zones) == 64
    with pytest.raises(InputError, match="has 65 zones, the most is 64"):
        read(tmp_path, 'name = "x"\n' + "".join(stack))
