"""The whole of a hardening, step by step, in a private folder; nothing is written elsewhere.

1. the service runs as given, traced, in a copy of its tree: what it uses
2. the same untraced: what it answers, to the exercise and beyond it, and the surface before
3. the files to keep, and an image of just them
4. the image as an unprivileged user, traced: what it uses then; again while files are missing
5. policies from what was seen and what the code can reach
6. inside the fence: the same answers? and the surface after
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ringfence.collect.files.filebytes import Kept as KeptOpen
from ringfence.collect.files.filebytes import of_file
from ringfence.collect.files.programs import class_of
from ringfence.collect.files.streams import Stretch
from ringfence.collect.seccomp.live import read_live
from ringfence.collect.seccomp.question import parse
from ringfence.errors import InputError, RingfenceError
from ringfence.harden.binary.programs import Reachable, reachable
from ringfence.harden.entrance import check_folders, how_to_write, name_from
from ringfence.harden.image.layer import write_layer
from ringfence.harden.keep.everything import keep_everything
from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.shell import with_interpreters
from ringfence.harden.layout import (
    Changes,
    Entry,
    accounts,
    changes,
    entries,
    left_behind,
    opens_output,
    own_homes,
)
from ringfence.harden.measured import calls_allowed, facts_of, uncounted
from ringfence.harden.observe.documents import documents
from ringfence.harden.observe.exercise import Answer, Exercise, Request, request_of, variants
from ringfence.harden.observe.isolation import copied, unmount_below
from ringfence.harden.observe.runtime_folders import Folder, make, runtime_folders
from ringfence.harden.observe.session import Plan, Run, RunFailed, run
from ringfence.harden.observe.trace import Trace
from ringfence.harden.packages import Owner, Packages
from ringfence.harden.policy import nftables, systemd
from ringfence.harden.policy.calls import allowed, serving
from ringfence.harden.policy.needs import Needs, destinations
from ringfence.harden.policy.seccomp import FILTERED, profile
from ringfence.harden.service import (
    ROOT,
    Identity,
    Service,
    check_fenced,
    home_of,
    identity,
    program_of,
)
from ringfence.harden.source import Source
from ringfence.harden.tree import Tree
from ringfence.harden.wishes import Wishes
from ringfence.knowledge.records import Knowledge
from ringfence.model.facts import Facts
from ringfence.report.words import printable
from ringfence.run.engine import Container, EngineError, working_engine
from ringfence.run.fence import ENGINE_CAPABILITIES, ID_BASE, NFT, Fence
from ringfence.run.notify import Listener, notifying
from ringfence.run.phases import tighten
from ringfence.run.places import reachable_folder
from ringfence.run.unpack import unpack

NOBODY = Identity(65532, 65532)
"""The user of a service that has none of its own: `nonroot`, as distroless images have it."""
MOST_ROUNDS = 6
MOST_NAMED = 3
"""Of places that could not be written, in a message."""
TIMES_AGAIN = 4
"""An answer that is one of two by chance is found out fifteen times in sixteen."""
MEMORY, PROCESSES = 1 << 30, 512
"""Default limits of a fence."""


class Observed(msgspec.Struct, frozen=True):
    """What the service as given did and answered, in the engine's own fence (`loose`). `who` is
    the user to give it."""

    source: Source
    tree: Tree
    plan: Plan
    trace: Trace
    reference: Run
    loose: Fence
    before: Facts
    who: Identity
    asked_nothing: bool


class Minimal(msgspec.Struct, frozen=True):
    """The tree that remains, and what the service did in it as an unprivileged user."""

    kept: Kept
    entries: tuple[Entry, ...]
    owners: list[Owner]
    changes: Changes
    layer: bytes
    root: Path
    trace: Trace


class Fenced(msgspec.Struct, frozen=True):
    """The service inside the fence: what it answered, how many system calls it was allowed when it
    came up, and what was refused to it."""

    run: Run
    after: Facts
    starting: int
    refused: dict[str, int]
    notes: tuple[str, ...] = ()


class Workshop:
    """The private folder, and the counter that gives every run a place of its own."""

    def __init__(self, folder: Path, engine: str = "") -> None:
        self.folder = folder
        self.engine = working_engine(engine)
        self._count = 0

    def place(self) -> Path:
        """A new empty folder that a user namespace's root can reach."""
        self._count += 1
        place = self.folder / str(self._count)
        place.mkdir()
        place.chmod(0o711)  # whatever our umask is
        return place


