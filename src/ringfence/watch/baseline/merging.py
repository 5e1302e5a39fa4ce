"""A baseline beside entries that come in the same order from elsewhere: what differs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ringfence.watch.baseline.compare import Change, Comparison
from ringfence.watch.baseline.entry import Entry, Key, joined, key
from ringfence.watch.baseline.rules import Rules
from ringfence.watch.baseline.store import Frame, unpacked


class Merge:
    """Takes groups in order. Without a comparison nothing ever differs."""

    def __init__(
        self, frames: Iterable[Frame], comparison: Comparison | None, rules: Rules
    ) -> None:
        self._olds = _entries(frames)
        self._old = next(self._olds, None)
        self._comparison = comparison
        self._rules = rules

    def group(self, folder: bytes, entries: list[Entry]) -> list[Change]:
        """What differs up to the last of `entries`."""
        if self._comparison is None:
            return []
        changes: list[Change] = []
        rules = self._rules.of_folder(folder)
        for new in entries:
            place = key(folder, new.name)
            changes += self._removed(place)
            path = joined(folder, new.name)
            if self._old is None or self._old[0] != place:
                changes.append(Change(path, None, new))
                continue
            old, part = self._old[2], new.digest or b""
            names = self._comparison.differing(old, new, part, rules.of(new.name, new.kind))
            if names:
                changes.append(Change(path, old, new, names))
            self._old = next(self._olds, None)
        return changes

    def end(self) -> list[Change]:
        """What is left of the baseline was removed."""
        return self._removed(None)

    def _removed(self, before: Key | None) -> list[Change]:
        found = []
        while self._old is not None and (before is None or self._old[0] < before):
            _, folder, entry = self._old
            found.append(Change(joined(folder, entry.name), entry, None))
            self._old = next(self._olds, None)
        return found


def _entries(frames: Iterable[Frame]) -> Iterator[tuple[Key, bytes, Entry]]:
    for frame in frames:
        for folder, entries in unpacked(frame.body):
            for entry in entries:
                yield key(folder, entry.name), folder, entry
