"""Who else runs as a process's user: told apart by what they are, not by the names they chose."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringfence.collect.process import neighbours as module
from ringfence.collect.process import procfs
from ringfence.collect.process.namespaces import inode_of
from ringfence.collect.process.neighbours import neighbours
from ringfence.model.evidence import Grade, Seen

NAME = "rf-neighbour"
SERVICE = f"""
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(15, b"{NAME}", 0, 0, 0)
worker = os.fork() if "workers" in sys.argv else 0
if worker or "workers" not in sys.argv:
    print(worker, flush=True)
time.sleep(60)
"""


@contextmanager
def service(*words: str, before: tuple[str, ...] = ()) -> Iterator[tuple[int, int]]:
    """A service of that name, started by way of `before`; its process and its worker's."""
    command = [*before, sys.executable, "-c", SERVICE, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        worker = int(one.stdout.readline())
        try:
            yield one.pid, worker
        finally:
            if worker:
                os.kill(worker, 9)
            one.kill()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs but services of that name."""
    pids = procfs.pids

    def named() -> list[int]:
        return [pid for pid in pids() if _name(pid) == NAME]

    monkeypatch.setattr(procfs, "pids", named)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _of(pid: int) -> Seen[tuple[str, ...]]:
    return neighbours(pid, os.stat(f"/proc/{pid}").st_uid)


def _seen(pid: int) -> bool:
    found = neighbours(pid, os.stat(f"/proc/{pid}").st_uid).value
    assert found is not None
    return NAME in found


def test_another_service_of_the_same_name_and_program_is_a_neighbour() -> None:
    with service() as (first, _):
        assert not _seen(first)
        with service() as (second, _):
            assert _seen(first)
            assert _seen(second)


def test_a_process_that_ends_while_it_is_read_is_no_error(
    monkeypatch: pytest.MonkeyPatch, alone: None
) -> None:
    """Its program is gone before it is: whether the others run it is not known."""
    real = module._image

    def ended(pid: int) -> module.Image | None:
        if pid == first:
            raise FileNotFoundError(pid)
        return real(pid)

    with service() as (first, _), service():
        monkeypatch.setattr(module, "_image", ended)
        assert _of(first).value is None


def test_workers_and_their_master_are_one_program() -> None:
    with service("workers") as (master, worker):
        assert not _seen(master)
        assert not _seen(worker)
        assert Path(f"/proc/{worker}/comm").read_text().strip() == NAME


def test_without_random_addresses_kinship_alone_tells(alone: None) -> None:
    fixed = ("setarch", "-R")
    if shutil.which("setarch") is None:
        pytest.skip("no setarch here")
    with service("workers", before=fixed) as (master, worker):
        assert _of(master).value == _of(worker).value == ()
        with service("workers", before=fixed) as (other, _):
            assert module._image(other) == module._image(master)
            for pid in (master, worker, other):
                found = _of(pid)
                assert found.value is None
                assert found.evidence.grade is Grade.ASSUMED
                assert NAME in found.evidence.detail
        with service():
            assert _of(master).value == (NAME,)


def test_what_a_fixed_place_is() -> None:
    def fixed(stack: int) -> bool:
        return module._at_fixed_place((1, 1, "1", "1", str(stack)))

    assert all(map(fixed, (0x7FFFFFFFE720, 0xFFFFFFFFE720, 0xFFFFD9B0, 0xBFFFF9B0)))
    assert not any(map(fixed, (0x7FFC6DB24110, 0xFFFFC1234560, 0xFF123450, 0x7FFFFF000000)))


def test_what_may_not_be_read_is_no_neighbour_that_was_seen(
    monkeypatch: pytest.MonkeyPatch, alone: None
) -> None:
    depth = {"first": "1 5", "second": "1 6"}

    def status(pid: int) -> dict[str, str]:
        return {"Uid": "0 0 0 0", "NSpid": depth["first" if pid == first else "second"]}

    with service() as (first, _), service() as (second, _):
        assert _of(first).value == (NAME,)
        monkeypatch.setattr(module, "_status", status)
        monkeypatch.setattr(
            module, "inode_of", lambda pid, kind: None if pid == second else inode_of(pid, kind)
        )
        found = _of(first)
        assert (found.value, found.evidence.grade) == (None, Grade.ASSUMED)
        depth["second"] = "6"  # in a namespace above: surely not in the same one
        assert _of(first).value == ()
        depth["first"] = "5"  # both in that of /proc
        assert _of(first).value == (NAME,)
        monkeypatch.setattr(module, "_image", lambda pid: None)
        assert _of(first).value is None
