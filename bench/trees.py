"""Trees for benchmarks: one of this machine's own files, one of very many small ones."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

LEAST_BYTES, LEAST_FILES = 2_200_000_000, 56_000
LARGEST = 256 << 20


def copied(place: Path) -> Path:
    """Copies of files below /usr, in their folders, until both least numbers are reached."""
    done = place / "done"
    if done.exists():
        return place / "tree"
    shutil.rmtree(place, ignore_errors=True)
    size = files = 0
    for turn in range(100):
        for path in _files("/usr"):
            if size >= LEAST_BYTES and files >= LEAST_FILES:
                done.touch()
                return place / "tree"
            info = os.lstat(path)
            if not _wanted(info, size, files):
                continue
            target = place / "tree" / str(turn) / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
            size, files = size + info.st_size, files + 1
    raise RuntimeError("/usr holds too few files")


def _wanted(info: os.stat_result, size: int, files: int) -> bool:
    """Links, and files that are no larger than the rest of the tree can bear."""
    if stat.S_ISLNK(info.st_mode):
        return True
    left = max(LEAST_BYTES - size, 0) / max(LEAST_FILES - files, 1)
    # Where bytes run ahead of files, large files wait for another turn.
    return stat.S_ISREG(info.st_mode) and info.st_size <= (LARGEST if left > 10_000 else 20_000)


def _files(root: str) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(names))


def many(place: Path, count: int) -> None:
    """`count` files, a hundred to a folder; every tenth holds a few bytes."""
    for number in range(count):
        folder = place / str(number // 10_000) / str(number // 100)
        if number % 100 == 0:
            folder.mkdir(parents=True)
        with open(folder / f"file-{number:07}.txt", "wb") as file:
            if number % 10 == 0:
                file.write(b"%d" % number)
