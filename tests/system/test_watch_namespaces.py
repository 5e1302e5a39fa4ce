"""`ringfence watch run --enforce exec` of a process, and mount namespaces that are made within it.

Only ever on tmpfs of the test's own, in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.watch.live.namespaces import Namespaces
from tests.system.watch_runs import Run, tmpfs

pytestmark = pytest.mark.system

ON = ("--kind", "process", "--enforce", "exec")
BUSYBOX = shutil.which("busybox")
LATER = "mount -t tmpfs x /tmp; cp /bin/busybox /tmp/foreign; /bin/busybox true; sleep 1; "


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[int]:
    """A process with a root, a volume and a PID namespace of its own."""
    if BUSYBOX is None:
        pytest.skip("busybox is not installed")
    with tmpfs(tmp_path / "root") as root:
        for folder in ("bin", "tmp", "proc", "vol", "old"):
            (root / folder).mkdir()
        shutil.copy(BUSYBOX, root / "bin/busybox")
        script = (
            f"mount --bind {root} {root}; cd {root}; mount -t tmpfs x vol; mount -t proc x proc; "
            "pivot_root . old; umount -l /old; exec /bin/busybox sleep 600"
        )
        command = ["unshare", "-m", "-p", "-f", "--kill-child", "/bin/sh", "-c", script]
        with subprocess.Popen(command) as outside:
            try:
                yield there(outside.pid)
            finally:
                outside.kill()


def there(outside: int) -> int:
    """The process that has become the namespaces' first, once it is what it is to be."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = Path(f"/proc/{outside}/task/{outside}/children").read_text().split()
        if children and os.readlink(f"/proc/{children[0]}/exe").endswith("/busybox"):
            return int(children[0])
        time.sleep(0.05)
    raise AssertionError("it did not get there")


def outcome(pid: int, *command: str) -> int:
    """The exit code of busybox, with these words, inside."""
    enter = ["nsenter", "-t", str(pid), "-m", "-p", "-r", "/bin/busybox", *command]
    return subprocess.run(enter, capture_output=True, timeout=20, check=False).returncode


def test_foreign_code_runs_through_no_copy_of_a_mount(inside: int, tmp_path: Path) -> None:
    run = Run(tmp_path, Path(str(inside)))
    run.watched.init("--kind", "process")
    with run.running(*ON, sign="enforce"):
        assert outcome(inside, "cp", "/bin/busybox", "/vol/foreign") == 0
        assert outcome(inside, "sh", "-c", "/vol/foreign true") != 0
        assert not told(run, "namespace")
        assert outcome(inside, "unshare", "-m", "/vol/foreign", "true") != 0
        assert outcome(inside, "unshare", "-m", "/bin/busybox", "true") == 0


def test_a_namespace_made_within_is_told_and_its_new_mounts_are_marked(
    inside: int, tmp_path: Path
) -> None:
    run = Run(tmp_path, Path(str(inside)))
    run.watched.init("--kind", "process")
    with run.running(*ON, sign="enforce"):
        assert outcome(inside, "unshare", "-m", "sh", "-c", LATER + "/tmp/foreign true") != 0
        run.until_event("denial", "/tmp/foreign", how="execute")
        assert told(run, "namespace")
        assert outcome(inside, "unshare", "-m", "sh", "-c", LATER + "/bin/busybox true") == 0
        assert subprocess.run(["/bin/true"], check=False).returncode == 0, "the host is not asked"


def told(run: Run, verdict: str) -> list[str]:
    """What was said of enforcement in so many words."""
    return [str(item.detail.get("why")) for item in run.events("enforce")
            if item.detail.get("verdict") == verdict]  # fmt: skip


def test_only_what_nobody_else_has_is_marked_as_a_whole(inside: int) -> None:
    points = Namespaces(inside).points(lambda mount: mount.point in ("/", "/vol", "/proc"))
    try:
        found = {os.readlink(f"/proc/self/fd/{point.handle}"): point.whole for point in points}
    finally:
        for point in points:
            os.close(point.handle)
    assert found == {"/": False, "/vol": True}, "the root's file system is mounted here, too"


def test_who_is_inside(inside: int) -> None:
    found = Namespaces(inside)
    assert found.inside(inside)
    assert not found.inside(os.getpid())
    assert found.executed(os.getpid()) == (False, [])
    enter = ["nsenter", "-t", str(inside), "-m", "-p", "-r", "/bin/busybox", "sleep", "30"]
    with subprocess.Popen(enter) as joined:
        time.sleep(0.3)
        (child,) = Path(f"/proc/{joined.pid}/task/{joined.pid}/children").read_text().split()
        assert found.inside(int(child)), "by its PID namespace"
        assert not found.inside(joined.pid)
        os.kill(int(child), 9)
