"""Who else runs as a process's user: told apart by what they are, not by the names they chose."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringfence.collect.process import neighbours as module
from ringfence.collect.process.neighbours import neighbours

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
def service(*words: str) -> Iterator[tuple[int, int]]:
    """A service of that name; its process and its worker's."""
    with subprocess.Popen([sys.executable, "-c", SERVICE, *words], stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        worker = int(one.stdout.readline())
        try:
            yield one.pid, worker
        finally:
            if worker:
                os.kill(worker, 9)
            one.kill()


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


def test_a_process_that_ends_while_it_is_read_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program is gone before it is: what runs as its user is told all the same."""
    real = module._image

    def ended(pid: int) -> module.Image | None:
        if pid == first:
            raise FileNotFoundError(pid)
        return real(pid)

    with service() as (first, _), service():
        monkeypatch.setattr(module, "_image", ended)
        assert _seen(first)


def test_workers_and_their_master_are_one_program() -> None:
    with service("workers") as (master, worker):
        assert not _seen(master)
        assert not _seen(worker)
        assert Path(f"/proc/{worker}/comm").read_text().strip() == NAME
