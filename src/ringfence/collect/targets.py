"""What a person types, and which collector reads it: one row a kind of target."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from ringfence.collect.container.running import is_running
from ringfence.collect.process.procfs import is_pid
from ringfence.errors import InputError, UsageError
from ringfence.knowledge.records import Knowledge
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.facts import Facts, ImageConfig, Target
from ringfence.untrusted import check_path

HARDENED = "image.oci.tar"
"""The image in a result of `ringfence harden`."""
Collector = Callable[[str, Knowledge], Facts]


class Kind(msgspec.Struct, frozen=True):
    """A kind of target: how it is recognised, and what reads it."""

    name: str
    accepts: Callable[[str], bool]
    collect: Collector


def _process(target: str, knowledge: Knowledge) -> Facts:
    from ringfence.collect.live import collect_process

    if not is_pid(target):
        raise UsageError("a process is named by its PID", where=target)
    return collect_process(int(target), knowledge)


def _host(target: str, knowledge: Knowledge) -> Facts:
    from ringfence.collect.live import collect_host

    return collect_host(knowledge)


def _container(target: str, knowledge: Knowledge) -> Facts:
    from ringfence.collect.live import collect_container

    return collect_container(target, knowledge)


def _bundle(target: str, knowledge: Knowledge) -> Facts:
    from ringfence.collect.container.bundle import read_bundle

    return read_bundle(Path(target), knowledge)


def _declared(target: str, knowledge: Knowledge) -> Facts:
    from ringfence.collect.declared import read_declared

    deployment = read_declared(Path(target), knowledge)
    return Facts(Target("declared", deployment.name), declared=deployment)


def _image(target: str, knowledge: Knowledge) -> Facts:
    from ringfence.collect.files.image import read_image

    reading = read_image(Path(target))
    return Facts(
        Target("image", target),
        tree=reading.tree,
        config=reading.config,
        container=True,
        unseen=(*reading.tree.unseen, *reading.unseen),
    )


def _rootfs(target: str, knowledge: Knowledge) -> Facts:
    from ringfence.collect.files.directory import read_directory
    from ringfence.collect.files.image import read_tar

    path = Path(target)
    tree = read_directory(path) if path.is_dir() else read_tar(path)
    if tree.counts.files == 0:
        raise InputError("holds no files", where=target, remedy="is it the right one?")
    nothing = Evidence(Grade.ASSUMED, target, "a root file system says nothing of how it is run")
    config = ImageConfig("", "", (), 0, "", nothing, uid=0)
    return Facts(
        Target("rootfs", target), tree=tree, config=config, container=True, unseen=tree.unseen
    )


def _examined(target: str, knowledge: Knowledge) -> Facts:
    from ringfence.collect.guest.examined import read_examined

    return Facts(Target("examined", target), examined=read_examined(Path(target)))


def _is_examined(target: str) -> bool:
    from ringfence.collect.guest.examined import accepts

    return accepts(target)


def _guest(target: str, knowledge: Knowledge) -> Facts:
    from ringfence.collect.guest.image import read_image

    return read_image(Path(target), knowledge)


def _is_guest(target: str) -> bool:
    from ringfence.collect.guest.image import accepts

    return accepts(target)


def _sniffed(wanted: str) -> Callable[[str], bool]:
    def accepts(target: str) -> bool:
        from ringfence.collect.files.image import sniff

        path = Path(target)
        return os.path.exists(path) and sniff(path) == wanted

    return accepts


KINDS = (
    Kind("process", is_pid, _process),
    Kind("host", lambda target: target == "host", _host),
    Kind(
        "declared",
        lambda target: target.endswith(".toml") and os.path.isfile(target),
        _declared,
    ),
    Kind(
        "bundle",
        lambda target: os.path.isfile(os.path.join(target, "config.json")),
        _bundle,
    ),
    Kind("examined", _is_examined, _examined),
    Kind("guest", _is_guest, _guest),
    Kind("image", _sniffed("image"), _image),
    Kind("rootfs", _sniffed("rootfs"), _rootfs),
    Kind("container", is_running, _container),
)
"""In the order in which they are asked whether a target is theirs."""


def collect(target: str, knowledge: Knowledge, kind: str = "") -> Facts:
    """The facts of what a person typed. `kind` overrides the detection.

    Raises UsageError when the target is of no kind, InputError when it cannot be read.
    """
    if not target or "\0" in target:
        raise UsageError("a target cannot be empty", remedy="ringfence measure --help lists them")
    check_path(target)
    if kind:
        return next(item for item in KINDS if item.name == kind).collect(target, knowledge)
    for item in KINDS:
        if item.accepts(target):
            return item.collect(target, knowledge)
    if os.path.exists(target):
        raise InputError(
            "is neither an image, a root file system, a guest, a bundle nor a .toml deployment",
            where=target,
            remedy=_meant(target),
        )
    if "/" in target:
        raise InputError("there is no such file", where=target)
    # A bare word that is no file: perhaps a container that only an engine knows.
    return _container(target, knowledge)


def _meant(target: str) -> str:
    """What to type in place of a file or folder of no kind."""
    image = os.path.join(target, HARDENED)
    return f"measure {image}" if os.path.isfile(image) else "say what it is with --kind"
