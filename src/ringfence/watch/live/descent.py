"""Which processes stem from one, also those whose parents have ended meanwhile.

A process whose parent has ended gets one of its ancestors for a parent, of the target's processes
often one above the target: daemons do that on purpose, and so does who wants to hide. Who began it
is told once, when it begins (the process connector), and remembered.

Surely not of the target are those above it, what began earlier than it, and what these begin, but
for those above: with clone(2)'s CLONE_PARENT a process begins one for its own parent, and the
kernel names that parent as the one that began it. So what has such a parent, and began later than
the target, may be of the target, unless it is known to be.
"""

from __future__ import annotations

import msgspec

from ringfence.watch.live.looks import began_before, read_stat
from ringfence.watch.live.roster import Roster
from ringfence.watch.live.verdicts import ASIDE, BEGUN, SEEN, UNKNOWN

DEEPEST = 4096
"""Generations: beyond that nothing is sure."""


class _Kin(msgspec.Struct, frozen=True):
    """Whether it stems from the first one, None where that is not sure; when it began (clock ticks
    since boot), None where it had ended before it was looked at."""

    inside: bool | None
    began: int | None


class Descent:
    """A process, `first`, and all that stems from it; as `Company`, which is for what can be seen
    of a process itself."""

    def __init__(self, first: int) -> None:
        self._first = first
        stat = read_stat(first)
        self._since = stat.started if stat is not None else 0
        self._above = _above(first)
        self._known: Roster[_Kin] = Roster(_lives)

    def look(self) -> None:
        """See all that live now."""
        for pid in self._known.all_now():
            # Of others the number could be given on unheard, where the kernel tells of nothing.
            if self._living(pid):
                self._put(pid, True)

    def stale(self) -> None:
        """See all that live now, if that is long ago."""
        if self._known.due():
            self.look()

    def started(self, parent: int, pid: int) -> None:
        """`parent` began `pid`; 0 where it is the same process with another program; both 0 where
        not all of this was heard."""
        if pid == 0:
            # What is known of those that have ended may be another one's by now: numbers are
            # given on. The others are what they were.
            self._known.forget_ended()
            self.look()
        elif parent:
            self._put(pid, self._begun_by(parent, pid))
        elif self._known.get(pid) is None and read_stat(pid) is not None:
            self._put(pid, self._living(pid))

    def judge(self, pid: int, wall: int) -> str | None:
        """Whether the process that had this number at `wall` (microseconds since 1970) is of the
        target: '' for yes, None for no, and why it is not sure."""
        stat = read_stat(pid)
        if stat is not None and began_before(stat.started, wall):
            return {True: "", False: None, None: ASIDE}[self._living(pid)]
        kin = self._known.get(pid)
        if kin is None or (kin.began is not None and not began_before(kin.began, wall)):
            return UNKNOWN
        if kin.inside:
            return BEGUN if kin.began is None else SEEN
        return None if kin.inside is False else UNKNOWN

    def _begun_by(self, parent: int, child: int) -> bool | None:
        """What is known under the parent's number was so when it began this one. What /proc has
        there now may be another one already: surely so if that began later."""
        if parent == self._first:
            return True
        kin = self._known.get(parent)
        if kin is not None:
            return kin.inside
        if parent in self._above:
            return None
        elder, younger = read_stat(parent), read_stat(child)
        if elder is None or younger is None or elder.started > younger.started:
            return None
        found = self._living(parent)
        self._put(parent, found)
        return found

    def _living(self, pid: int) -> bool | None:
        """Of one that lives now: the first of its present parents of which something is known
        decides. None where that is not sure."""
        if self._is_above(pid):
            return False
        child: int | None = None
        for _ in range(DEEPEST):
            if pid == self._first:
                return True
            stat = read_stat(pid)
            if stat is None or (child is not None and stat.started > child):
                return None  # it has ended, and the number may be another one's
            kin = self._known.get(pid)
            if kin is not None and kin.began == stat.started:
                return kin.inside
            if stat.started < self._since:
                return False
            if stat.parent == 0 or self._is_above(stat.parent):
                return None
            child, pid = stat.started, stat.parent
        return None

    def _is_above(self, pid: int) -> bool:
        began = self._above.get(pid)
        if began is None:
            return False
        stat = read_stat(pid)
        return stat is not None and stat.started == began

    def _put(self, pid: int, inside: bool | None) -> None:
        stat = read_stat(pid)
        self._known.put(pid, _Kin(inside, stat.started if stat is not None else None))


def _lives(pid: int, kin: _Kin) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.started == kin.began


def _above(pid: int) -> dict[int, int]:
    """The parents of a process up to the first of all, and when each began."""
    found: dict[int, int] = {}
    stat = read_stat(pid)
    while stat is not None and stat.parent and stat.parent not in found:
        pid, stat = stat.parent, read_stat(stat.parent)
        if stat is not None:
            found[pid] = stat.started
    return found