@contextlib.contextmanager
def workshop(engine: str = "") -> Iterator[Workshop]:
    """A workshop in a temporary folder, removed in the end.

    Views of other trees are mounted there: they are unmounted first, and should one be left,
    nothing is removed.
    """
    folder = reachable_folder()
    try:
        yield Workshop(folder, engine)
    finally:
        unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


# --- 1 and 2: as given ---------------------------------------------------------------------------


def observe(source: Source, wishes: Wishes, shop: Workshop, knowledge: Knowledge) -> Observed:
    """Run the service as given. Raises InputError when it or its exercise fails by itself."""
    tree = Tree(source.root)
    asked = Exercise(tuple(request_of(url) for url in wishes.http), wishes.exercise)
    declared = (*wishes.ports, *(request.port for request in asked.requests))
    plan = Plan(asked, tuple(dict.fromkeys(declared)), source.service.signal, wishes.wait)
    folders = runtime_folders(tree)
    first, fence = _first_run(source, wishes, tree, plan, folders, shop)
    if not asked.requests and not asked.commands:
        plan = _default_exercise(plan, first)
    trace = first.trace or Trace()
    beyond = Exercise(
        (*variants(plan.exercise.requests),
         *documents(plan.exercise.requests, first.answers, trace, tree))
    )  # fmt: skip
    # What does not end when it is told to is not waited for again and again.
    stopping = plan.stopping if first.status is not None else 1.0
    plan = msgspec.structs.replace(plan, ports=first.ports, beyond=beyond, stopping=stopping)
    facts: list[Facts] = []
    reference = run(
        _fresh(fence, folders, source, shop),
        plan,
        shop.place(),
        engine=shop.engine,
        look=lambda container: facts.append(facts_of(container.pid, knowledge, source.name)),
    )
    _check_exercise(reference.answers, asked)
    who = _user(wishes, source, first, tree)
    check_fenced(who, source.name)
    return Observed(source, tree, plan, trace, reference, fence, facts[0], who, asked == Exercise())


def asked_again(seen: Observed, shop: Workshop) -> Iterator[Run]:
    """The service as given, asked the same from its start, again and again."""
    folders = runtime_folders(seen.tree)
    for _ in range(TIMES_AGAIN):
        fence = _fresh(seen.loose, folders, seen.source, shop)
        yield run(fence, seen.plan, shop.place(), engine=shop.engine)


def _first_run(
    source: Source,
    wishes: Wishes,
    tree: Tree,
    plan: Plan,
    folders: tuple[Folder, ...],
    shop: Workshop,
) -> tuple[Run, Fence]:
    """Traced, as configured; as the wanted user where it will not start otherwise (PostgreSQL
    refuses to be root)."""
    users = dict.fromkeys((source.service.user, wishes.user or source.service.user))
    failure: RunFailed | None = None
    for user in users:
        fence = _loose(source, identity(user, tree))
        try:
            fresh = _fresh(fence, folders, source, shop)
            return run(fresh, plan, shop.place(), engine=shop.engine, traced=True), fence
        except RunFailed as error:
            failure = error
    raise failure or InputError("no user to run as")


def _loose(source: Source, who: Identity) -> Fence:
    """What an engine encloses a container with when nothing is asked for."""
    service = source.service
    return Fence(
        root=source.root,
        command=service.command,
        environment=service.environment,
        folder=service.folder,
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        capabilities=ENGINE_CAPABILITIES if who == ROOT else (),
        read_only=False,
        no_new_privileges=False,
        user_namespace=False,
    )


def _fresh(fence: Fence, folders: tuple[Folder, ...], source: Source, shop: Workshop) -> Fence:
    """The same on an untouched copy of the tree, as an init system would have prepared it."""
    root = copied(source.root, shop.place())
    make(folders, root)
    return msgspec.structs.replace(fence, root=root)


def _default_exercise(plan: Plan, first: Run) -> Plan:
    """Without an exercise: the first page of every port. What is no web server is left alone by
    `_check_exercise`, since nobody asked for an answer."""
    requests = tuple(Request("GET", port, "/") for port in first.ports)
    return msgspec.structs.replace(plan, exercise=Exercise(requests))


def _check_exercise(answers: tuple[Answer, ...], asked: Exercise) -> None:
    unanswered = ("no end", "no answer") if asked.requests else ("no end",)
    for answer in answers:
        if answer.text.startswith(unanswered) or (
            answer.text.startswith("exit ") and not answer.text.startswith("exit 0")
        ):
            said = answer.detail.strip().splitlines()
            raise InputError(
                f"the exercise fails outside the fence, too: {answer.text}"
                + (f" ({said[-1][:200]})" if said else ""),
                where=answer.request,
            )


