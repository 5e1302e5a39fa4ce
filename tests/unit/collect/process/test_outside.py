"""Directories that a process still has though no path leads there: told, and where they lead."""

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


COVERED = """
import ctypes, os, subprocess, sys, time
from ringfence.collect.process.mounts import mounts
from ringfence.collect.process.outside import outside
jail, way = sys.argv[1:]
for name in ("v", "w"):
    os.makedirs(f"{jail}/{name}")
def mount(*words):
    subprocess.run(["mount", *words], check=True)
mount("--bind", jail, jail)
mount("--rbind", "/usr", f"{jail}/v")
mount("-t", "tmpfs", "t", f"{jail}/v/lib")
if "namespace" in way:
    kept = os.open("/proc/self/ns/mnt", os.O_RDONLY)
if way in ("open", "covered", "below"):
    kept = os.open(f"{jail}/v/lib" if way == "below" else f"{jail}/v", os.O_RDONLY)
if way == "within":
    kept = os.open(f"{jail}/v/bin", os.O_RDONLY)
    mount("-t", "tmpfs", "t", f"{jail}/v/bin")
if way in ("covered", "below", "nothing"):
    mount("-t", "tmpfs", "t", f"{jail}/v")
child = os.fork()
if not child:
    if way == "namespace":
        ctypes.CDLL(None).unshare(0x20000)
    os.chroot(jail)
    os.chdir("/")
    time.sleep(30)
while os.readlink(f"/proc/{child}/cwd") != jail:
    time.sleep(0.01)
try:
    found, whole = outside(child)
    points = {item.number: item.path for item in mounts(child).value}
    print(whole, *(
        f"{item.host}:{item.namespace}:{','.join(sorted(points[one] for one in item.under))}"
        for item in found))
finally:
    os.kill(child, 9)
"""


@pytest.mark.parametrize(
    ("way", "expected"),
    [("open", ""), ("nothing", ""), ("covered", "False:False:/v,/v/lib"),
     ("below", "False:False:/v/lib"), ("within", "False:False:/v"),
     ("own namespace", ""), ("namespace", "True:True:")],
)  # fmt: skip
def test_what_another_mount_hides_from_a_process_that_has_it(
    tmp_path: Path, way: str, expected: str
) -> None:
    within = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*within, "true"], capture_output=True, timeout=20, check=False).returncode:
        pytest.skip("no user namespaces here")
    command = [*within, sys.executable, "-c", COVERED, str(tmp_path / "jail"), way]
    ran = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=30, check=True)
    whole, *found = ran.stdout.split()
    assert whole == "True"
    assert " ".join(found) == expected


THREADS = """
import ctypes, sys, threading, time
left = sys.argv[1:] == ["left"]
ready = threading.Barrier(9)
def stay():
    if left:
        ctypes.CDLL(None).unshare(0x400)
    ready.wait()
    time.sleep(60)
for _ in range(8):
    threading.Thread(target=stay, daemon=True).start()
kept = [open("/dev/null") for _ in range(20)]
ready.wait()
print(flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("way", "whole"), [("shared", True), ("left", False)])
def test_a_table_that_threads_share_counts_once(
    monkeypatch: pytest.MonkeyPatch, way: str, whole: bool
) -> None:
    """Nine threads with 23 descriptors: one table of them, or nine."""
    monkeypatch.setattr(module, "MOST_LINKS", 60)
    command = [sys.executable, "-c", THREADS, way]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert outside(process.pid) == ((), whole)
        finally:
            process.kill()


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
