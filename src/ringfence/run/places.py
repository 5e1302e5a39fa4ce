"""Temporary folders that the root of a user namespace can reach."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ringfence.errors import MissingError


def reachable_folder() -> Path:
    """A new folder that others may pass through, all the way from the root. Raises MissingError.

    A namespace's root is a stranger on this host: it needs the execute bit of every folder.
    """
    for place in (tempfile.gettempdir(), "/var/tmp", "/run"):  # noqa: S108 - mkdtemp is safe there
        path = Path(place).resolve()
        if path.is_dir() and all(part.stat().st_mode & 0o001 for part in (path, *path.parents)):
            folder = Path(tempfile.mkdtemp(prefix="ringfence-", dir=path))
            folder.chmod(0o711)
            return folder
    raise MissingError("no temporary folder that others may pass through", remedy="set TMPDIR")