def _user(wishes: Wishes, source: Source, first: Run, tree: Tree) -> Identity:
    """The wanted user; else the one that the service became or was given; else nobody."""
    if wishes.user:
        return identity(wishes.user, tree)
    configured = identity(source.service.user, tree)
    if configured.uid:
        return configured
    trace = first.trace or Trace()
    users = [number for number in trace.users if number]
    groups = [number for number in trace.groups if number]
    if users:
        return Identity(users[-1], groups[-1] if groups else users[-1])
    return NOBODY


# --- 3 and 4: the minimal tree -------------------------------------------------------------------


def minimize(seen: Observed, wishes: Wishes, shop: Workshop) -> Minimal:
    """The tree that remains, found by running in it until nothing is missed. Raises InputError."""
    packages = Packages(seen.tree)
    trace = seen.trace
    missed: tuple[str, ...] = ()
    for _ in range(MOST_ROUNDS):
        kept = keep_everything(
            seen.tree,
            seen.source.service,
            trace,
            packages,
            wanted=(*wishes.keep, *missed),
            dropped=wishes.drop,
            shell=wishes.keep_shell,
        )
        written = _changes(seen, trace, wishes)
        check_folders(item.path for item in written.writable)
        made = _assemble(kept, packages, seen, written, wishes, shop)
        plain = msgspec.structs.replace(seen.plan, beyond=Exercise())
        try:
            again = run(fence_of(made, seen), plain, shop.place(), engine=shop.engine, traced=True)
            later, failure = again.trace or Trace(), None
        except RunFailed as error:
            later, failure = error.trace or Trace(), error
        more = _missed(kept, later)
        both = _united(trace, later)
        settled = _changes(seen, both, wishes) == made.changes
        if failure is None and settled and not more:
            return msgspec.structs.replace(made, trace=later)
        if settled and not more:
            raise _unwritten(failure, written) if failure else InputError("does not settle")
        missed, trace = (*missed, *more), both
    raise failure or InputError("the service keeps missing files", where=seen.source.name)


def _changes(seen: Observed, trace: Trace, wishes: Wishes) -> Changes:
    """What it wrote. On this host a home is a person's, not the service's own."""
    if seen.source.root == Path("/"):
        return changes(seen.tree, trace, wishes.writable, people=True)
    places = (home_of(seen.who, seen.tree), seen.source.service.folder)
    return changes(seen.tree, trace, wishes.writable, own_homes(seen.tree, seen.who, places))


def _unwritten(failure: RunFailed, written: Changes) -> InputError:
    """The failure in the minimal tree, with what stayed read-only there, a likely cause."""
    if not written.refused:
        return failure
    shown = list(written.refused.items())[:MOST_NAMED]
    options = dict.fromkeys(how_to_write(path, call) for path, call in shown)
    places = ", ".join(f"/{path}" for path, _ in shown)
    further = len(written.refused) - len(shown)
    words = " ".join(option for option in options if option)
    return InputError(
        failure.what,
        where=failure.where,
        remedy=f"as given it wrote {places}{f' and {further} more' if further else ''}, which "
        f"stays read-only here{f': try {words}' if words else ''}",
    )


def notes_of(seen: Observed, made: Minimal, found: Reachable) -> tuple[str, ...]:
    """What the user should know of the result."""
    notes = [f"/{path} was written when it ran as given, and stays read-only here"
             + (f": {option} if it must" if (option := how_to_write(path, call)) else "")
             for path, call in made.changes.refused.items()]  # fmt: skip
    notes += [f"/{item.path} holds state and is in memory: give it a volume"
              for item in made.changes.writable if item.state]  # fmt: skip
    left = left_behind(made.kept, made.changes, made.entries)
    notes += [f"files in /{path} that were left out, not known to be the service's: {count}; "
              "--keep those that it needs" for path, count in left.items()]  # fmt: skip
    notes += uncounted(seen.before)
    notes += [f"/{path}, {why}, is no folder of the service's alone and was not kept whole: --keep "
              "what it needs of it" for path, why in made.kept.passed_over.items()]  # fmt: skip
    folders = {item.path for item in made.changes.writable}
    notes += [f"{why}, which writes /{path}: --writable /{path} if it is used"
              for path, why in made.kept.memory.items() if path not in folders]  # fmt: skip
    if found.unclear:
        notes.append(
            f"{len(found.unclear)} places in the code could not be followed: only what was seen "
            f"is allowed there; the first is {found.unclear[0]}"
        )
    if seen.asked_nothing:
        notes.append("no exercise was given: only its start, one GET of each port and its stop "
                     "were seen (--http, --exercise)")  # fmt: skip
    notes += [f"the variable {name} is not in service.service: systemd {why}"
              for name, why in systemd.unsaid(seen.source.service).items()]  # fmt: skip
    spaces = sorted(flag for flag in seen.trace.clones if flag.startswith("CLONE_NEW"))
    if spaces:
        notes.append(f"it makes namespaces ({', '.join(spaces)}), which the filter refuses")
    if seen.reference.status is None:
        notes.append(f"as given it does not end on {seen.plan.stop}, and was killed")
    shells = [path for path in made.kept.reasons if class_of(path) == "shell"]
    notes += [f"/{path} stays, because the service runs it" for path in shells]
    return tuple(notes)


