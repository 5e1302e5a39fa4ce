"""Files, JSON and TOML that other people wrote: whatever is in them, one error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.cli.harden import configured
from ringfence.collect.container.document import read_document
from ringfence.collect.declared import read_declared
from ringfence.collect.files.image import read_image
from ringfence.collect.guest.examined import read_examined
from ringfence.errors import InputError
from ringfence.knowledge.loader import load, load_scale
from ringfence.probe.baseline import read_report
from ringfence.untrusted import Undecodable, decode_json, decode_toml, regular_file
from ringfence.watch.baseline.rules import read_rules

BROKEN_JSON = [b'{"a": "\xff"}', b'{"a": ' + b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}", b""]


@pytest.mark.parametrize("text", BROKEN_JSON)
def test_what_is_no_json_is_one_error(text: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_json(text, dict[str, str])


@pytest.mark.parametrize("text", [*BROKEN_JSON[:2], b"[]"])
def test_readers_of_json_name_the_file(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_bytes(text)
    for read, target in (
        (read_document, path),
        (read_examined, path),
        (read_report, path),
        (read_image, tmp_path),
    ):
        with pytest.raises(InputError) as caught:
            read(target)
        assert caught.value.where.startswith(str(tmp_path))


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InputError, match="not a regular file"):
        read_document(tmp_path / "config.json")


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"1234")
    assert regular_file(tmp_path / "large", 4) == b"1234"
    with pytest.raises(InputError, match="is larger than 3 bytes"):
        regular_file(tmp_path / "large", 3)
    with pytest.raises(InputError, match="no such file"):
        regular_file(tmp_path / "missing", 3)


BROKEN_TOML = {
    "long number": b"a = 1" + b"0" * 5000,
    "long hexadecimal number": b"a = 0x1" + b"0" * 5000,
    "deep": b"a = " + b"[" * 100_000,
    "deep, and whole": b"a = " + b"[" * 200 + b"]" * 200,
    "dotted": b"a" + b".a" * 50_000 + b" = 1",
    "dotted, quoted": b'"a"' + b'."a"' * 50_000 + b" = 1",
    "dotted, between strings": b'a = {b = """\n""", c' + b".c" * 5000 + b' = 1, d = """\n"""}',
    "no UTF-8": b"a = '\xff'",
}


@pytest.mark.parametrize("name", BROKEN_TOML)
def test_what_is_no_toml_is_one_error(name: str) -> None:
    with pytest.raises(Undecodable):
        decode_toml(BROKEN_TOML[name])


def test_dots_in_strings_are_no_parts_of_a_key() -> None:
    assert decode_toml(b'a = ["' + b'.", "' * 100 + b'."]') == {"a": ["."] * 101}


@pytest.mark.parametrize("name", BROKEN_TOML)
def test_readers_of_toml_name_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(BROKEN_TOML[name])
    for read in (
        lambda: read_declared(path, load()),
        lambda: load_scale(path),
        lambda: read_rules(path),
        lambda: configured(["--config", str(path)]),
    ):
        with pytest.raises(InputError, match=r"mine\.toml: cannot be read as TOML"):
            read()
