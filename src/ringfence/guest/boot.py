"""One boot: QEMU started, its guest watched until it has come up, sampled, driven, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from ringfence.errors import InputError, MissingError
from ringfence.guest.confine import Confinement
from ringfence.guest.console import console
from ringfence.guest.debugger import Debugger
from ringfence.guest.devices import devices, given
from ringfence.guest.drive import Drive, drive
from ringfence.guest.exercise import environment
from ringfence.guest.machine import Machine, complaint, published, words
from ringfence.guest.memory import Memory
from ringfence.guest.monitor import Ended, monitor
from ringfence.guest.observation import Observation, Phase
from ringfence.guest.output import Output
from ringfence.guest.sample import Sampler

WHOLE, BRIEF = 120, 24
"""Samples of the settled, idle guest: in the boot that is examined whole, and in later ones."""
_LATEST_BREATH = 1.0
"""Seconds for QEMU to have said why it ended."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do in one boot. `size`: bytes of memory. `limit`: seconds. `known`: see
    Sampler.settle. `drive`: how the guest is driven; None: it is left idle. `looks`: samples of
    the idle guest."""

    box: Confinement
    folder: Path
    size: int
    limit: float
    looks: int
    known: float | None = None
    drive: Drive | None = None


Build = Callable[[int, int, int, int], Machine]
"""The descriptors of memory, monitor, console and debugger to a machine."""


async def boot(build: Build, plan: Plan) -> Observation:
    """Boot once. Raises InputError where QEMU refuses the image."""
    ours, theirs = socket.socketpair()
    line, far = socket.socketpair()
    mine, other = socket.socketpair()
    with (
        contextlib.closing(Memory(plan.size)) as memory,
        ours, line, mine, theirs, far, other,
    ):  # fmt: skip
        machine = build(memory.handle, theirs.fileno(), far.fileno(), other.fileno())
        debugger = None if machine.debugger is None else Debugger(mine)
        async with _qemu(machine, plan) as output:
            started = time.monotonic()
            for end in (theirs, far, other):
                end.close()
            try:
                async with (
                    console(line, plan.folder / "serial") as talk,
                    monitor(ours, machine.arch.look, debugger) as control,
                ):
                    sampler = Sampler(control, memory, talk, output, started, plan.limit)
                    return await _observe(sampler, plan)
            except Ended as ended:
                await asyncio.sleep(_LATEST_BREATH / 10)
                raise _refused(output, machine, str(ended)) from None


async def _observe(sampler: Sampler, plan: Plan) -> Observation:
    """All phases of one boot. Raises Ended only where nothing at all was seen."""
    settled: float | None = None
    status: int | None = None
    end, tree, virtio = "", "", {}
    try:
        settled = await sampler.settle(plan.limit, plan.known)
        await sampler.enter(Phase.BEFORE)
        await sampler.watch(plan.looks)
        if plan.drive is not None:
            await sampler.enter(Phase.LOAD)
            ports = published(await sampler.monitor.text("info usernet"))
            more = environment(plan.folder / "serial", ports)
            status = await drive(sampler, plan.drive, more, plan.limit)
        await sampler.last()
        tree = await sampler.monitor.text("info qtree")
        virtio = await _virtio(sampler)
    except Ended as ended:
        end = _end(sampler, str(ended))
        with contextlib.suppress(Ended):
            await sampler.post_mortem()
    if not sampler.looks:
        raise Ended(end)
    return Observation(
        looks=tuple(sampler.looks), spaces=tuple(sampler.spaces), places=tuple(sampler.places),
        devices=devices(sampler.output.accesses, virtio), given=given(tree),
        steady=settled, end=end, exercise=status, flooded=sampler.output.cut,
    )  # fmt: skip


def _end(sampler: Sampler, reason: str) -> str:
    """Why the guest stopped: QEMU calls a triple fault a reset like any other."""
    if sampler.output.triple_fault:
        return "triple fault"
    said = sampler.output.said
    return sampler.monitor.ending or (said[-1] if said else reason)


async def _virtio(sampler: Sampler) -> dict[str, bool]:
    """virtio devices, and whether a driver in the guest serves each (VIRTIO 1.2, 2.1)."""
    found: dict[str, bool] = {}
    for device in await sampler.monitor.ask("x-query-virtio"):
        status = await sampler.monitor.ask("x-query-virtio-status", path=device["path"])
        words = " ".join(map(str, status["status"].get("statuses", ())))
        found[str(device["name"])] = "DRIVER_OK" in words
    return found


def _refused(output: Output, machine: Machine, reason: str) -> InputError:
    """QEMU gave up before there was a guest: its own last words."""
    option, said = complaint(machine, output.said[-1] if output.said else reason)
    disk = option == "-drive"
    remedy = "try qemu-img check on the disk" if disk else "is the image whole?"
    return InputError(said, where="qemu", remedy=remedy)


@contextlib.asynccontextmanager
async def _qemu(machine: Machine, plan: Plan) -> AsyncIterator[Output]:
    """QEMU in a session of its own, killed at the end with all that it started."""
    command = [*plan.box.words(plan.size, int(plan.limit) + 1), *words(machine)]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            pass_fds=machine.handles, start_new_session=True, cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(plan.folder / "qemu")},
        )  # fmt: skip
    except FileNotFoundError:
        raise MissingError(
            "setpriv is not installed", remedy="apt-get install util-linux"
        ) from None
    assert process.stderr is not None  # noqa: S101 - for the type checker: it is a pipe
    output = Output(process.stderr.fileno())
    output.start()
    try:
        yield output
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.stop()
        process.stderr.close()
