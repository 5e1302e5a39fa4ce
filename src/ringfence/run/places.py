"""Temporary folders for sockets, which the root of a user namespace can reach if need be."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ringfence.errors import MissingError
from ringfence.run.fence import ID_BASE

MOST_SOCKET, OURS = 107, 40
"""Bytes of a socket's path (unix(7)), and those of them that our own names take at most."""


def roomy(place: str | Path) -> bool:
    """Whether a socket in a folder of ours below `place` has a path that sockets may have."""
    return len(os.fsencode(place)) <= MOST_SOCKET - OURS


def passable(place: Path) -> bool:
    """Whether a stranger on this host can get to what is in a folder: he needs the execute bit of
    every folder on the way."""
    path = place.resolve()
    return path.is_dir() and all(part.stat().st_mode & 0o001 for part in (path, *path.parents))


def reachable_folder() -> Path:
    """A new folder that the root of our user namespaces can reach. Raises MissingError.

    A namespace's root is a stranger on this host. The folder itself is its own, and closed to all
    others: what is unpacked there may have set-user-ID programs.
    """
    for place in (tempfile.gettempdir(), "/var/tmp", "/run"):  # noqa: S108 - mkdtemp is safe there
        path = Path(place).resolve()
        if roomy(path) and passable(path):
            folder = Path(tempfile.mkdtemp(prefix="ringfence-", dir=path))
            if os.geteuid() == 0:
                os.chown(folder, ID_BASE, ID_BASE)
            return folder
    raise MissingError(
        "no temporary folder that others may pass through to ours",
        remedy="set TMPDIR to one with a short path",
    )
