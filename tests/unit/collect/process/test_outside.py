"""Directories outside a root directory that a process still has: told, and where they lead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringfence.collect.process import outside as module
from ringfence.collect.process import procfs
from ringfence.collect.process.outside import outside

CHROOTED = """
import os, sys, threading, time
from ringfence.collect.process.outside import outside
jail, way = sys.argv[1:]
os.makedirs(f"{jail}/in")
ready, tell = os.pipe()
child = os.fork()
if not child:
    if way == "descriptor":
        kept = os.open("/usr", os.O_RDONLY)
    if way == "file":
        kept = os.open("/etc/passwd", os.O_RDONLY)
    if way == "thread":
        import ctypes
        started = threading.Event()
        def stay():
            ctypes.CDLL(None).unshare(0x200)
            started.set()
            time.sleep(30)
        threading.Thread(target=stay, daemon=True).start()
        started.wait()
    os.chroot(jail)
    if way != "cwd":
        os.chdir("/in")
    if way == "inside":
        kept = os.open("/in", os.O_RDONLY)
    os.write(tell, b"x")
    time.sleep(30)
os.read(ready, 1)
try:
    found, whole = outside(child)
    print(whole, *(f"{item.via.rpartition('/')[2]}:{item.host}" for item in found))
finally:
    os.kill(child, 9)
"""


@pytest.mark.parametrize(
    ("way", "expected"),
    [("inside", ""), ("file", ""), ("descriptor", ":True"), ("cwd", "cwd:True"),
     ("thread", "root:True")],
)  # fmt: skip
def test_what_a_chrooted_process_still_has(tmp_path: Path, way: str, expected: str) -> None:
    within = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*within, "true"], capture_output=True, timeout=20, check=False).returncode:
        pytest.skip("no user namespaces here")
    command = [*within, sys.executable, "-c", CHROOTED, str(tmp_path / "jail"), way]
    ran = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=30, check=True)
    whole, *found = ran.stdout.split()
    assert whole == "True"
    named = " ".join(sorted(item.lstrip("0123456789") for item in found))
    assert named == expected


def test_an_ordinary_process_has_nothing_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = os.open("/usr", os.O_RDONLY)
    with subprocess.Popen(["sleep", "60"], pass_fds=(handle,)) as process:
        os.close(handle)
        try:
            assert outside(process.pid) == ((), True)
            monkeypatch.setattr(module, "MOST_LINKS", 1)
            assert outside(process.pid) == ((), False)
        finally:
            process.kill()


def test_where_the_mounts_may_not_be_read_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(procfs, "MOST_BYTES", 10)
    assert outside(os.getpid()) == ((), False)
