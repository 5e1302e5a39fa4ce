"""What a worker process does with a unit: look at its files, compare, pack."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

import msgspec

from ringfence.watch.baseline.compare import Change, Comparison
from ringfence.watch.baseline.entry import Entry, Group, Key, joined, key
from ringfence.watch.baseline.looking import Looker
from ringfence.watch.baseline.opening import FOLDER
from ringfence.watch.baseline.owners import Owners
from ringfence.watch.baseline.pool import Give
from ringfence.watch.baseline.rest import Clock
from ringfence.watch.baseline.rules import FolderRules, Mode, Rule, Rules
from ringfence.watch.baseline.store import Packer, expanded, groups_of
from ringfence.watch.baseline.units import Unit, unit_of
from ringfence.watch.baseline.walk import FOLDERS, PLAIN, Listing, Start

MOST_HELD = 32
"""Folders that are held open until their names are looked at: most units have fewer."""
MOST_READ = 48 << 20
"""Bytes read for one unit before its rest is handed back: what keeps the workers in balance."""


class Task(msgspec.Struct, frozen=True):
    """What all units of a pass have in common. `comparison` None: nothing to compare with.

    `keep`: entries are packed into frames. `mixed`: recorded digests are of several algorithms.
    `mounts` are paths where something is mounted.
    `owners`: the user namespace whose ids are told, None for this host's. `clock`: when the pass
    began, and `own_clock` the devices of file systems that go by it (`rest`).
    """

    starts: tuple[Start, ...]
    rules: Rules
    algorithm: str
    mounts: frozenset[bytes] = frozenset()
    comparison: Comparison | None = None
    keep: bool = True
    quick: bool = False
    mixed: bool = False
    owners: Owners | None = None
    clock: Clock | None = None
    own_clock: frozenset[int] = frozenset()


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
        self.task = task
        self.looker = Looker(task.algorithm, quick=task.quick, mixed=task.mixed, owners=task.owners)
        self.packer = Packer()
        self.most_held = min(MOST_HELD, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self.settled = [_settled(task, start) for start in self.task.starts]

    def __call__(self, data: bytes, give: Give) -> bytes:
        """The result (`Seen`, encoded) of the unit without what it hands back by `give`."""
        job = _Job(self, unit_of(data), give)
        self.looker.before_large = job.hand_back
        job.run()
        return msgspec.msgpack.encode(job.seen)


def _settled(task: Task, start: Start) -> int:
    """The time before which a file below `start` was not touched since the pass began, or 0."""
    own = os.fstat(start.handle).st_dev in task.own_clock
    return task.clock.settled if own and task.clock is not None else 0


class _Job:
    """One unit on its way."""

    def __init__(self, worker: Worker, unit: Unit, give: Give) -> None:
        self.worker = worker
        self.task = worker.task
        self.looker = worker.looker
        self.unit = unit
        self.seen = Seen(frames=[], changes=[], unseen=[])
        self.groups: list[Group] = []
        self.rest: Unit | None = None
        self._give = give
        self._place = (0, 0)
        """The listing at which it is, and how many of its names are done with the present one."""
        self._listed = {folder for _, folder, *_ in unit.listings}
        self._held: dict[bytes, int] = {}
        """Folders that were looked at, and whose own names are among what is to come."""
        self._former: _Former | None = None
        self._ruled: dict[tuple[bytes, bytes], tuple[bytes, Rule]] = {}
        """What `_compare` has to know of those that were looked at by a rule."""

    def run(self) -> None:
        """Do the unit, until its rest is handed back."""
        looker = self.looker
        passed, files, taken = looker.digester.passed, looker.files_read, looker.taken
        try:
            for number, listing in enumerate(self.unit.listings):
                self._listing(number, listing, passed + MOST_READ)
                if self.rest is not None:
                    break
        finally:
            for handle in self._held.values():
                os.close(handle)
        if self.task.comparison is not None and not self._as_recorded():
            self._compare_all(self.task.comparison)
        if self.task.keep:
            self.seen.frames = list(self.worker.packer.frames(self.groups))
        self.seen.size = looker.digester.passed - passed
        self.seen.files = looker.files_read - files
        self.seen.taken = looker.taken - taken

    def hand_back(self) -> None:
        """Whatever comes after the present name is another's, if it is not yet. Asked for before a
        large file, too: several side by side would be read one after the other."""
        number, done = self._place
        start, folder, names, kinds = self.unit.listings[number]
        left = [(start, folder, names[done:], kinds[done:])] if done < len(names) else []
        left += self.unit.listings[number + 1 :]
        if self.rest is None and left:
            low = key(folder, names[done - 1])
            self.rest = Unit(left, self.unit.body, low, self.unit.high)
            self._give(self.rest.packed())

    def _listing(self, number: int, listing: Listing, limit: int) -> None:
        """Look at the names of one folder."""
        start, folder, names, kinds = listing
        try:
            held = self._held.pop(folder, None)
            handle = self.task.starts[start].open(folder) if held is None else held
        except OSError as error:
            self._refuse(folder, error)
            return
        entries: list[Entry] = []
        task, looker = self.task, self.looker
        digester, small = looker.digester, looker.small
        looker.settled = self.worker.settled[start]
        try:
            rules = task.rules.of_folder(folder)
            plain = task.starts[start].view is not None and self._plain(rules)
            mounts = self._mounts(folder, names) if task.mounts else ()
            for count, (name, kind) in enumerate(zip(names, kinds, strict=True), 1):
                entry = None
                if plain and name not in mounts:
                    if kind == PLAIN:
                        entry = small(handle, name)
                    elif kind == FOLDERS:
                        entry = self._folder(handle, folder, name)
                if entry is None:
                    self._place = (number, count)
                    entry = self._name(start, handle, folder, name, rules)
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
            if entries:
                self.groups.append((folder, entries))

    def _plain(self, rules: FolderRules) -> bool:
        """Whether files and folders of this folder are to stay as they are, all of them."""
        rule = rules.simple
        return self.looker.plain and rule is not None and rule.mode is Mode.EXACT

    def _mounts(self, folder: bytes, names: list[bytes]) -> frozenset[bytes]:
        """The names of a folder at which something is mounted."""
        return frozenset(name for name in names if joined(folder, name) in self.task.mounts)

    def _folder(self, above: int, folder: bytes, name: bytes) -> Entry | None:
        """A folder; None for whatever has taken its place meanwhile. It is held open where it will
        be needed: opening it anew takes as long as looking at it."""
        try:
            handle = os.open(name or b".", FOLDER, dir_fd=above)
        except OSError:
            return None
        path = joined(folder, name)
        room = len(self._held) < self.worker.most_held
        if room and path in self._listed and path not in self._held:
            self._held[path] = handle
            return self.looker.folder(handle, name)
        try:
            return self.looker.folder(handle, name)
        finally:
            os.close(handle)

    def _name(
        self, start: int, handle: int, folder: bytes, name: bytes, rules: FolderRules
    ) -> Entry | None:
        """A name that is to be looked at by its rule, or that is no plain file or folder."""
        path = joined(folder, name)
        mount = path in self.task.mounts
        try:
            with self._mounted(start, folder) if mount else contextlib.nullcontext(handle) as place:
                found = self.looker.look(place, name, rules, mount, lambda: self._old(folder, name))
        except OSError as error:
            self._refuse(path, error)
            return None
        if found is None:
            return None
        entry, part, rule = found
        if entry.unread:
            self.seen.unseen.append((path, entry.unread))
        self._ruled[folder, name] = part, rule
        return entry

    @contextlib.contextmanager
    def _mounted(self, start: int, folder: bytes) -> Iterator[int]:
        """The folder where what is mounted in it is there, which no private view has."""
        handle = self.task.starts[start].open_mounted(folder)
        try:
            yield handle
        finally:
            os.close(handle)

    def _old(self, folder: bytes, name: bytes) -> Entry | None:
        """What the baseline has of this name."""
        return self._recorded().get(folder, {}).get(name)

    def _recorded(self) -> _Former:
        """The entries of the unit's frame: most units do without, see `_as_recorded`."""
        if self._former is None:
            self._former = _former(self.unit) if self.unit.body else {}
        return self._former

    def _as_recorded(self) -> bool:
        """Whether all is as the baseline has it, byte for byte, which is so of most units."""
        unit = self.unit
        if self.rest is not None or unit.low is not None or unit.high is not None or not unit.body:
            return False
        return self.worker.packer.packed(self.groups) == expanded(unit.body)

    def _compare_all(self, comparison: Comparison) -> None:
        """What was seen beside the entries of the baseline up to where the unit was handed back."""
        former = self._recorded()
        for folder, entries in self.groups:
            olds = former.get(folder, {})
            simple = self.task.rules.of_folder(folder).simple
            for entry in entries:
                old = olds.pop(entry.name, None)
                if entry == old:
                    continue
                path = joined(folder, entry.name)
                part, rule = self._ruled.get((folder, entry.name), (b"", simple))
                names = comparison.differing(old, entry, part, rule) if old and rule else ()
                if names or old is None:
                    self.seen.changes.append(Change(path, old, entry, names, part))
        self._removed(self.rest.low if self.rest else self.unit.high)

    def _removed(self, last: Key | None) -> None:
        """Entries of the baseline that are not there any more, up to `last`."""
        for folder, left in self._recorded().items():
            for name, entry in left.items():
                if last is None or key(folder, name) <= last:
                    self.seen.changes.append(Change(joined(folder, name), entry, None))

    def _refuse(self, path: bytes, error: OSError) -> None:
        # Gone since its name was read: a file that is not there is nothing unseen.
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            self.seen.unseen.append((path, os.strerror(error.errno or 0).lower()))


_Former = dict[bytes, dict[bytes, Entry]]


def _former(unit: Unit) -> _Former:
    """The entries of the unit's frame, by folder and name, within its bounds."""
    low, high = unit.low, unit.high
    found: _Former = {}
    for folder, entries in groups_of(expanded(unit.body)):
        if low is None and high is None:
            found.setdefault(folder, {}).update((entry.name, entry) for entry in entries)
            continue
        inside = found.setdefault(folder, {})
        for entry in entries:
            place = key(folder, entry.name)
            if (low is None or place > low) and (high is None or place <= high):
                inside[entry.name] = entry
    return found
