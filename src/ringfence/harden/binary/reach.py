"""System calls within reach of a program and its libraries, by following references.

Nodes are functions and data of all loaded objects. What the loader calls is reached first; a
function reaches what it refers to; data reaches every pointer in it up to the next address that
something takes. Pointers of the program itself are all taken to be used: its tables of callbacks
are what it is made of. This is the approach of sysfilter (RAID 2020) and Confine (RAID 2020).
"""

from __future__ import annotations

import bisect
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from ringfence.harden.binary.loaded import Loaded
from ringfence.harden.binary.references import References, references
from ringfence.harden.binary.sites import handed, sites

Node = tuple[str, int]
"""(object's path, address)"""
_C_LIBRARY = re.compile(r"(?:.*/)?(?:libc\.so|libc-\d|libc\.musl-|libpthread[.-]|ld-).*")
MOST_GATES = 6
"""How often the number may be handed on from a gate to the next."""


@dataclass(slots=True)
class Reached:
    """`numbers`: call number -> a function that makes it, as `object+address`."""

    numbers: dict[int, str] = field(default_factory=dict)
    own: set[int] = field(default_factory=set)
    """Numbers among them that code outside of the C library makes, in its own functions or by
    calling the C library's function that does."""
    unclear: list[str] = field(default_factory=list)
    """Reachable places whose call number could not be seen."""


class Graph:
    """The objects of one process, with all that their code refers to."""

    def __init__(
        self,
        objects: Mapping[str, Loaded],
        programs: frozenset[str],
        plugins: frozenset[str] = frozenset(),
    ) -> None:
        """`objects` in the order in which symbols are looked up; `programs` run as such, and
        `plugins` are loaded by name, so that whatever they export may be called."""
        self.objects = objects
        self.programs = programs
        self.plugins = plugins
        self.references = {path: references(loaded) for path, loaded in objects.items()}
        self.sites = {path: sites(loaded) for path, loaded in objects.items()}
        self.exports: dict[str, Node] = {}
        for path, loaded in objects.items():
            for name, address in loaded.exports.items():
                self.exports.setdefault(name, (path, address))
        self._edges = {path: _boundaries(loaded, self.references[path])
                       for path, loaded in objects.items()}  # fmt: skip
        self._slots = {path: sorted(loaded.pointers.keys() | loaded.slots.keys())
                       for path, loaded in objects.items()}  # fmt: skip
        self._open_gates()

    def reached(self) -> Reached:
        """Calls in reach of the programs and plugins."""
        found = Reached()
        nodes = self._nodes()
        for path, address in sorted(nodes):
            for number in self.sites[path].numbers.get(address, ()):
                found.numbers.setdefault(number, f"{path}+{address:#x}")
        found.own = self._own(nodes)
        for path, site in self.sites.items():
            loaded = self.objects[path]
            found.unclear += [
                f"{path}+{place:#x}"
                for place in site.unknown
                if (path, loaded.function(place)) in nodes
                and not site.numbers.get(loaded.function(place))
            ]
        return found

    def _own(self, nodes: set[Node]) -> set[int]:
        found: set[int] = set()
        for node in nodes:
            if _of_c_library(node[0]):
                continue
            for path, address in (node, *self._next(node)):
                loaded = self.objects[path]
                if (path == node[0] or _of_c_library(path)) and loaded.in_code(address):
                    found |= self.sites[path].numbers.get(loaded.function(address), set())
        return found

    def _nodes(self) -> set[Node]:
        waiting = deque(self._roots())
        seen: set[Node] = set()
        while waiting:
            path, address = waiting.popleft()
            loaded = self.objects[path]
            node = (path, loaded.function(address) if loaded.in_code(address) else address)
            if node not in seen:
                seen.add(node)
                waiting += self._next(node)
        return seen

    def _roots(self) -> list[Node]:
        found: list[Node] = []
        for path, loaded in self.objects.items():
            found += [(path, address) for address in loaded.roots]
            if path in self.programs:
                found.append((path, loaded.entry))
            if path in self.plugins:
                found += [(path, to) for to in loaded.exports.values()]
            if path in self.programs | self.plugins:
                found += [(path, to) for to in loaded.pointers.values() if loaded.in_code(to)]
        return found

    def _next(self, node: Node) -> list[Node]:
        path, address = node
        refs = self.references[path]
        if not self.objects[path].in_code(address):
            return self._pointed(path, address)
        found = [(path, to) for to in refs.functions.get(address, ())]
        found += [(path, to) for to in refs.data.get(address, ())]
        symbols = refs.symbols.get(address, ())
        return found + [self.exports[name] for name in symbols if name in self.exports]

    def _pointed(self, path: str, address: int) -> list[Node]:
        """What the pointers in one piece of data lead to."""
        loaded, edges, slots = self.objects[path], self._edges[path], self._slots[path]
        index = bisect.bisect_right(edges, address)
        end = edges[index] if index < len(edges) else 1 << 64
        found: list[Node] = []
        for slot in slots[bisect.bisect_left(slots, address) : bisect.bisect_left(slots, end)]:
            if slot in loaded.pointers:
                found.append((path, loaded.pointers[slot]))
            elif loaded.slots[slot] in self.exports:
                found.append(self.exports[loaded.slots[slot]])
        return found

    def _open_gates(self) -> None:
        """Numbers handed to syscall(3) and its like count where they are handed over."""
        fresh: dict[Node, str] = {
            (path, gate): register
            for path, site in self.sites.items()
            for gate, register in site.gates.items()
        }
        known = set(fresh)
        for _ in range(MOST_GATES):
            if not fresh:
                return
            found = self._handed_to(fresh)
            fresh = {node: register for node, register in found.items() if node not in known}
            known |= set(fresh)

    def _handed_to(self, gates: dict[Node, str]) -> dict[Node, str]:
        further: dict[Node, str] = {}
        names: dict[int | str, str] = {
            name: gates[node] for name, node in self.exports.items() if node in gates
        }
        for path, loaded in self.objects.items():
            here: dict[int | str, str] = {}
            here.update(names)
            here |= {address: register for (of, address), register in gates.items() if of == path}
            if not here:
                continue
            refs, site = self.references[path], self.sites[path]
            callers = loaded.units() if loaded.whole else _callers(refs, here)
            numbers, on, unclear = handed(loaded, refs, here, callers)
            for caller, some in numbers.items():
                site.numbers[caller] |= some
            site.unknown += unclear
            further |= {(path, caller): register for caller, register in on.items()}
        return further


def _of_c_library(path: str) -> bool:
    """Whether an object is the C library or its loader, by its name (glibc's and musl's)."""
    return _C_LIBRARY.fullmatch(path) is not None


def _callers(refs: References, gates: Mapping[int | str, str]) -> list[int]:
    by_address = {gate for gate in gates if isinstance(gate, int)}
    by_name = {gate for gate in gates if isinstance(gate, str)}
    found = {caller for caller, to in refs.functions.items() if to & by_address}
    return sorted(found | {caller for caller, to in refs.symbols.items() if to & by_name})


def _boundaries(loaded: Loaded, refs: References) -> list[int]:
    """Where pieces of data begin: addresses that code, symbols or pointers name."""
    found = {to for some in refs.data.values() for to in some}
    found |= {value for _, value, _, here in loaded.symbols if here and not loaded.in_code(value)}
    found |= {to for to in loaded.pointers.values() if not loaded.in_code(to)}
    return sorted(found)
