"""A result directory of `ringfence harden`, made ready to run: unpacked once, by its digest."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ringfence.collect.container.document import table, words
from ringfence.collect.files.image import ImageParts, open_image
from ringfence.collect.files.paths import inside
from ringfence.errors import InputError, MissingError
from ringfence.run.fence import ID_BASE, ID_COUNT, NFT, Fence, Volume, Writable
from ringfence.run.mountpoints import SYSTEM, check, check_volumes, lay
from ringfence.run.policies import read_filter, read_policy
from ringfence.run.stopping import stop_signal
from ringfence.run.unpack import unpack

STORE = Path("/var/lib/ringfence/roots")
"""Where unpacked images are kept; their owners are those of the user namespace. What is in
/var/lib/ringfence/images is of earlier versions, whose engines made folders in it: not used."""


UNFINISHED, LONG_AGO = ".new.", 86400.0
"""How the name of a folder begins in which an image is being unpacked, and after how many seconds
nobody does that any more: whoever did was killed."""


PHASES = "io.ringfence.phases"
"""The image's label that tells whether it was tested with the filter of the serving phase."""


MEMORY_PROGRAMS = "io.ringfence.memory-programs"
"""Label: whether the service executed, while it was observed, a file in memory alone."""


class Options(msgspec.Struct, frozen=True):
    """What a person may change: limits in bytes and processes, volumes."""

    memory: int = 1 << 30
    processes: int = 512
    volumes: tuple[Volume, ...] = ()


class Ready(msgspec.Struct, frozen=True):
    """What to start, and the TCP ports that it declares."""

    name: str
    fence: Fence
    ports: tuple[int, ...]
    signal: int
    serving: dict[str, Any] | None = None
    """The narrower filter, to be installed once all ports listen."""
    digest: str = ""
    """Of the image."""


def ready(folder: Path, options: Options, store: Path = STORE) -> Ready:
    """The fence of the result in `folder`. Raises InputError, UsageError or MissingError."""
    image = folder / "image.oci.tar"
    if not image.is_file():
        raise InputError(
            "holds no image.oci.tar", where=str(folder), remedy="ringfence harden makes one"
        )
    if not os.access(NFT, os.X_OK):
        raise MissingError("nft is needed for the rules", remedy="apt-get install nftables")
    parts = open_image(image)
    if not parts.verified:
        raise InputError("is no OCI archive, whose parts have digests", where=str(image),
                         remedy="run what ringfence harden made")  # fmt: skip
    said = parts.document
    uid, gid = _numbers(str(said.get("User", "")), image)
    command = (*words(said, "Entrypoint"), *words(said, "Cmd"))
    environment, place = tuple(words(said, "Env")), str(said.get("WorkingDir") or "/")
    if any("\0" in text for text in (*command, *environment, place)):
        raise InputError("a NUL in its command, environment or folder", where=str(image))
    writable = _writable(said, image)
    check_volumes(options.volumes, writable)
    points = (*SYSTEM, *(item.path for item in writable), _folder(place, image))
    fence = Fence(
        root=unpacked(parts, store, points),
        command=command,
        environment=environment,
        folder=place,
        uid=uid,
        gid=gid,
        seccomp=read_filter(folder, "policy/seccomp.json"),
        writable=writable,
        volumes=options.volumes,
        firewall=read_policy(folder, "policy/nftables.nft"),
        memory=options.memory,
        processes=options.processes,
        memory_programs=table(said, "Labels").get(MEMORY_PROGRAMS) != "no",
    )
    ports = tuple(_port(text, image) for text in sorted(table(said, "ExposedPorts")))
    name = table(said, "Labels").get("org.opencontainers.image.title", folder.name)
    narrower = None
    if table(said, "Labels").get(PHASES) == "yes":
        narrower = read_filter(folder, "policy/seccomp-serving.json")
    stop = stop_signal(str(said.get("StopSignal") or "SIGTERM"), str(image))
    return Ready(str(name), fence, ports, stop, narrower, parts.digest)


def _numbers(user: str, image: Path) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})", user)
    uid, gid = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (0 < uid < ID_COUNT and gid < ID_COUNT):
        raise InputError(
            f"its user is {user[:80]!r}, not a number other than root's", where=str(image),
            remedy="run what ringfence harden made",
        )  # fmt: skip
    return uid, gid


def _writable(said: dict[str, Any], image: Path) -> tuple[Writable, ...]:
    found = {_folder(path, image) for path in table(said, "Volumes")}
    if "" in found:
        raise InputError("its whole root is to be writable", where=str(image))
    return tuple(Writable(path) for path in sorted(found))


def _folder(path: str, image: Path) -> str:
    found = inside(path)
    if found is None:
        raise InputError(f"its folder {path[:80]!r} is none inside", where=str(image))
    return found


def _port(text: str, image: Path) -> int:
    found = re.fullmatch(r"([0-9]{1,5})(/tcp)?", text)
    if found is None or not 0 < int(found[1]) < 1 << 16:
        raise InputError(f"its port {text[:80]!r} is none of TCP", where=str(image))
    return int(found[1])


def unpacked(parts: ImageParts, store: Path, points: tuple[str, ...] = ()) -> Path:
    """The image's root folder, unpacked where that has not been done yet; with all folders that
    are in `points`. Raises InputError."""
    place = store / parts.digest.removeprefix("sha256:")
    if (place / "root").is_dir():
        _close(place)
        check(place / "root", points)
        return place / "root"
    with _open_umask():
        store.mkdir(parents=True, exist_ok=True, mode=0o711)  # each image in it is its own user's
    _forget_leftovers(store)
    folder = Path(tempfile.mkdtemp(dir=store, prefix=UNFINISHED))
    try:
        with _open_umask():
            (folder / "root").mkdir(mode=0o755)
            os.chown(folder / "root", ID_BASE, ID_BASE)
            unpack(parts.layers(), folder / "root", ID_BASE)
            lay(folder / "root", points)
        _close(folder)
        try:
            folder.rename(place)
        except OSError:
            if not (place / "root").is_dir():
                raise
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=str(place)) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return place / "root"


@contextlib.contextmanager
def _open_umask() -> Iterator[None]:
    """Folders as they are meant, whatever our caller's umask: others than root pass through."""
    former = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(former)


def _close(place: Path) -> None:
    """For the root of our user namespaces alone: an image may have set-user-ID programs."""
    os.chown(place, ID_BASE, ID_BASE)
    place.chmod(0o700)


def _forget_leftovers(store: Path) -> None:
    for path in store.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > LONG_AGO:
                shutil.rmtree(path, ignore_errors=True)
