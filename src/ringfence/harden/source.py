"""Where the files come from: a command of this host, a root file system, an image."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ringfence.collect.container.document import table, text, words
from ringfence.collect.files.image import open_image, sniff
from ringfence.collect.files.streams import expanded, whole_file
from ringfence.errors import InputError, UsageError
from ringfence.harden.service import Service
from ringfence.run.fence import ENGINE_PATH
from ringfence.run.stopping import stop_signal
from ringfence.run.unpack import unpack
from ringfence.untrusted import check_path

PASSED_ON = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""Of this host's environment, what a command is started with: nothing that could be a secret."""


class Source(msgspec.Struct, frozen=True):
    """A tree on this host, whole or unpacked for the occasion, and the service in it."""

    kind: str
    name: str
    root: Path
    service: Service


def open_source(target: str, command: tuple[str, ...], folder: Path) -> Source:
    """The source that `target` names ('' for a command of this host).

    `folder` is private and empty, for what must be unpacked. Raises InputError or UsageError.
    """
    if not target:
        if not command:
            raise UsageError("nothing to harden", remedy="give a target, or a command after --")
        kept = tuple(f"{name}={os.environ[name]}" for name in PASSED_ON if name in os.environ)
        return Source("command", command[0], Path("/"), _service(command, (*_path(), *kept)))
    check_path(target)
    path = Path(target)
    if not path.exists():
        raise InputError("there is no such file", where=target)
    kind = sniff(path)
    if kind == "image":
        return _image(path, command, folder)
    if kind != "rootfs" and not path.is_dir():
        raise InputError("is neither an image nor a root file system", where=target)
    if not command:
        raise UsageError(
            "a root file system does not say what its service is",
            where=target,
            remedy="give the command after --, as in -- nginx -g 'daemon off;'",
        )
    if path.is_dir():
        return Source("rootfs", target, path.resolve(), _service(command, _path()))
    unpack([expanded(whole_file(path))], folder)
    return Source("rootfs", target, folder, _service(command, _path()))


def with_environment(source: Source, words: tuple[str, ...]) -> Source:
    """The same with further variables, which win over what the source has. Raises UsageError."""
    for word in words:
        if not word.partition("=")[0] or "=" not in word:
            raise UsageError("is not NAME=value", where=word.partition("=")[0])
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError("a variable that is not UTF-8", where=word.partition("=")[0]) from None
    names = {word.partition("=")[0] for word in words}
    kept = [word for word in source.service.environment if word.partition("=")[0] not in names]
    service = msgspec.structs.replace(source.service, environment=(*kept, *words))
    return msgspec.structs.replace(source, service=service)


def _path() -> tuple[str, ...]:
    return (f"PATH={ENGINE_PATH}",)


def _service(command: tuple[str, ...], environment: tuple[str, ...]) -> Service:
    return Service(command, environment)


def _image(path: Path, command: tuple[str, ...], folder: Path) -> Source:
    parts = open_image(path)
    said = parts.document
    own = (*words(said, "Entrypoint"), *words(said, "Cmd"))
    if not command and not own:
        raise UsageError("the image names no command", where=str(path), remedy="give it after --")
    unpack(parts.layers(), folder)
    environment = tuple(word for word in words(said, "Env") if "=" in word)
    if not any(word.startswith("PATH=") for word in environment):
        environment = (*_path(), *environment)
    stop = text(said, "StopSignal") or "SIGTERM"
    stop_signal(stop, str(path))
    return Source(
        "image",
        str(path),
        folder,
        Service(
            command=command or own,
            environment=environment,
            folder=text(said, "WorkingDir") or "/",
            user=text(said, "User"),
            ports=tuple(sorted(table(said, "ExposedPorts"))),
            signal=stop,
        ),
    )
