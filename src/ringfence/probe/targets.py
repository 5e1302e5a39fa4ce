"""What a person types after `ringfence probe`, as a live process: found, or started for it."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ringfence.collect.container.running import find_container
from ringfence.collect.live import collect_process
from ringfence.collect.process.procfs import is_pid
from ringfence.errors import InputError, UsageError
from ringfence.knowledge.records import Knowledge
from ringfence.model.facts import Facts
from ringfence.probe.started import SETTLED, started
from ringfence.run.engine import Container, check_root, working_engine
from ringfence.run.fence import ENGINE_CAPABILITIES, ENGINE_PATH, Fence, Writable
from ringfence.run.listening import listening
from ringfence.run.notify import Listener, notifying
from ringfence.run.phases import tighten
from ringfence.run.places import reachable_folder
from ringfence.run.result import Options, Ready, ready
from ringfence.run.result import unpacked as unpacked_image
from ringfence.run.watchdog import guarded

PATIENCE = 15.0


class Live(msgspec.Struct, frozen=True):
    """A live target: the process to stand in the place of, and all of the target's facts."""

    kind: str
    name: str
    pid: int
    facts: Facts


@contextlib.contextmanager
def live(target: str, command: tuple[str, ...], knowledge: Knowledge) -> Iterator[Live]:
    """The target while it lasts; what was started for the purpose is ended. Raises InputError,
    UsageError or MissingError."""
    if command and not target:
        if shutil.which(command[0]) is None:
            raise InputError("no such program", where=command[0])
        with started(command) as pid:
            yield _found("command", command[0], pid, knowledge)
    elif command and not Path(target).is_file():
        raise UsageError("a target or a command after --, not both", where=target)
    elif is_pid(target):
        yield _found("process", target, int(target), knowledge, exact=True)
    elif Path(target, "image.oci.tar").is_file():
        with _fenced(Path(target)) as pid:
            yield _found("result", target, pid, knowledge)
    elif Path(target).is_file():
        with _image(Path(target), command) as pid:
            yield _found("image", target, pid, knowledge)
    elif not target or "/" in target:
        raise UsageError(
            "is no process, container, result of harden or image", where=target or "the target",
            remedy="or give a command after --",
        )  # fmt: skip
    else:
        yield _found("container", target, find_container(target).pid, knowledge)


def _found(kind: str, name: str, pid: int, knowledge: Knowledge, *, exact: bool = False) -> Live:
    """Of a service, the process that handles what comes in: that is where an attacker lands."""
    facts = collect_process(pid, knowledge, kind, name)
    chosen = pid
    if not exact:
        waiting = [one for item in facts.listeners for one in item.waiting]
        chosen = waiting[0] if waiting else pid
    return Live(kind, name, chosen, facts)


@contextlib.contextmanager
def _fenced(folder: Path) -> Iterator[int]:
    """A result of harden, started in its fence as `ringfence run` does, with no port published."""
    check_root()
    workload = ready(folder, Options())
    with contextlib.ExitStack() as stack:
        place = reachable_folder()
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        listener = Listener(place / "refused.sock")
        stack.callback(listener.close)
        filters = notifying(workload.fence.seccomp or {}, listener.path)
        fence = msgspec.structs.replace(workload.fence, seccomp=filters)
        container = Container(fence, place, working_engine())
        stack.enter_context(guarded(container, place))
        stack.callback(_stopped, container, workload)
        container.launch()
        container.forbid_memory_programs()
        _until_up(container, workload.ports)
        if workload.serving is not None:
            tighten(container.pid, workload.serving)
        yield container.pid


@contextlib.contextmanager
def _image(path: Path, given: tuple[str, ...]) -> Iterator[int]:
    """An image in a container with what engines give one that asks for nothing, and no filter;
    its own command, or the one that was given."""
    from ringfence.collect.container.document import table, words
    from ringfence.collect.files.image import open_image

    check_root()
    parts = open_image(path)
    said = parts.document
    command = given or (*words(said, "Entrypoint"), *words(said, "Cmd"))
    if not command:
        raise UsageError("the image names no command", where=str(path), remedy="give it after --")
    user = str(said.get("User") or "0")
    numbers = re.fullmatch(r"([0-9]{1,5})(?::([0-9]{1,5}))?", user)
    if numbers is None:
        raise InputError(f"its user {user[:80]!r} is no number", where=str(path))
    uid, gid = int(numbers[1]), int(numbers[2] or 0)
    ports = tuple(int(found[1]) for port in table(said, "ExposedPorts")
                  if (found := re.fullmatch(r"([0-9]{1,5})(?:/tcp)?", port)))  # fmt: skip
    environment = tuple(words(said, "Env"))
    if not any(word.startswith("PATH=") for word in environment):
        environment += (f"PATH={ENGINE_PATH}",)
    with contextlib.ExitStack() as stack:
        place = reachable_folder()
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        fence = Fence(
            root=unpacked_image(parts, place / "image"), command=command,
            environment=environment, folder=str(said.get("WorkingDir") or "/"),
            uid=uid, gid=gid,
            capabilities=() if uid else ENGINE_CAPABILITIES, no_new_privileges=False,
            writable=tuple(Writable(item.strip("/")) for item in sorted(table(said, "Volumes"))),
        )  # fmt: skip
        container = Container(fence, place, working_engine())
        stack.enter_context(guarded(container, place))
        stack.callback(container.remove)
        container.launch()
        _until_up(container, ports)
        yield container.pid


def _until_up(container: Container, ports: tuple[int, ...]) -> None:
    limit = time.monotonic() + (PATIENCE if ports else SETTLED)
    while time.monotonic() < limit:
        if container.poll() is not None:
            said = container.output.finish(0.2).decode("utf-8", "replace").strip()
            said = said.rpartition("\n")[2][:200]
            raise InputError(f"ended by itself ({said})", where=container.fence.command[0])
        if ports and set(ports) <= listening(container.pid):
            return
        time.sleep(0.01)
    if ports:
        raise InputError("did not come up", where=container.fence.command[0])


def _stopped(container: Container, workload: Ready) -> None:
    container.signal(workload.signal)
    container.wait(5)
    container.remove()
