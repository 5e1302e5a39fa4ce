"""Tables of /proc whose rows hold names that a process chose: only a newline ends a row."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringfence.collect.process import procfs
from ringfence.collect.process.environment import environment
from ringfence.collect.process.limits import limits
from ringfence.collect.process.memory import memory
from ringfence.collect.process.mounts import mounts
from ringfence.model.evidence import Seen

ENDS = ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\udcff"]
"""What str.splitlines takes for the end of a line, and a byte that is no UTF-8."""


def _give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(procfs, "read", lambda _pid, _name: data)


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_a_mapped_file_with_a_line_end_in_its_name(tmp_path: Path, end: str) -> None:
    file = tmp_path / f"a{end}b"
    file.write_bytes(b"x")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 1, prot=mmap.PROT_READ):
        rows = procfs.rows(procfs.read(os.getpid(), "maps"))
        found = memory(os.getpid())
    assert any(row.endswith(str(file)) for row in rows)
    assert found.value is not None
    assert found.value.position_independent is not None


def test_a_row_of_maps_that_does_not_fit_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    _give(monkeypatch, b"odd\n7f00-7f01 rwxp 0 0:0 0 \n")
    found = memory(os.getpid())
    assert found.value is not None
    assert found.value.writable_executable == 1


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_a_cgroup_with_a_line_end_in_its_name(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    _give(monkeypatch, b"odd\n1:odd\n0::" + os.fsencode(f"/a{end}b:c") + b"\n")
    found = limits(os.getpid())
    assert found.value is not None
    assert found.value.cgroup == f"/a{end}b:c"
    assert found.value.devices.value is None


@pytest.mark.parametrize("end", ["\r", "\x0b", "\x0c"], ids=ascii)
def test_a_mount_point_with_a_line_end_in_its_name(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    _give(monkeypatch, f"1 0 8:1 / /a{end}b rw - ext4 /dev/a rw\n".encode())
    assert [item.path for item in mounts("self").value or ()] == [f"/a{end}b"]


def test_a_mount_without_a_source_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    _give(monkeypatch, b"1 0 0:9 / /a rw - tmpfs  rw\n")
    (found,) = mounts("self").value or ()
    assert (found.path, found.source) == ("/a", "")


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_a_name_with_a_line_end_states_no_other_field(end: str) -> None:
    found = procfs.fields(f"Name:\ta{end}Gone:\t1\nUid:\t7\n")
    assert found == {"Name": f"a{end}Gone:\t1", "Uid": "7"}


@pytest.mark.parametrize("look", [mounts, memory, limits, environment])
def test_what_was_cut_is_not_seen(
    monkeypatch: pytest.MonkeyPatch, look: Callable[[int], Seen[Any]]
) -> None:
    """Who made the file so long chose what stands behind the cut."""
    row = b"7f00-7f01 r-xp 0 0:0 0 /a\n"
    monkeypatch.setattr(procfs, "MOST_BYTES", 10 * len(row))
    _give(monkeypatch, row * 9)
    assert look(os.getpid()).value is not None
    _give(monkeypatch, row * 10)
    found = look(os.getpid())
    assert (found.value, found.evidence.detail) == (None, "file too large")


def test_a_file_is_read_whole_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Path("/proc/self/status").read_bytes()
    assert procfs.whole("self", "comm") == Path("/proc/self/comm").read_bytes()
    monkeypatch.setattr(procfs, "MOST_BYTES", len(table) // 2)
    assert len(procfs.read("self", "status")) == len(table) // 2
    with pytest.raises(OSError, match="File too large"):
        procfs.whole("self", "status")
