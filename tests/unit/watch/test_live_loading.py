"""Who calls open(2): a program, or its dynamic loader."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ringfence.watch.live.loading import (
    arguments,
    asleep,
    by_loader,
    calling,
    is_named_loader,
    loader,
    mapped_at,
)

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


@pytest.mark.parametrize(("rights", "found"), [(b"r--p", True), (b"r-xp", True), (b"rw-p", False)])
def test_what_is_fixed_at_an_address(rights: bytes, found: bool) -> None:
    maps = b"7f00-7f10 " + rights + b" 00000000 00:1d 5 /lib/ld.so\n"
    assert mapped_at(maps, 0x7F08, fixed=True) == (b"/lib/ld.so" if found else b"")
    assert mapped_at(maps, 0x7F08) == b"/lib/ld.so"


def test_the_arguments_of_a_call() -> None:
    call = b"257 0xffffff9c 0x1 0x2 0x3 0x4 0x5 0x7ffe 0x7f12\n"
    assert arguments(call) == [0xFFFFFF9C, 1, 2, 3, 4, 5]
    assert arguments(b"running\n") == arguments(b"-1 0x7ffe 0x7f12\n") == arguments(b"") == []


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


def test_a_thread_that_does_not_sleep_is_not_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            time.sleep(0.3)
            begun = time.thread_time()
            assert by_loader(process.pid) is None
            assert not asleep(process.pid)
            assert time.thread_time() - begun < 0.01
        finally:
            process.kill()


@pytest.mark.skipif(not LOADER.exists(), reason="this machine's loader has another name")
@pytest.mark.parametrize("cache", [True, False])
def test_what_the_loader_reads_by_its_own_name_for_it_is_not_loaded(
    tmp_path: Path, cache: bool
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    place = "/etc/ld.so.cache"
    preload = "" if cache else f"export LD_PRELOAD={place};"
    script = f"mount --bind {fifo} {place} || exit; {preload} exec /bin/true"
    with subprocess.Popen(["unshare", "-rm", "sh", "-c", script]) as process:
        try:
            if not waits(process.pid, or_end=process):
                pytest.skip("no namespaces for everybody here")
            assert by_loader(process.pid) is not cache
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


def waits(pid: int, or_end: subprocess.Popen[bytes] | None = None) -> bool:
    """Until a process waits in open(2) or openat(2); whether it does, where it may end."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/wchan").read_text() != "wait_for_partner":
        if or_end is not None and or_end.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return True


def test_who_cannot_be_asked_is_no_loader() -> None:
    assert by_loader(0) is False
    assert asleep(0), "nothing is to come"
