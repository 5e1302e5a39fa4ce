"""`ringfence run DIR`"""

from __future__ import annotations

import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ringfence.cli.delivery import say
from ringfence.cli.ending import unwind_on
from ringfence.cli.ledgered import Record, ledgered, recording
from ringfence.errors import UsageError

if TYPE_CHECKING:
    from ringfence.run.fence import Volume
    from ringfence.run.publish import Published
    from ringfence.run.result import Ready

KILLED = 128
"""From this exit status on it was a signal."""
PODMAN = "podman"
"""It starts what it creates at once when it is to stay in the foreground."""
LOOPBACK = "127.0.0.1"
_PUBLISH = re.compile(
    r"(?:(?P<address>[0-9]+(?:\.[0-9]+){3}|\[[0-9a-f:]+\]):)?"
    r"(?:(?P<outside>[0-9]{1,5}):)?(?P<inside>[0-9]{1,5})"
)
_VOLUME = re.compile(r"(?P<outside>[^:]+):(?P<inside>/[^:]*)(?::(?P<mode>ro|rw))?", re.DOTALL)
_SIZE = re.compile(r"([0-9]{1,19})([kmgKMG]?)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
LEAST_MEMORY, MOST_MEMORY = 6 << 20, 1 << 61
"""Bytes: an engine's own start needs the former, as docker has it; podman doubles the latter."""
LEAST_PIDS, MOST_PIDS = 16, 1 << 22
"""Within the container's limit are runc's own threads, and beside them nft(8), which loads the
firewall. Go starts threads as it finds work for them: five most of the time, six now and then with
two processors, eight with 64. PID_MAX_LIMIT of Linux (include/linux/threads.h)."""


@click.command("run")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "-p", "--publish", multiple=True, metavar="[[ADDRESS:]HOST:]CONTAINER",
    help="Publish a port. Default: each declared one on loopback, under its number. Repeatable.",
)  # fmt: skip
@click.option(
    "-v", "--volume", multiple=True, metavar="HOST:CONTAINER[:ro]",
    help="A folder of this host for a writable one of the service's. Repeatable.",
)  # fmt: skip
@click.option("--memory", default="1g", show_default=True, help="Limit, like 512m.")
@click.option(
    "--pids", default=512, show_default=True, type=click.IntRange(LEAST_PIDS, MOST_PIDS),
    help="Most processes and threads.",
)  # fmt: skip
@click.option("--engine", default="", help="runc, crun or podman. Default: the first that works.")
@ledgered
@click.option("--trace", is_flag=True, help="Follow it with strace; name what it lacks at its end.")
def command(
    folder: Path,
    publish: tuple[str, ...],
    volume: tuple[str, ...],
    memory: str,
    pids: int,
    engine: str,
    trace: bool,
    ledger: Path | None,
    key: Path | None,
    sinks: tuple[str, ...],
) -> None:
    """Run what `ringfence harden` made, inside its fence.

    As an unprivileged user in namespaces of its own, with a read-only root, no capabilities, its
    system call filter and its firewall. Its output goes to standard output; what the fence
    refuses is reported on standard error by name. Ends with the service's own exit status.
    """
    from ringfence.run.engine import check_root
    from ringfence.run.engines import candidates
    from ringfence.run.result import Options, ready
    from ringfence.run.workload import run_workload

    if trace and engine == PODMAN:
        raise UsageError(
            "cannot be traced from the start", where=f"--engine {PODMAN}",
            remedy="use --engine runc, or leave out --trace",
        )  # fmt: skip
    check_root()
    options = Options(_size(memory), pids, tuple(_volume(text) for text in volume))
    ports = tuple(_published(text) for text in publish)
    workload = ready(folder, options)
    ports = ports or _default(workload.ports)
    audit = ledger is not None
    with recording(ledger, key, sinks) as record:
        if trace:
            sys.exit(_traced(folder, workload, ports, candidates(engine), record, audit=audit))
        status = run_workload(workload, ports, candidates(engine), _say, record, audit=audit)
    if 0 < status < KILLED:
        _say(f"ended with status {status}; run it with --trace to see what it lacked")
    sys.exit(status)


def _traced(
    folder: Path,
    workload: Ready,
    ports: tuple[Published, ...],
    engines: tuple[str, ...],
    record: Record,
    *,
    audit: bool = False,
) -> int:
    from ringfence.harden.lacks import lacks
    from ringfence.run.workload import run_workload

    # Until the workload is there to be given them.
    unwind_on(signal.SIGTERM, signal.SIGHUP)
    with tempfile.TemporaryDirectory(prefix="ringfence-trace-") as place:
        status = run_workload(
            workload, ports, engines, _say, record, trace=Path(place), audit=audit
        )
        fence = workload.fence
        for line in lacks(folder, Path(place), fence.root, fence.folder):
            _say(line)
    return status


def _say(line: str) -> None:
    """One printable line, whatever the service or an engine had to do with it."""
    shown = "".join(char if char.isprintable() else "?" for char in line)
    say(shown)


def _default(ports: tuple[int, ...]) -> tuple[Published, ...]:
    from ringfence.run.publish import Published

    return tuple(Published(LOOPBACK, port, port) for port in ports)


def _published(text: str) -> Published:
    from ringfence.run.publish import Published

    match = _PUBLISH.fullmatch(text)
    inside = int(match["inside"]) if match else 0
    outside = int(match["outside"]) if match and match["outside"] else inside
    if not match or not 0 < inside < 65536 or not 0 < outside < 65536:
        raise UsageError(f"{text!r} is no port", remedy="as in -p 8080:80")
    return Published((match["address"] or LOOPBACK).strip("[]"), outside, inside)


def _volume(text: str) -> Volume:
    from ringfence.collect.files.paths import inside
    from ringfence.run.fence import Volume

    match = _VOLUME.fullmatch(text)
    place = inside(match["inside"]) if match else None
    if not match or not place or not Path(match["outside"]).is_dir():
        raise UsageError(
            f"{text!r} is no volume",
            remedy="as in -v /srv/data:/data or -v /srv/data:/data:ro, an existing folder",
        )
    return Volume(str(Path(match["outside"]).absolute()), place, match["mode"] == "ro")


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _UNITS[match[2].lower()] if match else 0
    if not LEAST_MEMORY <= size <= MOST_MEMORY:
        raise UsageError(
            f"{text[:80]!r} is no size from 6m to 2147483648g", remedy="as in --memory 512m"
        )
    return size
