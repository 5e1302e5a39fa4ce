"""What joining cannot see of a process is said, where there is such a thing, and not elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.probe.confinement import _is_narrow, _unjoined


@pytest.mark.parametrize(
    ("head", "narrow"),
    [(b"\x7fELF\x01\x01\x01", True), (b"\x7fELF\x02\x01\x01", False), (b"#!/bin/sh\n", False),
     (b"", False)],
    ids=["32", "64", "script", "empty"],
)  # fmt: skip
def test_a_32_bit_program_is_told_by_its_file(tmp_path: Path, head: bytes, narrow: bool) -> None:
    file = tmp_path / "program"
    file.write_bytes(head)
    assert _is_narrow(str(file)) is narrow


def test_a_file_that_is_gone_is_no_32_bit_program(tmp_path: Path) -> None:
    assert not _is_narrow(str(tmp_path / "none"))


@pytest.mark.parametrize("narrow", [True, False])
def test_its_own_calls_are_not_tried(narrow: bool) -> None:
    said = " ".join(_unjoined({}, (), narrow=narrow))
    assert ("32-bit program" in said) is narrow


@pytest.mark.parametrize("tracer", ["0", "4711"])
def test_what_a_tracer_refuses_is_not_seen(tracer: str) -> None:
    said = " ".join(_unjoined({"TracerPid": tracer}, (), narrow=False))
    assert (f"process {tracer} traces it" in said) is (tracer != "0")
