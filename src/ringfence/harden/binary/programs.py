"""The system calls within reach of the ELF files of a tree that a service runs and loads."""

from __future__ import annotations

import msgspec

from ringfence.collect.seccomp.tables import native_names
from ringfence.harden.binary.loaded import Loaded, Unreadable
from ringfence.harden.binary.reach import Graph
from ringfence.harden.keep.elf import Libraries
from ringfence.harden.tree import Tree


class Reachable(msgspec.Struct, frozen=True):
    """`calls`: system call -> the function that makes it; `own` those that other code than the C
    library's makes or asks that for; `unclear` what could not be followed."""

    calls: dict[str, str]
    own: frozenset[str]
    unclear: tuple[str, ...]


def reachable(tree: Tree, programs: list[str], files: list[str]) -> Reachable:
    """Calls in reach of `programs` (real paths), with every library among the kept `files`."""
    objects: dict[str, Loaded] = {}
    unclear: list[str] = []
    for path in dict.fromkeys((*programs, *files)):
        data = tree.read(path)
        if data[:4] != b"\x7fELF":
            continue
        try:
            objects[path] = Loaded(data)
        except Unreadable as error:
            unclear.append(f"{path}: {error}")
    linked = _linked(tree, objects, programs)
    # What no program is linked with is loaded by name: all that it offers may be called.
    plugins = frozenset(path for path in objects if path not in linked)
    found = Graph(objects, frozenset(programs) & objects.keys(), plugins).reached()
    names = native_names()
    calls = {names[number]: place for number, place in found.numbers.items() if number in names}
    own = frozenset(names[number] for number in found.own if number in names)
    return Reachable(calls, own, (*unclear, *found.unclear))


def _linked(tree: Tree, objects: dict[str, Loaded], programs: list[str]) -> set[str]:
    """The programs, their loaders, and the libraries that they are linked with."""
    libraries = Libraries(tree)
    waiting = [path for path in programs if path in objects]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or path not in objects:
            continue
        seen.add(path)
        for name in objects[path].needed:
            place = libraries.find(name, objects[path].run_path(path))
            if place:
                waiting.append(tree.resolve(place)[0])
    return seen | {path for path in objects if path.rpartition("/")[2].startswith("ld-")}