def absent_of(source: Source, wishes: Wishes) -> tuple[str, ...]:
    """Notes on what was to be kept or left out and is not there."""
    tree = Tree(source.root)
    kept = [path for path in wishes.keep if tree.status(tree.resolve(path)[0]) is None]
    dropped = [path for path in wishes.drop if tree.status(path) is None]
    return (
        *(f"--keep {path}: the tree has nothing of that name" for path in kept),
        *(f"--drop /{path}: the tree has nothing of that name" for path in dropped),
    )


def _missed(kept: Kept, trace: Trace) -> tuple[str, ...]:
    """Files that the tree has, the image has not, and the service looked for."""
    found: dict[str, None] = {}
    for use in trace.uses:
        if use.error != "ENOENT":
            continue
        real = kept.tree.resolve(use.path)[0]
        if real not in kept.reasons and kept.tree.is_file(real) and not kept.unwanted(real):
            found[real] = None
    return tuple(found)


def _united(first: Trace, second: Trace) -> Trace:
    """One trace of two runs."""
    calls = {name: set(phases) for name, phases in first.calls.items()}
    for name, phases in second.calls.items():
        calls.setdefault(name, set()).update(phases)
    return Trace(
        calls=calls,
        uses={**first.uses, **second.uses},
        programs={**first.programs, **second.programs},
        memory_programs=first.memory_programs or second.memory_programs,
        sockets=first.sockets | second.sockets,
        listens=first.listens | second.listens,
        connects=first.connects | second.connects,
        ioctls=first.ioctls | second.ioctls,
        prctls=first.prctls | second.prctls,
        clones=first.clones | second.clones,
        users=first.users + second.users,
        groups=first.groups + second.groups,
    )


def _assemble(
    kept: Kept,
    packages: Packages,
    seen: Observed,
    written: Changes,
    wishes: Wishes,
    shop: Workshop,
) -> Minimal:
    owners = packages.of(kept.files())
    for owner in owners:
        for licence in owner.licences:
            kept.add(licence, f"licence of {owner.name}")
    extra = accounts(kept.tree, seen.who, kept)
    for owner in owners:
        path, body = owner.record
        extra[path] = extra.get(path, b"") + body if owner.kind == "apk" else body
    found = entries(kept, seen.who, written, extra, seen.source.service.folder)
    buffer = io.BytesIO()
    write_layer(found, kept.tree, wishes.base_time, buffer)
    place = shop.place()
    (place / "layer.tar").write_bytes(buffer.getvalue())
    (place / "root").mkdir()
    (place / "root").chmod(0o755)  # whatever our umask is
    data = of_file(KeptOpen(place / "layer.tar"))
    layer = Stretch(data, str(place / "layer.tar"), 0, len(data))
    unpack([layer], place / "root", ID_BASE)
    return Minimal(kept, found, owners, written, buffer.getvalue(), place / "root", Trace())


def fence_of(made: Minimal, seen: Observed, service: Service | None = None) -> Fence:
    """The fence around the minimal tree, without a filter yet."""
    service = service or seen.source.service
    return Fence(
        root=made.root,
        command=service.command,
        environment=service.environment,
        folder=service.folder,
        uid=seen.who.uid,
        gid=seen.who.gid,
        writable=made.changes.writable,
        memory=MEMORY,
        processes=PROCESSES,
    )


# --- 5 and 6: policies, and the fence ------------------------------------------------------------


