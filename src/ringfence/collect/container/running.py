"""Running containers by name: the state files of runc, crun and their parents, then the engines.

runc keeps /run/runc/NAME/state.json; Docker, containerd and podman keep runc's or crun's folders
under their own. Where no state file is found, podman and docker are asked (`inspect`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from ringfence.collect.container.document import read_document, table, words
from ringfence.collect.process import procfs
from ringfence.errors import InputError, MissingError
from ringfence.untrusted import Undecodable, decode_json

KIND = "container"
PATIENCE = 10.0
RESTART = "was it changed by hand? start the container again"
ENGINES = ("podman", "docker")


class Container(msgspec.Struct, frozen=True):
    """A running container: its engine, its first process, and where that was read.

    `bundle` is the folder of its runtime configuration, None where the state does not tell.
    """

    name: str
    engine: str
    pid: int
    source: str
    bundle: Path | None = None


def folders() -> list[tuple[str, Path]]:
    """Where runtimes keep one folder a container, with the runtime's name."""
    user = f"/run/user/{os.getuid()}"
    places = [
        ("runc", "/run/runc"),
        ("crun", "/run/crun"),
        ("runc", f"{user}/runc"),
        ("crun", f"{user}/crun"),
        ("docker", "/run/docker/runtime-runc/moby"),
        ("containerd", "/run/containerd/runc/k8s.io"),
        ("containerd", "/run/containerd/runc/default"),
    ]
    own = os.environ.get("RINGFENCE_RUNTIME_ROOT")
    if own:
        places.insert(0, ("runc", own))
    return [(engine, Path(place)) for engine, place in places]


def is_name(text: str) -> bool:
    """Whether `text` can be a container's name, and not a path that leads elsewhere."""
    return "/" not in text and "\0" not in text and text not in ("", ".", "..")


def is_running(name: str) -> bool:
    """Whether some runtime keeps a folder for a container of this name."""
    return is_name(name) and any(_exists(place / name) for _, place in folders())


def _exists(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def find_container(name: str) -> Container:
    """The running container `name`, from a state file or an engine.

    Raises InputError when there is none or it does not run, MissingError when what would know
    may not be read.
    """
    if not is_name(name):
        raise InputError("is not a container's name", where=name)
    refused = ""
    for engine, place in folders():
        for file, field in (("state.json", "init_process_pid"), ("status", "pid")):
            path = place / name / file
            try:
                os.stat(path)
            except PermissionError:
                refused = str(path)
                continue
            except OSError:
                continue
            return _from_state(name, engine, path, field)
    return _from_engine(name, refused)


def _from_state(name: str, engine: str, path: Path, field: str) -> Container:
    state = read_document(path)
    pid = state.get(field)
    if type(pid) is not int or pid <= 0 or not os.path.exists(f"/proc/{pid}"):
        raise InputError("the container does not run", where=name, remedy=f"start it with {engine}")
    started = state.get("init_process_start")
    if "init_process_start" in state and type(started) is not int:
        raise InputError("init_process_start is no number", where=str(path), remedy=RESTART)
    if started is not None and started != _start_time(pid):
        raise InputError(
            f"process {pid} of its state file is another one by now",
            where=name,
            remedy=f"the container is gone: remove {path.parent}",
        )
    return Container(name, engine, pid, str(path), _bundle(state, str(path)))


def _bundle(state: dict[str, Any], where: str) -> Path | None:
    """The bundle's folder: crun's `bundle`, or runc's label `bundle=...`. Raises InputError."""
    labels = words(state, "config", "labels")
    named = [label.removeprefix("bundle=") for label in labels if label.startswith("bundle=")]
    stated = state.get("bundle")
    if isinstance(stated, str):
        named.insert(0, stated)
    if not named:
        return None
    if "\0" in named[0]:
        raise InputError("bundle holds a zero byte", where=where, remedy=RESTART)
    return Path(named[0])


def _start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat: start in clock ticks since boot."""
    try:
        text = procfs.read(pid, "stat").decode("utf-8", "replace")
    except (OSError, procfs.Vanished):
        return -1
    return int(text.rpartition(")")[2].split()[19])


def _from_engine(name: str, refused: str) -> Container:
    present = [engine for engine in ENGINES if shutil.which(engine)]
    for engine in present:
        answer = _inspect(engine, name)
        pid = table(answer, "State").get("Pid")
        if isinstance(pid, int) and pid > 0:
            return Container(name, engine, pid, f"{engine} inspect {name}")
        if answer:
            raise InputError(
                "the container does not run", where=name, remedy=f"{engine} start {name}"
            )
    if refused:
        raise MissingError(f"{refused} may not be read", where=name, remedy="run as root")
    looked = ", ".join(["runc", "crun", *present])
    absent = [engine for engine in ENGINES if engine not in present]
    raise InputError(
        f"{_lacking(name)} of this name (looked at {looked})",
        where=name,
        remedy=f"not installed here: {', '.join(absent)}" if absent else "see `podman ps`",
    )


def _lacking(name: str) -> str:
    """What there is not: a person who typed `name` may have meant a file or a process."""
    others = ["file"] if not os.path.lexists(name) else []
    if name.isascii() and name.isdigit() and not procfs.is_pid(name):
        others.append("process")
    return f"no {', '.join(others)} or container" if others else "no container"


def _inspect(engine: str, name: str) -> dict[str, Any]:
    command = [engine, "inspect", "--type", "container", "--", name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        answer = decode_json(done.stdout)
    except (OSError, subprocess.TimeoutExpired, Undecodable):
        return {}
    first = answer[0] if isinstance(answer, list) and answer else None
    return first if isinstance(first, dict) else {}
