"""JSON of what came from outside: names that are not UTF-8."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from ringfence.report.json_format import encoded
from tests.command import ringfence
from tests.images import Entry, layer


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain \u00e9", "plain \u00e9"), (os.fsdecode(b"a\xff\x80z"), r"a\xff\x80z"),
     ("\ud800", r"\ud800")],
)  # fmt: skip
def test_bytes_that_are_no_utf8_are_written_as_numbers(text: str, expected: str) -> None:
    assert json.loads(encoded({text: [text, 1, None], "b": (text,)})) == {
        expected: [expected, 1, None], "b": [expected]}  # fmt: skip


def test_a_member_whose_name_is_no_utf8_is_measured(tmp_path: Path) -> None:
    names = (os.fsdecode(b"etc/\xff\nx"), os.fsdecode(b"usr/bin/\xfe/bash"))
    path = tmp_path / "root.tar"
    path.write_bytes(layer([Entry(name, mode=0o4755) for name in names], tarfile.GNU_FORMAT))
    done = ringfence("measure", path, "--no-plan", "--format", "json", "--facts", tmp_path / "f")
    assert (done.code, done.err) == (0, "")
    json.loads(done.out)
    facts = json.loads((tmp_path / "f").read_text())
    paths = [file["path"] for file in facts["tree"]["privileged"]]
    assert paths == ["etc/\\xff\nx", "usr/bin/\\xfe/bash"]
