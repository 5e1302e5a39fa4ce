"""The command that drives a guest: nothing of it is left, whatever session it went to."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ringfence.collect.process.procfs import below, children
from ringfence.guest.exercise import running

WAIT = """
import asyncio, sys
from ringfence.guest.exercise import running

async def run():
    async with running(sys.argv[1], {}) as process:
        await process.wait()

asyncio.run(run())
"""

LEAVES = {
    "job": "sleep 777 & echo $! >{note}",
    "session": "setsid sleep 777 & echo $! >{note}",
    "orphan": "setsid sh -c 'sleep 777 & echo $! >{note}; exit'",
    "family": "setsid sh -c 'setsid sh -c \"setsid sleep 777 & echo \\$! >{note}; wait\" & wait' &",
}


@pytest.mark.parametrize("how", LEAVES)
@pytest.mark.parametrize("cut", [False, True])
def test_what_it_leaves_is_killed(how: str, cut: bool, tmp_path: Path) -> None:
    note, go = tmp_path / "pid", tmp_path / "go"

    async def run() -> bool:
        command = f"{LEAVES[how].format(note=note)}\nuntil [ -e {go} ]; do sleep 0.01; done"
        async with running(command, {}) as process:
            while not (note.exists() and note.read_text().strip()):
                await asyncio.sleep(0.01)
            seen = alive(int(note.read_text()))
            if not cut:
                go.touch()
                assert await process.wait() == 0
            return seen

    other = subprocess.Popen([shutil.which("sleep") or "sleep", "777"])
    try:
        assert asyncio.run(asyncio.wait_for(run(), 20))
        assert not alive(int(note.read_text()))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("how", LEAVES)
def test_our_sudden_end_is_the_end_of_all_of_it(how: str, tmp_path: Path) -> None:
    """Nobody can catch SIGKILL."""
    note = tmp_path / "pid"
    command = f"{LEAVES[how].format(note=note)}\nsleep 777"
    ours = subprocess.Popen([sys.executable, "-c", WAIT, command])
    try:
        until = time.monotonic() + 20
        while not (note.exists() and note.read_text().strip()):
            assert time.monotonic() < until
            time.sleep(0.01)
        (keeper,) = children(ours.pid)
        everything = {keeper, *below(keeper)}
        assert int(note.read_text()) in everything
        assert all(map(alive, everything))
    finally:
        ours.kill()
        ours.wait()
    until = time.monotonic() + 20
    while any(map(alive, everything)):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -9 $$", 137), (":", 0)])
def test_it_ends_as_its_command_does(command: str, status: int) -> None:
    async def run() -> int:
        async with running(command, {}) as process:
            return await process.wait()

    assert asyncio.run(run()) == status


def test_afterwards_orphans_are_not_ours(tmp_path: Path) -> None:
    async def run() -> None:
        async with running("exit 3", {}) as process:
            assert await process.wait() == 3

    asyncio.run(run())
    note = tmp_path / "parent"
    word = f"sh -c 'sleep 0.2; cut -d\" \" -f4 /proc/$$/stat >{note}.new; mv {note}.new {note}' &"
    pid = subprocess.Popen(["/bin/sh", "-c", word])
    pid.wait()
    until = time.monotonic() + 10
    while not note.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert int(note.read_text()) != os.getpid()


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead and waited for by nobody does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
