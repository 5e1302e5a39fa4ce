"""Which positions can be reached, and at the price of how many distinct exploits.

One vulnerability counts once however often it is used (k-zero-day safety: Wang, Jajodia, Singhal
and Noel, doi:10.1109/TDSC.2013.24), so the price of a path is the size of a set, not a sum. The
search keeps, for each position, every way of getting there that no other way dominates.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable

import msgspec

from ringfence.model.deployment import Means
from ringfence.model.position import Level, Position


class Edge(msgspec.Struct, frozen=True):
    """A vector as the graph sees it: from where to where, by what means, spending what."""

    source: Position
    gives: Position
    means: Means
    exploit: str

    @property
    def leads(self) -> bool:
        """Whether it leads anywhere: what only helps other exploits ends where it starts."""
        return self.gives != self.source


class Way(msgspec.Struct, frozen=True):
    """One way to a position: exploits used that may be used again, and the count of others."""

    shared: frozenset[str]
    single: int

    @property
    def price(self) -> int:
        """Number of distinct exploits spent."""
        return self.single + len(self.shared)

    def dominates(self, other: Way) -> bool:
        """Whether this way is at least as cheap as `other` whatever comes next."""
        return self.single + len(self.shared - other.shared) <= other.single


def implied(zones: tuple[str, ...]) -> list[tuple[Position, Position]]:
    """What holding a position gives without any vector: less in its zone, and inner zones.

    `zones` are innermost first. Admin of a zone holds the admin of every zone inside it. In the
    workload's own zone admin is also the service's user, so that the ways up from there count
    whether or not the service happens to run as root; further out, a way that starts from a user
    counts only where some vector leads to that user.
    """
    pairs: list[tuple[Position, Position]] = []
    for index, zone in enumerate(zones):
        admin = Position(zone, Level.ADMIN)
        pairs.append((Position(zone, Level.USER), Position(zone, Level.DATA)))
        pairs += [(admin, Position(inner, Level.ADMIN)) for inner in zones[:index]]
    if zones:
        pairs.append((Position(zones[0], Level.ADMIN), Position(zones[0], Level.USER)))
    return pairs


class Prices:
    """Ways to every position from `start`, where edges for which `costs` is true cost one.

    Edges that `usable` refuses are left out.
    """

    def __init__(
        self,
        edges: Iterable[Edge],
        zones: tuple[str, ...],
        start: Iterable[Position],
        *,
        costs: Callable[[Means], bool],
        usable: Callable[[Means], bool] = lambda means: True,
    ) -> None:
        self._costs = costs
        self._usable = usable
        kept = [edge for edge in edges if usable(edge.means)]
        self._shared = _shared_exploits(kept)
        self._out: dict[Position, list[tuple[Position, str | None, bool]]] = {}
        for edge in {(e.source, e.gives, self._spent(e)): e for e in kept}.values():
            self._out.setdefault(edge.source, []).append((edge.gives, *self._price(edge)))
        for position, less in implied(zones):
            self._out.setdefault(position, []).append((less, None, False))
        self._ways: dict[Position, list[Way]] = {}
        self._search(list(start))

    def _spent(self, edge: Edge) -> str | None:
        """What tells apart parallel edges: the exploit only if it can be used elsewhere too."""
        if not self._costs(edge.means):
            return None
        return edge.exploit if edge.exploit in self._shared else ""

    def _price(self, edge: Edge) -> tuple[str | None, bool]:
        spent = self._spent(edge)
        return (spent or None, spent == "")

    def _search(self, start: list[Position]) -> None:
        order = itertools.count()
        queue = [(0, next(order), position, Way(frozenset(), 0)) for position in start]
        heapq.heapify(queue)
        while queue:
            _, _, position, way = heapq.heappop(queue)
            known = self._ways.setdefault(position, [])
            if any(other.dominates(way) for other in known):
                continue
            known.append(way)
            for target, shared, single in self._out.get(position, ()):
                longer = Way(way.shared | {shared} if shared else way.shared, way.single + single)
                heapq.heappush(queue, (longer.price, next(order), target, longer))

    def reached(self) -> frozenset[Position]:
        """Every position that can be reached at any price."""
        return frozenset(self._ways)

    def price(self, position: Position) -> int | None:
        """Least number of exploits that lead to `position`; None where nothing leads there."""
        ways = self._ways.get(position)
        return min(way.price for way in ways) if ways else None

    def price_of_use(self, edge: Edge) -> int | None:
        """Least number of exploits spent once `edge` has been used; None if it cannot be."""
        ways = self._ways.get(edge.source)
        if not ways or not self._usable(edge.means):
            return None
        if not self._costs(edge.means):
            return min(way.price for way in ways)
        return min(way.price + (edge.exploit not in way.shared) for way in ways)


def _shared_exploits(edges: list[Edge]) -> frozenset[str]:
    """Exploits that one path could use twice: those of edges that start at different places."""
    sources: dict[str, set[Position]] = {}
    for edge in edges:
        sources.setdefault(edge.exploit, set()).add(edge.source)
    return frozenset(exploit for exploit, places in sources.items() if len(places) > 1)
