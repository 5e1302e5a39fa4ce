"""A run from a person's wishes: everything opened in the right order, and closed again."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ringfence import __version__
from ringfence.errors import FailedError, InputError, RingfenceError, UsageError
from ringfence.watch.baseline import seal
from ringfence.watch.baseline.targets import Target, find_target
from ringfence.watch.baseline.walk import Start, open_root
from ringfence.watch.ledger.keys import private_key
from ringfence.watch.ledger.sinks.choose import choose
from ringfence.watch.ledger.writer import Ledger
from ringfence.watch.live import fanotify
from ringfence.watch.live.allowed import read_learned
from ringfence.watch.live.aloud import aloud
from ringfence.watch.live.company import company
from ringfence.watch.live.denials import Denials
from ringfence.watch.live.ending import Ending
from ringfence.watch.live.enforce import Enforcement, Rule
from ringfence.watch.live.execs import Execs
from ringfence.watch.live.judge import Judge
from ringfence.watch.live.judging import Judging
from ringfence.watch.live.keeper import Keeper
from ringfence.watch.live.known import Known
from ringfence.watch.live.loop import Plan, Watching
from ringfence.watch.live.machine import machine
from ringfence.watch.live.marks import Marks
from ringfence.watch.live.mounts import Table, mounted
from ringfence.watch.live.queue import Queue
from ringfence.watch.live.rescan import command_words
from ringfence.watch.live.told import EVENT, Told
from ringfence.watch.live.who import Census

SWITCH = 0.0005
"""Seconds after which the thread that judges lets the one that asks who did it go on."""
PATIENCE = 2.0
"""Seconds for a decision, and for the decider's signs of life, unless a person says otherwise."""
Show = Callable[[Told, str], str]


class Wishes(msgspec.Struct, frozen=True):
    """What a person asked for; the fields are the options of `ringfence watch run`."""

    words: tuple[str, ...]
    kind: str
    baseline: Path
    public_key: Path
    ledger: Path | None = None
    key: Path | None = None
    sinks: tuple[str, ...] = ()
    full_every: float = 0.0
    first: bool = True
    enforce: bool = False
    learning: Path | None = None
    learned: Path | None = None
    deny: bool = True
    patience: float = PATIENCE


def run(wishes: Wishes, show: Show) -> None:
    """Watch until a signal. `show` makes a line of what is told, and when."""
    with _failing():
        _run(wishes, show)


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """What nobody foresaw has its traceback, and an exit code of its own."""
    try:
        yield
    except (RingfenceError, BrokenPipeError):
        raise
    except Exception as error:
        traceback.print_exc()
        raise FailedError(f"failed: {type(error).__name__}: {error}", where="watch run") from error


def _run(wishes: Wishes, show: Show) -> None:
    public = seal.read_public(wishes.public_key)
    known = Known(wishes.baseline, public)
    target = _target(wishes, known)
    _more_descriptors()
    sys.setswitchinterval(SWITCH)
    with contextlib.ExitStack() as stack:
        # The group first: what this machine refuses is said before anything is written.
        group = fanotify.Group()
        stack.callback(group.close)
        root = open_root(target.root)
        stack.callback(os.close, root)
        start = Start(b"", root, mounts=bool(target.only))
        judge = Judge(known, start, target.mounts(), target.owners())
        marks = Marks(group, target, start, judge)
        ledger = _ledger(wishes)
        ending = stack.enter_context(Ending())
        if ledger is not None:
            stack.callback(ledger.close)
        _watch(wishes, target, group, marks, judge, ledger, ending, public, root, show)


def _watch(
    wishes: Wishes, target: Target, group: fanotify.Group, marks: Marks, judge: Judge,
    ledger: Ledger | None, ending: Ending, public: bytes, root: int, show: Show,
) -> None:  # fmt: skip
    keeper = Keeper(
        ledger, lambda told: show(told, datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]),
        lambda: bool(ending.reason),
    )  # fmt: skip
    with contextlib.closing(keeper):
        algorithm = judge.known.header.algorithm
        enforcement = _enforcement(wishes, target, root, algorithm, public)
        with _enforced(enforcement, keeper, ending):
            mounts = mounted(target)
            keeper.keep([_started(wishes, target, group, marks)])
            if enforcement is not None:
                keeper.keep(enforcement.ready(ending))
            _watched(wishes, target, group, marks, judge, keeper, ending, enforcement, mounts, root)


