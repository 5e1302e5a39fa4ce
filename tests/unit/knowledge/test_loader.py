"""A broken entry is refused at load, and the message names file and entry."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import pytest

from ringfence.errors import KnowledgeError, RingfenceError
from ringfence.knowledge.loader import load, load_from, load_scale

SHIPPED = Path(str(resources.files("ringfence.knowledge")))
VECTOR = """
[[vector]]
id = "made-up"
title = "Made up"
kind = "escalation"
from = "workload:user"
gives = "workload:admin"
means = "zero-day"
needs = ["syscall:bpf"]
why = "A test."
sources = ["https://example.org/"]
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    place = tmp_path / "knowledge"
    shutil.copytree(SHIPPED, place)
    return place


def add(base: Path, text: str, file: str = "vectors/zz.toml") -> None:
    (base / file).write_text(text)


def test_a_new_entry_is_one_file_and_nothing_else(base: Path) -> None:
    add(base, VECTOR)
    assert set(load_from(base).vectors) - set(load().vectors) == {"made-up"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"syscall:bpf"', '"sycall:bpf"'), "there is no kind 'sycall'"),
        (('"syscall:bpf"', '"path:nowhere"'), "path has no 'nowhere'"),
        (('"syscall:bpf"', '"no-formula"'), "no formula 'no-formula'"),
        (('"syscall:bpf"', "{none=[]}"), "needs cannot hold"),
        (('"zero-day"', '"magic"'), "Invalid enum value 'magic'"),
        (('id = "made-up"', 'id = "setuid-programs"'), "already used in vectors/escalation.toml"),
        (('id = "made-up"', 'id = "Made Up"'), "an id has only"),
        (('sources = ["https://example.org/"]', "sources = []"), "must cite a source"),
        (("why =", "wyh ="), "unknown field `wyh`"),
        (('why = "A test."', 'why = "x"\ncve = ["CVE-1"]'), "'CVE-1' is no cve id"),
        (('why = "A test."', 'why = "x"\nattack = ["X1"]'), "'X1' is no attack id"),
        (("[[vector]]", "[[vektor]]"), "unknown table 'vektor'"),
        (("[[vector]]", "[[vector"), "cannot be read"),
    ],
)
def test_a_broken_entry_is_named(base: Path, change: tuple[str, str], said: str) -> None:
    add(base, VECTOR.replace(*change))
    with pytest.raises(KnowledgeError, match=r"zz\.toml|made-up") as caught:
        load_from(base)
    assert said in caught.value.line()
    assert "\n" not in caught.value.line()


def test_a_mechanism_must_close_its_own_signs(base: Path) -> None:
    path = base / "mechanisms" / "limits.toml"
    path.write_text(
        path.read_text().replace('closes = ["limit:memory-absent"]', 'closes = ["limit:pids-*"]')
    )
    with pytest.raises(KnowledgeError, match=r"mechanisms/limits.toml: memory-limit: closes lacks"):
        load_from(base)


def test_a_deployment_must_name_its_own_zones(base: Path) -> None:
    path = base / "deployments" / "vm.toml"
    path.write_text(path.read_text().replace('kernel_zone = "system"', 'kernel_zone = "attic"'))
    with pytest.raises(KnowledgeError, match=r"deployments/vm.toml: vm: no zone 'attic'"):
        load_from(base)


@pytest.mark.parametrize(
    ("kernel", "said"),
    [("other", "keeps 'sysctl:\\*'"), ("measured", "a machine of its own"), ("mine", "kernel")],
)
def test_a_deployment_keeps_what_was_seen_of_a_kernel_under_that_kernel_alone(
    base: Path, kernel: str, said: str
) -> None:
    path = base / "deployments" / "vm.toml"
    path.write_text(path.read_text().replace('kernel = "alike"', f'kernel = "{kernel}"'))
    with pytest.raises(KnowledgeError, match=rf"deployments/vm.toml.*{said}"):
        load_from(base)


def test_a_scale_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('id = "mine"\ndata = 2\nuser = 4\nadmin = 8\nadmin_alone = 8\ndiscount = 2\n')
    assert load_scale(path).admin == 8


@pytest.mark.parametrize(
    "text",
    ["", "id = 3", 'id = "x"\ndata = 9\nuser = 4\nadmin = 8\nadmin_alone = 8\ndiscount = 2\n',
     'id = "x"\ndata = 1\nuser = 4\nadmin = 8\nadmin_alone = 8\ndiscount = 0.5\n', "\x00", "{",
     *('id = "x"\ndata = 1\nuser = 4\nadmin = 8\nadmin_alone = 8\ndiscount = ' + worth
       for worth in ("nan", "inf", "1e300", "0x" + "f" * 400)),
     *(f'id = "x"\ndata = 1\nuser = 4\nadmin = {worth}\nadmin_alone = 8\ndiscount = 2'
       for worth in ("nan", "inf", "-inf", "1e300"))],
)  # fmt: skip
def test_a_scale_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RingfenceError, match=r"mine\.toml"):
        load_scale(path)
