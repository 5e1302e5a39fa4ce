"""Holds one file, as it is now, against its baseline."""

from __future__ import annotations

import os
import time
from enum import StrEnum

import msgspec

from ringfence.watch.baseline.compare import Change, Comparison
from ringfence.watch.baseline.entry import joined
from ringfence.watch.baseline.items import item_of
from ringfence.watch.baseline.looking import Looker
from ringfence.watch.baseline.making import rules_of
from ringfence.watch.baseline.owners import Owners
from ringfence.watch.baseline.result import Item
from ringfence.watch.baseline.rules import Mode
from ringfence.watch.baseline.walk import Start
from ringfence.watch.live.known import Known


class Verdict(StrEnum):
    """What a file is, beside its baseline."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    SAME = "same"
    """As the baseline has it, now: it was touched, or put back."""
    PERMITTED = "permitted"
    """A rule allows it: `ignored`, and what `grows` or `metadata-only` leaves open."""
    ABSENT = "absent"
    """Neither in the baseline nor there any more."""
    UNSEEN = "unseen"
    """It cannot be looked at; `why` says why."""


class Judgement(msgspec.Struct, frozen=True):
    """`item` as a check would report it, where it differs; `seconds` that the looking took."""

    verdict: Verdict
    item: Item | None = None
    why: str = ""
    seconds: float = 0.0


class Judge:
    """Judges files below `root`; `mounts` are the paths at which something is mounted now, `owners`
    the user namespace whose ids are told."""

    def __init__(
        self, known: Known, root: Start, mounts: frozenset[bytes], owners: Owners | None = None
    ) -> None:
        header = known.header
        self.known = known
        self.mounts = mounts
        self.rules = rules_of(header)
        self._root = root
        self._looker = Looker(header.algorithm, owners=owners)
        self._comparison = Comparison(header.attributes, header.blind)
        self._algorithm = header.algorithm

    def judge(self, folder: bytes, name: bytes) -> Judgement:
        """The file `name` in `folder`, looked at now. The root's own are '' and ''."""
        began = time.perf_counter()
        found = self._judged(folder, name)
        return msgspec.structs.replace(found, seconds=time.perf_counter() - began)

    def _judged(self, folder: bytes, name: bytes) -> Judgement:
        old = self.known.entry(folder, name)
        rules = self.rules.of_folder(folder)
        path = joined(folder, name)
        try:
            handle = self._root.open(folder)
            try:
                found = self._looker.look(handle, name, rules, path in self.mounts, lambda: old)
            finally:
                os.close(handle)
        except (FileNotFoundError, NotADirectoryError):
            if old is None:
                return Judgement(Verdict.ABSENT)
            return self._differs(Verdict.REMOVED, Change(path, old, None))
        except OSError as error:
            return Judgement(Verdict.UNSEEN, why=os.strerror(error.errno or 0).lower())
        if found is None:
            return Judgement(Verdict.PERMITTED)
        entry, part, rule = found
        if old is None:
            return self._differs(Verdict.ADDED, Change(path, None, entry))
        names = self._comparison.differing(old, entry, part, rule)
        if names:
            return self._differs(Verdict.CHANGED, Change(path, old, entry, names, part))
        exact = rule.mode is Mode.EXACT
        return Judgement(Verdict.SAME if exact else Verdict.PERMITTED)

    def _differs(self, verdict: Verdict, change: Change) -> Judgement:
        return Judgement(verdict, item_of(change, self._algorithm))

    def ignored(self, folder: bytes, name: bytes) -> bool:
        """Whether the rules leave out this folder and all that may be in it."""
        return not self.rules.entered(folder, [name])