def _watched(
    wishes: Wishes, target: Target, group: fanotify.Group, marks: Marks, judge: Judge,
    keeper: Keeper, ending: Ending, enforcement: Enforcement | None, mounts: Table, root: int,
) -> None:  # fmt: skip
    queue = Queue()
    words = command_words(wishes.words, wishes.baseline, wishes.public_key, wishes.kind)
    judging = Judging(queue, judge, keeper, target)
    execs, denials = _audited(wishes, target, root)
    watching = Watching(
        target, group, marks, Census(execs=execs), judging, queue,
        Plan(words, wishes.full_every, wishes.first), enforcement, ending, mounts, denials,
    )  # fmt: skip
    if denials is not None:
        keeper.keep([denials.started()])
    watching.run()
    keeper.keep([Told(EVENT, target.name, {
        "event": "stop", "reason": ending.reason, "records": keeper.kept,
        "permitted": judging.permitted, "overflows": watching.overflows,
    })])  # fmt: skip
    if watching.astray and enforcement is None:
        raise InputError(watching.astray, where=target.name,
                         remedy="start again when it is in its place")  # fmt: skip


def _audited(wishes: Wishes, target: Target, root: int) -> tuple[Execs, Denials | None]:
    """What the kernel tells of processes, and, for a ledger, what its audit says of them."""
    if wishes.ledger is None:
        return Execs(), None
    processes = company(target, root)
    execs = Execs(processes.started if processes is not None else None)
    return execs, Denials(target.name, processes)


@contextlib.contextmanager
def _enforced(
    enforcement: Enforcement | None, keeper: Keeper, ending: Ending
) -> Iterator[None]:  # fmt: skip
    """Where a run fails that denies, decider and standby go on, as they do after a kill: otherwise
    a name that makes the watcher fail would let everything run. Any other enforcement is ended."""
    try:
        yield
    except BaseException:
        if enforcement is not None and ending.failed and enforcement.stays:
            left = enforcement.leave()
            aloud(str(left.detail["why"]))
            with contextlib.suppress(Exception):  # the ledger may be what failed
                keeper.keep([left])
        elif enforcement is not None:
            enforcement.stop()
        raise


def _target(wishes: Wishes, known: Known) -> Target:
    target = find_target(wishes.words, wishes.kind)
    if not target.live:
        raise UsageError("an archive does not change", where=target.name,
                         remedy="`watch check` compares it")  # fmt: skip
    return msgspec.structs.replace(target, only=known.header.only)


def _enforcement(
    wishes: Wishes, target: Target, root: int, algorithm: str, public: bytes
) -> Enforcement | None:
    if not wishes.enforce and wishes.learning is None:
        return None
    if wishes.learned is not None:
        read_learned(wishes.learned, algorithm)
    deny = wishes.deny and wishes.learning is None
    rule = Rule(wishes.baseline, public, wishes.learned, wishes.learning, deny, wishes.patience)
    return Enforcement(target, root, algorithm, rule)


def _ledger(wishes: Wishes) -> Ledger | None:
    if wishes.ledger is None or wishes.key is None:
        return None
    return Ledger.open(wishes.ledger, private_key(wishes.key), [choose(s) for s in wishes.sinks])


def _started(wishes: Wishes, target: Target, group: fanotify.Group, marks: Marks) -> Told:
    detail: dict[str, object] = {
        "event": "start", "version": __version__, "pid": os.getpid(),
        "marks": "its file system" if marks.whole else f"{len(marks)} folders",
        "pidfd": group.pidfd, "rename": group.rename, "machine": machine(),
        "baseline": os.fspath(wishes.baseline), "full_every": wishes.full_every,
    }  # fmt: skip
    if marks.refused:
        detail["refused"] = [[os.fsdecode(path), why] for path, why in marks.refused[:50]]
    return Told(EVENT, target.name, detail)


def _more_descriptors() -> None:
    """Each event read brings a descriptor."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
