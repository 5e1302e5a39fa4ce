"""A container's first process, as seen from here."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ringfence.run.engine import Container, EngineError
from ringfence.run.fence import Fence


def test_one_whose_status_another_took_has_been_killed(tmp_path: Path) -> None:
    container = Container(Fence(tmp_path, ("/x",), (), "/", 1000, 1000), tmp_path)
    process = subprocess.Popen(["sleep", "60"])
    container.pid = process.pid
    assert container.poll() is None
    process.kill()
    os.waitpid(process.pid, 0)  # as a thread of ours does that traces it
    assert container.poll() == -signal.SIGKILL
    assert container.wait(5) == -signal.SIGKILL
    container.output.close()
    process.returncode = -signal.SIGKILL


@pytest.mark.parametrize("failing", [0, 2])
def test_an_engine_that_fails_to_delete_is_asked_again(failing: int, tmp_path: Path) -> None:
    """One that was killed in creating leaves a process that is still on its way out."""
    engine, asked = tmp_path / "engine", tmp_path / "asked"
    engine.write_text(f'#!/bin/sh\necho "$@" >>{asked}\ntest $(wc -l <{asked}) -gt {failing}\n')
    engine.chmod(0o755)
    container = Container(Fence(tmp_path, ("/x",), (), "/", 1000, 1000), tmp_path, str(engine))
    container.remove()
    container.output.close()
    assert asked.read_text() == f"delete --force {container.name}\n" * (failing + 1)


def test_a_signal_in_the_middle_of_a_removal_does_not_leave_the_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, ...]] = []

    def run(words: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(words)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    container = Container(Fence(tmp_path, ("/x",), (), "/", 1000, 1000), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        container.remove()
    container.output.close()
    assert asked == [container.removal()] * 2


@pytest.mark.parametrize("left", ["", "sleep 60 &"])
def test_what_a_failed_engine_said_last_is_its_reason(left: str, tmp_path: Path) -> None:
    """However late its output is read, also when a process of its still holds the pipe."""
    engine, read, holder = tmp_path / "engine", tmp_path / "read", tmp_path / "holder"
    engine.write_text(
        f"#!/bin/sh\ntest $1 = delete && exit\n{left}\necho $! >{holder}\necho one\n"
        f"while test ! -e {read}; do sleep 0.01; done\necho it is broken\nexit 1\n"
    )
    engine.chmod(0o755)

    def late(part: bytes) -> None:
        read.touch()
        time.sleep(0.2)

    fence = Fence(tmp_path, ("/x",), (), "/", 1000, 1000)
    container = Container(fence, tmp_path, str(engine), late)
    try:
        with pytest.raises(EngineError, match="it is broken"):
            container.launch()
    finally:
        container.remove()
        if left:
            os.kill(int(holder.read_text()), signal.SIGKILL)
