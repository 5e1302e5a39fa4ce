"""`ringfence watch run --enforce exec` on overlayfs, where a mapping holds another file than what
is executed. Only ever on an overlay that the test makes on its own tmpfs."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.watch.live.layers import UNTOLD
from ringfence.watch.live.ruling import WRITTEN
from tests.system.watch_runs import Run, tmpfs

pytestmark = pytest.mark.system

LOADER = Path("/lib64/ld-linux-x86-64.so.2")
ON = ("--enforce", "exec")
SETTLED = 0.25
"""Seconds after which a change is no longer a moment ago."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


@pytest.fixture(params=["reachable", "unreachable"])
def overlay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Run, bool]]:
    """An overlay with a program in its lower layer, and whether its upper one has a path that
    everybody can follow."""
    reachable = request.param == "reachable"
    with tmpfs(tmp_path / "layers") as layers:
        for name in ("lower", "upper", "work", "merged"):
            (layers / name).mkdir()
        for name in ("good", "second"):
            shutil.copy("/bin/true", layers / "lower" / name)
        place = f"{layers}/" if reachable else ""
        options = f"lowerdir={place}lower,upperdir={place}upper,workdir={place}work"
        subprocess.run(["mount", "-t", "overlay", "ringfence-test", "-o", options, "merged"],
                       cwd=layers, check=True)  # fmt: skip
        try:
            run = Run(tmp_path, layers / "merged")
            run.watched.init()
            yield run, reachable
        finally:
            subprocess.run(["umount", "-l", str(layers / "merged")], check=True)


@contextlib.contextmanager
def mapped(program: Path) -> Iterator[None]:
    """The same program anew, in a shared mapping that outlives its descriptor (mmap.mmap keeps a
    descriptor of its own)."""
    content, mode = program.read_bytes(), program.stat().st_mode
    program.unlink()
    handle = os.open(program, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    os.write(handle, content)
    address = _libc.mmap(None, len(content), mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED,
                         handle, 0)  # fmt: skip
    os.close(handle)
    assert address not in (None, ctypes.c_void_p(-1).value)
    try:
        ctypes.memmove(address, content, len(content))
        time.sleep(SETTLED)
        yield
    finally:
        _libc.munmap(address, len(content))


def runs(program: Path) -> bool:
    """Whether it can be executed."""
    return subprocess.run(["sh", "-c", str(program)], capture_output=True, timeout=20,
                          check=False).returncode == 0  # fmt: skip


def test_what_is_mapped_for_writing_does_not_run(overlay: tuple[Run, bool]) -> None:
    run, reachable = overlay
    good = run.target / "good"
    with run.running(*ON, sign="enforce"):
        with mapped(good):
            assert not runs(good)
            run.until_event("denial", "/good", why=WRITTEN if reachable else UNTOLD)
        assert runs(good) is reachable, "nobody can write to it any more"
        assert runs(run.target / "second"), "it is in the lower layer as it was"


def test_the_loader_gets_no_data_that_is_mapped_for_writing(overlay: tuple[Run, bool]) -> None:
    run, reachable = overlay
    sly = run.target / "sly"
    with run.running(*ON, sign="enforce"):
        sly.write_bytes(b"data")
        with mapped(sly):
            subprocess.run([LOADER, sly], capture_output=True, check=False)
            run.until_event("denial", "/sly", why=WRITTEN, how="open")
            assert sly.read_bytes() == b"data"
        subprocess.run([LOADER, sly], capture_output=True, check=False)
        shutil.copy("/bin/true", run.target / "last")
        assert not runs(run.target / "last")
        run.until_event("denial", "/last")
        assert len(run.events("denial", "/sly")) == (1 if reachable else 2)


def test_what_came_anew_runs_where_the_upper_layer_can_be_asked(overlay: tuple[Run, bool]) -> None:
    run, reachable = overlay
    with run.running(*ON, sign="enforce"):
        shutil.copy("/bin/true", run.target / "new")
        (run.target / "new").rename(run.target / "second")
        time.sleep(SETTLED)
        assert runs(run.target / "second") is reachable
    with run.running(*ON, sign="enforce"):
        assert runs(run.target / "second"), "it is older than this watch"


def test_what_was_mapped_before_is_seen_in_the_upper_layer(overlay: tuple[Run, bool]) -> None:
    """docs/watch.md says where it is not: this keeps it honest."""
    run, reachable = overlay
    with mapped(run.target / "good"), run.running(*ON, sign="enforce"):
        assert runs(run.target / "good") is not reachable
