"""Who may read what the service was not seen to open: a guess takes no file that was closed.

The image gives the service the right to read what is in it. So a file that it did not open while
it was traced is kept by a guess (what a text, a wildcard or a variable names, or a link leads to)
only where everybody could read it, or where it is the application's own.
"""

from __future__ import annotations

from ringfence.harden.tree import Tree


def open_along(tree: Tree, path: str) -> bool:
    """Whether everybody may read what `path` leads to, by its mode and those of the folders above
    it and above every link on the way."""
    real, crossed = tree.resolve(path)
    return tree.open_to_all(real) and all(map(tree.reached_by_all, crossed))


def leads_out(tree: Tree, path: str, folder: str) -> bool:
    """Whether `path` leads out of a folder (a real path) somewhere on its way."""
    real, crossed = tree.resolve(path)
    return bool(folder) and any(not place.startswith(f"{folder}/") for place in (real, *crossed))
