"""Small file trees for tests, from a dictionary."""

from __future__ import annotations

from pathlib import Path

from ringfence.harden.tree import Tree


def planted(root: Path, files: dict[str, str | bytes], links: dict[str, str] | None = None) -> Tree:
    """A tree with these files (a name that ends in `*` is executable) and symlinks."""
    for name, body in files.items():
        place = root / name.rstrip("*")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body if isinstance(body, bytes) else body.encode())
        place.chmod(0o755 if name.endswith("*") else 0o644)
    for name, target in (links or {}).items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    return Tree(root)
