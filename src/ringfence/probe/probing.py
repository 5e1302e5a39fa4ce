"""From a process to the report of its probing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import msgspec

from ringfence.collect.live import collect_process
from ringfence.collect.process import procfs
from ringfence.collect.process.answering import with_answers
from ringfence.collect.process.tree import read_process
from ringfence.collect.seccomp.tables import native_calls
from ringfence.errors import InputError
from ringfence.knowledge.records import Knowledge
from ringfence.model.facts import Facts, Target
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Process
from ringfence.probe.abi import Abi
from ringfence.probe.attempts import Result, attempted
from ringfence.probe.battery import PROBES
from ringfence.probe.battery import calls as call_group
from ringfence.probe.beside import told_apart
from ringfence.probe.definition import ABSENCE, Probe, Seen
from ringfence.probe.driven import Driven
from ringfence.probe.expect import Expectations, questions
from ringfence.probe.inject import Stopped, injected
from ringfence.probe.join import joined
from ringfence.probe.record import SCHEMA, Attempt, ProbeReport, ProbeTarget
from ringfence.probe.table import kernel_table, offered_abis
from ringfence.probe.view import View, view_of
from ringfence.run.tracee import Ended, InjectionFailed

JOIN, INJECT = "join", "inject"
UNGUARDED = (
    "without CAP_SYS_PTRACE, processes of the same user cannot be kept out of those that "
    "try: believe the results only of a workload that is not hostile"
)
CONTROL = "this host, as the user who probes, unconfined"


class Probed(msgspec.Struct, frozen=True):
    """One process after its probing: whether it is admin of its zone, what each probe showed, and
    which calls it made on ways that no filter stopped."""

    admin: bool
    report: ProbeReport
    probes: tuple[Probe, ...]
    tried: dict[str, frozenset[str]]


def probe_process(
    pid: int,
    knowledge: Knowledge,
    *,
    stance: str = JOIN,
    kind: str = "process",
    name: str = "",
    facts: Facts | None = None,
    control: Control | None = None,
) -> Probed:
    """Try everything on one live process. `facts` are those of its whole target, `control` is what
    `control_of` gave, if they are at hand. Raises InputError or MissingError."""
    read = facts or collect_process(pid, knowledge, kind, name)
    control = control or control_of(knowledge)
    calls = (name for name in control.table if name not in native_calls())
    probes = (*PROBES, *map(call_group.probe, calls))
    thread = procfs.living(pid)  # nothing can be read or joined of one that has ended
    process = _process(thread, questions(probes, knowledge), knowledge)
    alone = msgspec.structs.replace(read, processes=(process,))
    expectations = Expectations(alone, knowledge)
    view = view_of(process, alone, owns=stance == INJECT)
    stopped = Stopped()
    with _inside(thread, stance, stopped) as (zygote, notes):
        began = time.perf_counter()
        try:
            results = attempted(zygote, view, probes, view.programs or (), control.abis)
            if stance == INJECT:
                results = told_apart(results, probes, zygote, view, thread)
        except Ended:
            raise InputError("ended while it was being probed", where=f"PID {pid}") from None
        except InjectionFailed as failure:
            raise InputError(f"probing stopped: {failure}", where=f"PID {pid}") from None
        seconds = time.perf_counter() - began
    attempts = tuple(
        _attempt(probe, results[probe.id], expectations.of(probe), control) for probe in probes
    )
    report = ProbeReport(
        schema=SCHEMA,
        target=ProbeTarget(kind, name or str(pid), pid, process.program, stance),
        attempts=attempts,
        disagreements=tuple(item.id for item in attempts if _disagree(item)),
        counts=_counts(attempts),
        notes=notes,
        stopped=tuple(stopped.times),
        seconds=seconds,
    )
    tried = {name: result.tried for name, result in results.items()}
    return Probed(expectations.level is Level.ADMIN, report, probes, tried)


def _process(pid: int, asked: tuple[str, ...], knowledge: Knowledge) -> Process:
    try:
        (process,) = with_answers((read_process(pid, knowledge, asked),))
    except (procfs.Vanished, OSError):
        raise InputError("ended while it was being read", where=f"PID {pid}") from None
    return process


@contextlib.contextmanager
def _inside(pid: int, stance: str, stopped: Stopped) -> Iterator[tuple[Driven, tuple[str, ...]]]:
    if stance == INJECT:
        with injected(pid, stopped) as zygote:
            yield zygote, () if zygote.guarded else (UNGUARDED,)
        return
    with joined(pid) as (zygote, notes):
        yield zygote, notes if zygote.guarded else (*notes, UNGUARDED)


# --- where nothing forbids it --------------------------------------------------------------------


class Control(msgspec.Struct, frozen=True):
    """Ids of probes that were seen open in a process of ours that nothing confines, and what that
    shows of the kernel: its table of calls, whether each is there, and its other ABIs."""

    opened: frozenset[str]
    table: dict[str, bool]
    abis: tuple[Abi, ...]


def control_of(knowledge: Knowledge) -> Control:
    """The battery on a process of ours. Half a second: several processes may share it."""
    with _unconfined() as pid:
        process = _process(pid, (), knowledge)
        facts = Facts(Target("process", "control"), processes=(process,))
        with joined(pid) as (zygote, _):
            view: View = view_of(process, facts, owns=False)
            results = attempted(zygote, view, PROBES)
            table, abis = kernel_table(zygote), offered_abis(zygote)
    opened = (name for name, result in results.items() if result.outcome.seen is Seen.OPEN)
    return Control(frozenset(opened), table, abis)


@contextlib.contextmanager
def _unconfined() -> Iterator[int]:
    """A process of ours that waits until we are done."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        yield pid
    finally:
        os.close(read)
        os.close(write)
        os.waitpid(pid, 0)


# --- one row of the report -----------------------------------------------------------------------


def _attempt(probe: Probe, result: Result, expected: State, control: Control) -> Attempt:
    outcome, layer = result.outcome, result.layer
    seen = outcome.seen
    call = probe.id.removeprefix("call.").partition("[")[0]
    if probe.id.startswith("call.") and not control.table.get(call, True):
        seen, layer = Seen.UNSUPPORTED, ABSENCE
    return Attempt(
        id=probe.id,
        group=probe.group,
        title=probe.title,
        expected=expected,
        seen=seen,
        stopped_by=layer if seen is not Seen.OPEN else "",
        detail=outcome.detail,
        technique=probe.technique,
        control=CONTROL if probe.id in control.opened else "",
    )


def _disagree(item: Attempt) -> bool:
    return {item.expected, item.seen} == {Seen.OPEN.value, Seen.CLOSED.value}


def _counts(attempts: tuple[Attempt, ...]) -> dict[str, int]:
    found = {state.value: 0 for state in Seen}
    for item in attempts:
        found[item.seen] += 1
    return {"attempts": len(attempts), **found}