def needs_of(seen: Observed, made: Minimal, wishes: Wishes) -> tuple[Needs, Reachable]:
    """What the policies are written from."""
    tree, trace = seen.tree, made.trace
    program = program_of(seen.source.service, tree)
    programs = with_interpreters(tree, (program, *trace.programs))
    found = reachable(tree, programs, made.kept.files())
    return Needs(
        name=wishes.name or name_from(Path(program).name),
        service=seen.source.service,
        program=program,
        who=seen.who,
        calls=allowed(trace.calls, found.calls, wishes.allowed_calls),
        serving=serving(
            trace.calls,
            found.calls,
            wishes.allowed_calls,
            further=_further(seen, programs),
            own=found.own,
        ),
        asked=tuple(text for text in wishes.allow if parse(text).call in FILTERED),
        sockets=tuple(sorted(seen.trace.sockets | trace.sockets)),
        prctls=tuple(sorted(trace.prctls)),
        ioctls=tuple(sorted(trace.ioctls)),
        ports=seen.reference.ports,
        destinations=destinations(seen.trace.connects | trace.connects),
        programs=tuple(programs),
        memory_programs=seen.trace.memory_programs or trace.memory_programs,
        output_by_name=opens_output(tree, trace, made.changes),
        writable=made.changes.writable,
        entries=made.entries,
        origin=printable(
            f"ringfence harden {seen.source.name}: a traced run as user {seen.who.uid} and the "
            f"code of {len(programs)} program(s) with their libraries"
        ),
    ), found


def _further(seen: Observed, programs: list[str]) -> tuple[str, ...]:
    """Lists of calls for a service that makes threads, or runs scripts, which may do so, too."""
    if any(class_of(path) == "interpreter" for path in programs):
        return ("threads", "scripts")
    return ("threads",) if "CLONE_THREAD" in seen.trace.clones else ()


def fenced(
    seen: Observed,
    made: Minimal,
    needs: Needs,
    shop: Workshop,
    knowledge: Knowledge,
    notes: tuple[str, ...] = (),
    *,
    phases: bool = False,
) -> Fenced:
    """Inside the fence: once with refusals reported, once as it will be, measured."""
    place = shop.place()
    listener = Listener(place / "refused.sock")
    filters = profile(needs, needs.calls)
    final = msgspec.structs.replace(
        fence_of(made, seen),
        seccomp=filters,
        firewall=nftables.write(needs) if os.access(NFT, os.X_OK) else "",
        memory_programs=needs.memory_programs,
    )
    starting: list[int] = []

    def up(container: Container, heard: Listener | None = None) -> None:
        starting.append(calls_allowed(read_live(container.pid, ())))
        if phases:
            tighten(container.pid, profile(needs, needs.serving), heard)

    try:
        reported = msgspec.structs.replace(final, seccomp=notifying(filters, listener.path))
        first = run(
            reported, seen.plan, shop.place(), engine=shop.engine,
            serving=lambda container: up(container, listener),
        )  # fmt: skip
    except (RunFailed, EngineError) as failure:
        raise _too_tight(failure, listener.refused) from None
    finally:
        listener.close()
    facts: list[Facts] = []

    def look(container: Container) -> None:
        facts.append(facts_of(container.pid, knowledge, needs.name))

    run(final, seen.plan, shop.place(), engine=shop.engine, look=look, serving=up)
    return Fenced(first, facts[0], starting[-1], dict(sorted(listener.refused.items())), notes)


def missed_inside(seen: Observed, made: Minimal, needs: Needs, shop: Workshop) -> tuple[str, ...]:
    """Files that were left out and that the service looks for when it is asked everything, also
    what was not in the exercise."""
    everything = Exercise(
        (*seen.plan.exercise.requests, *seen.plan.beyond.requests), seen.plan.exercise.commands
    )
    plan = msgspec.structs.replace(seen.plan, exercise=everything, beyond=Exercise())
    fence = msgspec.structs.replace(fence_of(made, seen), seccomp=profile(needs, needs.calls))
    trace = run(fence, plan, shop.place(), engine=shop.engine, traced=True).trace or Trace()
    return _missed(made.kept, trace)


def _too_tight(failure: RingfenceError, refused: dict[str, int]) -> InputError:
    words = " ".join(f"--allow {name}" for name in refused)
    return InputError(
        failure.what,
        where="inside the fence",
        remedy=f"it was refused {', '.join(refused)}: try {words}" if refused else failure.remedy,
    )
