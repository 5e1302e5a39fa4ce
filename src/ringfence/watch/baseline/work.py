"""What a worker process does with a unit: look at its files, compare, pack."""

from __future__ import annotations

import os

import msgspec

from ringfence.watch.baseline.compare import Change, Comparison
from ringfence.watch.baseline.entry import Entry, Group, Key, joined, key
from ringfence.watch.baseline.looking import Looker
from ringfence.watch.baseline.nodev import same_folder, without_devices
from ringfence.watch.baseline.owners import Owners
from ringfence.watch.baseline.pool import Give
from ringfence.watch.baseline.rules import FolderRules, Mode, Rule, Rules
from ringfence.watch.baseline.store import Packer, unpacked
from ringfence.watch.baseline.units import Unit
from ringfence.watch.baseline.walk import Listing, Start

MOST_READ = 48 << 20
"""Bytes read for one unit before its rest is handed back: what keeps the workers in balance."""


class Task(msgspec.Struct, frozen=True):
    """What all units of a pass have in common. `comparison` None: nothing to compare with.

    `place`: where the root lies among the mounts of this host, '' where it lies among others.
    `keep`: entries are packed into frames. `mounts` are paths where something is mounted.
    `owners`: the user namespace whose ids are told, None for this host's.
    """

    starts: tuple[Start, ...]
    rules: Rules
    algorithm: str
    mounts: frozenset[bytes] = frozenset()
    comparison: Comparison | None = None
    keep: bool = True
    quick: bool = False
    place: str = ""
    owners: Owners | None = None


class Seen(msgspec.Struct, array_like=True):
    """What came of a unit. `size` bytes were read, of `files`; `taken` were taken as unchanged by
    their status; `unseen` are paths with the reason why they could not be looked at."""

    frames: list[bytes] = []
    changes: list[Change] = []
    unseen: list[tuple[bytes, str]] = []
    entries: int = 0
    files: int = 0
    size: int = 0
    taken: int = 0


class Worker:
    """Does units of one task; made in the worker process."""

    def __init__(self, task: Task) -> None:
        starts = _own_starts(task) if task.place and not task.quick else None
        self.task = msgspec.structs.replace(task, starts=starts) if starts else task
        self.looker = Looker(task.algorithm, quick=task.quick, direct=starts is not None,
                             owners=task.owners)  # fmt: skip
        self.packer = Packer()
        self._units = msgspec.msgpack.Decoder(Unit)

    def __call__(self, data: bytes, give: Give) -> bytes:
        """The result (`Seen`, encoded) of the unit without what it hands back by `give`."""
        job = _Job(self, self._units.decode(data), give)
        self.looker.before_large = job.hand_back
        job.run()
        return msgspec.msgpack.encode(job.seen)


def _own_starts(task: Task) -> tuple[Start, ...] | None:
    """The same folders, opened anew where no device can be; None where that is not to be had."""
    if not without_devices():
        return None
    found: list[Start] = []
    for start in task.starts:
        path = os.path.join(task.place, os.fsdecode(start.prefix))
        handle = same_folder(path, start.handle)
        if handle is None:
            return None
        found.append(msgspec.structs.replace(start, handle=handle))
    return tuple(found)


