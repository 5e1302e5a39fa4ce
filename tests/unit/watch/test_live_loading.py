"""Who calls open(2): a program, or its dynamic loader."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ringfence.watch.live.loading import by_loader, calling, is_named_loader, loader, mapped_at

LOADER = Path("/lib64/ld-linux-x86-64.so.2")
MAPS = (
    b"7f00-7f10 r--p 00000000 00:1d 5 /lib/libc.so.6\n"
    b"7f10-7f20 r-xp 00000000 00:1d 6 /lib/a b/ld-linux-x86-64.so.2\n"
    b"7f20-7f30 rw-p 00000000 00:00 0\n"
)


@pytest.mark.parametrize("words", ["=QQ", "=II"])
def test_the_loaders_place_is_told_by_the_auxiliary_vector(words: str) -> None:
    pairs = [(33, 0x7FFF), (7, 0x1000), (9, 0x2000), (0, 0)]
    auxv = b"".join(struct.pack(words, *pair) for pair in pairs)
    assert loader(auxv) == (0x1000, 0x2000)
    assert loader(auxv[: len(auxv) // 4]) == (0, 0)
    assert loader(b"") == (0, 0)


def test_the_caller_is_told_of_a_thread_that_waits_in_a_call() -> None:
    assert calling(b"257 0xffffff9c 0x1 0x0 0x0 0x0 0x0 0x7ffe 0x7f12\n") == 0x7F12
    assert calling(b"running\n") == 0
    assert calling(b"-1 0x7ffe 0x7f12\n") == -1
    assert calling(b"") == -1


def test_what_is_mapped_at_an_address() -> None:
    assert mapped_at(MAPS, 0x7F10) == b"/lib/a b/ld-linux-x86-64.so.2"
    assert mapped_at(MAPS, 0x7F0F) == b"/lib/libc.so.6"
    assert mapped_at(MAPS, 0x7F20) == mapped_at(MAPS, 0x7F30) == b""


@pytest.mark.parametrize(
    ("file", "alone", "found"),
    [
        (b"/lib64/ld-linux-x86-64.so.2", False, True),
        (b"/lib64/ld-linux-x86-64.so.2", True, True),
        (b"/opt/loader", False, True),
        (b"/bin/busybox", True, False),
        (b"/lib/ld-musl-x86_64.so.1", False, False),
        (b"/lib/ld-musl-x86_64.so.1", True, False),
        (b"", False, False),
    ],
)
def test_which_file_is_a_loader(file: bytes, alone: bool, found: bool) -> None:
    assert is_named_loader(file, alone=alone) is found


@pytest.mark.skipif(not LOADER.exists(), reason="this machine's loader has another name")
@pytest.mark.parametrize("by", ["loader", "preload", "program"])
def test_a_process_that_waits_in_open_is_told_apart(tmp_path: Path, by: str) -> None:
    fifo = tmp_path / "fifo"  # opening it waits for a writer, as for an answer
    os.mkfifo(fifo)
    commands: dict[str, list[str | Path]] = {
        "loader": [LOADER, fifo],
        "preload": ["/bin/true"],
        "program": [sys.executable, "-c", f"open({str(fifo)!r})"],
    }
    environment = {"LD_PRELOAD": str(fifo)} if by == "preload" else {}
    with subprocess.Popen(commands[by], env=environment) as process:
        try:
            waits(process.pid)
            assert by_loader(process.pid) is (by != "program")
        finally:
            process.kill()


@pytest.mark.skipif(not LOADER.exists(), reason="this machine's loader has another name")
@pytest.mark.parametrize("by", ["loader", "program"])
def test_the_thread_that_asks_counts_among_others_that_are_busy(tmp_path: Path, by: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    call = f"ctypes.CDLL({str(fifo)!r})" if by == "loader" else f"open({str(fifo)!r})"
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()\n"
        f"threading.Thread(target=lambda: {call}).start()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            thread = waiting_thread(process.pid)
            assert by_loader(thread) is (by == "loader")
        finally:
            process.kill()


def test_a_thread_that_does_not_come_to_wait_is_taken_for_a_loader() -> None:
    """It was asked for a moment before it sleeps; whoever keeps it from that gains nothing."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            time.sleep(0.3)
            assert by_loader(process.pid)
        finally:
            process.kill()


def waiting_thread(pid: int) -> int:
    """The thread of a process that waits in open(2), once there is one."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            if (thread / "wchan").read_text() == "wait_for_partner":
                return int(thread.name)
        time.sleep(0.01)
    raise AssertionError("no thread waits")


def waits(pid: int) -> None:
    """Until a process waits in open(2) or openat(2)."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/wchan").read_text() != "wait_for_partner":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_cannot_be_asked_is_no_loader() -> None:
    assert not by_loader(0)
