"""Where a path lies among mounts."""

from __future__ import annotations

from ringfence.model.process import Mount


def covering(found: tuple[Mount, ...], path: str) -> Mount | None:
    """The mount that a path lies on: the longest fitting point of those that are not hidden."""
    best: Mount | None = None
    for item in found:
        prefix = item.path.rstrip("/") + "/"
        fits = not item.hidden and (path == item.path or path.startswith(prefix))
        if fits and (best is None or len(item.path) >= len(best.path)):
            best = item
    return best


def below(path: str, folder: str) -> str | None:
    """What follows `folder` in an absolute path that it leads to: `/a/b` below `/a` is `/b`, `/a`
    itself ''. None for a path elsewhere."""
    folder = folder.rstrip("/")
    if path.rstrip("/") == folder:
        return ""
    return path[len(folder) :] if path.startswith(f"{folder}/") else None