class _Job:
    """One unit on its way."""

    def __init__(self, worker: Worker, unit: Unit, give: Give) -> None:
        self.task = worker.task
        self.looker = worker.looker
        self.packer = worker.packer
        self.unit = unit
        self.seen = Seen(frames=[], changes=[], unseen=[])
        self.former = _former(unit) if unit.body else {}
        self.groups: list[Group] = []
        self.rest: Unit | None = None
        self._give = give
        self._place = (0, 0)
        """The listing at which it is, and how many of its names are done with the present one."""

    def run(self) -> None:
        """Do the unit, until its rest is handed back."""
        looker = self.looker
        passed, files, taken = looker.digester.passed, looker.files_read, looker.taken
        for number, listing in enumerate(self.unit.listings):
            self._listing(number, listing, passed + MOST_READ)
            if self.rest is not None:
                break
        self._removed(self.rest.low if self.rest else self.unit.high)
        if self.task.keep:
            self.seen.frames = list(self.packer.frames(self.groups))
        self.seen.size = looker.digester.passed - passed
        self.seen.files = looker.files_read - files
        self.seen.taken = looker.taken - taken

    def hand_back(self) -> None:
        """Whatever comes after the present name is another's, if it is not yet. Asked for before a
        large file, too: several side by side would be read one after the other."""
        number, done = self._place
        start, folder, names, odd = self.unit.listings[number]
        left = [(start, folder, names[done:], odd)] if done < len(names) else []
        left += self.unit.listings[number + 1 :]
        if self.rest is None and left:
            low = key(folder, names[done - 1])
            self.rest = Unit(left, self.unit.body, low, self.unit.high)
            self._give(msgspec.msgpack.encode(self.rest))

    def _listing(self, number: int, listing: Listing, limit: int) -> None:
        """Look at the names of one folder."""
        start, folder, names, odd = listing
        try:
            handle = self.task.starts[start].open(folder)
        except OSError as error:
            self._refuse(folder, error)
            return
        entries: list[Entry] = []
        look, digester = self.looker.plain, self.looker.digester
        try:
            rules = self.task.rules.of_folder(folder)
            former = self.former.get(folder, {})
            plain = self._plain(rules)
            alone = plain and self.task.comparison is None and not self.task.mounts
            for count, name in enumerate(names, 1):
                straight = plain and name not in odd
                entry = look(handle, name, False) if alone and straight else None
                if entry is None:
                    self._place = (number, count)
                    entry = self._name(handle, folder, name, rules, former, straight)
                if entry is not None:
                    entries.append(entry)
                if digester.passed > limit:
                    self._place = (number, count)
                    self.hand_back()
                if self.rest is not None:
                    return
        finally:
            os.close(handle)
            self.seen.entries += len(entries)
            if entries and self.task.keep:
                self.groups.append((folder, entries))

    def _plain(self, rules: FolderRules) -> bool:
        """Whether files and folders of this folder are to stay as they are, all of them."""
        rule = rules.simple
        return self.looker.direct and rule is not None and rule.mode is Mode.EXACT

    def _name(
        self, handle: int, folder: bytes, name: bytes, rules: FolderRules,
        former: dict[bytes, Entry], plain: bool,
    ) -> Entry | None:  # fmt: skip
        old = former.get(name)
        mounts = self.task.mounts
        mount = bool(mounts) and joined(folder, name) in mounts
        entry = self.looker.plain(handle, name, mount) if plain else None
        part, rule = b"", rules.simple
        if entry is None or rule is None:
            try:
                found = self.looker.look(handle, name, rules, mount, old)
            except OSError as error:
                self._refuse(joined(folder, name), error)
                return None
            if found is None:
                return None
            entry, part, rule = found
        if old is not None:
            del former[name]
        if entry.unread:
            self.seen.unseen.append((joined(folder, name), entry.unread))
        if self.task.comparison is not None and entry is not old and entry != old:
            self._compare(joined(folder, name), old, entry, part, rule)
        return entry

    def _compare(self, path: bytes, old: Entry | None, new: Entry, part: bytes, rule: Rule) -> None:
        comparison = self.task.comparison
        if comparison is None:
            return
        if old is None:
            self.seen.changes.append(Change(path, None, new))
            return
        names = comparison.differing(old, new, part, rule)
        if names:
            self.seen.changes.append(Change(path, old, new, names, part))

    def _removed(self, last: Key | None) -> None:
        """Entries of the baseline that are not there any more, up to `last`."""
        for folder, left in self.former.items():
            for name, entry in left.items():
                if last is None or key(folder, name) <= last:
                    self.seen.changes.append(Change(joined(folder, name), entry, None))

    def _refuse(self, path: bytes, error: OSError) -> None:
        # Gone since its name was read: a file that is not there is nothing unseen.
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            self.seen.unseen.append((path, os.strerror(error.errno or 0).lower()))


def _former(unit: Unit) -> dict[bytes, dict[bytes, Entry]]:
    """The entries of the unit's frame, by folder and name, within its bounds."""
    low, high = unit.low, unit.high
    found: dict[bytes, dict[bytes, Entry]] = {}
    for folder, entries in unpacked(unit.body):
        if low is None and high is None:
            found.setdefault(folder, {}).update((entry.name, entry) for entry in entries)
            continue
        inside = found.setdefault(folder, {})
        for entry in entries:
            place = key(folder, entry.name)
            if (low is None or place > low) and (high is None or place <= high):
                inside[entry.name] = entry
    return found
