"""A worker's own mounts: devices cannot be opened there, and nobody else notices."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ringfence.watch.baseline.nodev import same_folder, without_devices

pytestmark = pytest.mark.system


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


def opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EACCES
        return False
    return True


def test_no_device_can_be_opened_and_files_can(tmp_path: Path) -> None:
    device, file = tmp_path / "null", tmp_path / "file"
    os.mknod(device, 0o20666, os.makedev(1, 3))
    file.write_text("x")
    assert opens(str(device))
    mounts = Path("/proc/self/mountinfo").read_text()
    assert in_a_child(lambda: without_devices() and not opens(str(device)) and opens(str(file)))
    assert in_a_child(lambda: without_devices() and not opens("/dev/null"))
    assert opens(str(device)) and opens("/dev/null")
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_the_folder_must_be_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    handle = os.open(tmp_path / "a", os.O_RDONLY)
    found = same_folder(str(tmp_path / "a"), handle)
    assert found is not None
    os.close(found)
    assert same_folder(str(tmp_path / "b"), handle) is None
    assert same_folder(str(tmp_path / "none"), handle) is None
    os.close(handle)


def test_without_privileges_it_is_refused() -> None:
    def unprivileged() -> bool:
        os.setuid(65534)
        return not without_devices()

    assert in_a_child(unprivileged)
