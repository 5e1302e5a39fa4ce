"""Names of archive members: normalised, and kept inside the root."""

from __future__ import annotations

from collections.abc import Mapping

MOST_HOPS = 40
"""Symlinks followed for one path, as in the kernel's path lookup."""


def inside(name: str) -> str | None:
    """`name` relative to the root with no `.`, doubled or leading slashes.

    The root itself is ''. None for a name that climbs out of the root or holds a zero byte:
    such a member is refused, not moved.
    """
    if "\0" in name:
        return None
    if not ("//" in name or "./" in name or name[:1] in "/." or name[-1:] in "/."):
        return name
    parts: list[str] = []
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not parts:
                return None
            parts.pop()
            continue
        parts.append(part)
    return "/".join(parts)


def resolve_parent(path: str, links: Mapping[str, str]) -> str | None:
    """`path` with the symlinks among its parent folders followed, never out of the root.

    `links` maps the path of a symlink to its target. None when they loop. A layer that writes
    `lib/x` below a link `lib -> usr/lib` writes `usr/lib/x`, as container engines unpack it.
    """
    if not links:
        return path
    todo = path.split("/")
    done: list[str] = []
    hops = 0
    while todo:
        part = todo.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        done.append(part)
        if not todo:
            break
        target = links.get("/".join(done))
        if target is None:
            continue
        hops += 1
        if hops > MOST_HOPS:
            return None
        done = [] if target.startswith("/") else done[:-1]
        todo = [*target.split("/"), *todo]
    return "/".join(done)
