"""A private view of a folder: what cannot be opened in it, and that nobody else notices."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringfence.watch.baseline.private import private_view

pytestmark = pytest.mark.system


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_text("x")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/inside").write_text("y")
    os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    (tmp_path / "link").symlink_to("below")
    (tmp_path / "out").symlink_to("/etc")
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield handle
    os.close(handle)


def refusal(view: int, name: str) -> int:
    """The error number of opening `name`, 0 where it opens."""
    try:
        os.close(os.open(name, os.O_RDONLY, dir_fd=view))
    except OSError as error:
        return error.errno or -1
    return 0


def in_a_child(act: Callable[[], bool]) -> bool:
    """What `act` gives in a process of its own."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if act() else 1
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def test_files_can_be_opened_and_neither_devices_nor_links(tmp_path: Path, folder: int) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    view = private_view(folder)
    assert view is not None
    names = ("file", "below/inside", "null", "link/inside", "out/hostname", "link")
    for name in names:
        assert refusal(folder, name) == 0, name
    assert [refusal(view, name) for name in names] == [
        0, 0, errno.EACCES, errno.ELOOP, errno.ELOOP, errno.ELOOP,
    ]  # fmt: skip
    assert os.fstat(view).st_ino == os.fstat(folder).st_ino
    assert Path("/proc/self/mountinfo").read_text() == mounts
    os.close(view)
    assert refusal(folder, "null") == 0
    assert (tmp_path / "link/inside").read_text() == "y"


def test_what_is_mounted_there_is_not_in_it(tmp_path: Path, folder: int) -> None:
    def covered() -> bool:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path / "below")], check=True)
        try:
            view = private_view(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
            assert view is not None
            return refusal(view, "below/inside") == 0 and not (tmp_path / "below/inside").exists()
        finally:
            subprocess.run(["umount", str(tmp_path / "below")], check=True)

    assert in_a_child(covered)


def test_a_folder_of_another_mount_namespace_is_refused(tmp_path: Path, folder: int) -> None:
    other = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    try:
        other.stdout.readline()
        there = os.open(f"/proc/{other.pid}/root{tmp_path}", os.O_RDONLY | os.O_DIRECTORY)
        assert os.fstat(there).st_ino == os.fstat(folder).st_ino
        assert private_view(there) is None
        assert private_view(folder) is not None
        os.close(there)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_without_privileges_it_is_refused(folder: int) -> None:
    def unprivileged() -> bool:
        os.setuid(65534)
        return private_view(folder) is None

    assert in_a_child(unprivileged)
