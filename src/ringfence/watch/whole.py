"""Writes that are whole: all bytes of them, and the name of a file, too, when a disk has it."""

from __future__ import annotations

import os
from pathlib import Path


def write_all(handle: int, data: bytes) -> None:
    """All of `data` to a descriptor, however little it takes at a time. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def sync_folder(folder: Path) -> None:
    """The names in a folder to the disk: a renamed file is there after a crash. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
