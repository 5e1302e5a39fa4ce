"""What counts as an exercise that fails by itself."""

from __future__ import annotations

import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringfence.errors import InputError, UsageError
from ringfence.harden.build import _check_exercise
from ringfence.harden.observe.exercise import Answer, Exercise, Request, perform, request_of

ASKED = Exercise((Request("GET", 80, "/"),))


@pytest.mark.parametrize("text", ["no answer (Reset)", "no end after 300 s", "exit 3"])
def test_what_fails_outside_the_fence_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="fails outside the fence"):
        _check_exercise((Answer("request", text),), ASKED)


@pytest.mark.parametrize("text", ["200 body 1 a", "404 body 0 b", "exit 0, output 3 c"])
def test_what_is_answered_is_none(text: str) -> None:
    _check_exercise((Answer("request", text),), ASKED)


def test_a_port_that_nobody_asked_of_need_not_speak_http() -> None:
    _check_exercise((Answer("request", "no answer (BadStatusLine)"),), Exercise())


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost/",
        "http://example.org/",
        "http://localhost:x/",
        "http://[::1",
        "http://[x]/",
        "http://localhost:99999/",
        "http://localhost/é",
        "http://localhost/a b",
        "http://localhost/\n",
        "http://localhost/\udcff",
    ],
)
def test_requests_stay_on_loopback(url: str) -> None:
    with pytest.raises(UsageError):
        request_of(url)


@pytest.mark.skipif(os.geteuid() != 0, reason="joins a network namespace")
def test_a_peer_that_hangs_up_is_the_same_however_it_does() -> None:
    def hang_up(door: socket.socket, linger: int) -> None:
        peer = door.accept()[0]
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", linger, 0))
        peer.recv(1 << 16)
        peer.close()

    said = []
    for linger in (0, 1):  # 1: a reset
        with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor() as pool:
            done = pool.submit(hang_up, door, linger)
            asked = Exercise((Request("GET", door.getsockname()[1], "/"),))
            said.append(perform(asked, os.getpid())[0].text)
            done.result()
    assert said == ["no answer (closed)"] * 2


@pytest.mark.skipif(os.geteuid() != 0, reason="joins a network namespace")
def test_what_a_command_started_ends_when_it_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The shell's children, too; a command that ends by itself is answered as it always was."""
    monkeypatch.setattr("ringfence.harden.observe.exercise.PATIENCE", 0.05)
    child = tmp_path / "child"
    asked = Exercise(commands=(f"sleep 60 & echo $! >{child}; wait",))
    assert perform(asked, os.getpid())[0].text == "no end after 300 s"
    words = Path(f"/proc/{child.read_text().strip()}/cmdline")
    limit = time.monotonic() + 5
    while words.exists() and words.read_bytes() and time.monotonic() < limit:
        time.sleep(0.01)  # killed, and on its way out
    assert not words.exists() or not words.read_bytes()
    done = perform(Exercise(commands=("echo said; echo no >&2; exit 3",)), os.getpid())[0]
    assert done.text.startswith("exit 3, output 5 ") and done.detail == "said\n\nno"
