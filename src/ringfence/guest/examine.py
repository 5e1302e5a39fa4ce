"""The whole examination: the image opened, an accelerator chosen, all boots made, facts drawn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ringfence.errors import InputError, MissingError
from ringfence.guest.accel import accelerator, check_model
from ringfence.guest.arch.known import ARCHITECTURES
from ringfence.guest.boot import BRIEF, WHOLE, Build, Plan, boot
from ringfence.guest.confine import PROGRAMS, Confinement, confinement
from ringfence.guest.drive import Drive
from ringfence.guest.facts import facts, unseen
from ringfence.guest.frozen import frozen
from ringfence.guest.image import Image, copied, image, opened
from ringfence.guest.kinds import QCOW2, Kind
from ringfence.guest.machine import FIRMWARE, Disk, Machine
from ringfence.guest.named import kernel_name
from ringfence.guest.observation import Observation, Phase
from ringfence.guest.private import no_room, private_folder
from ringfence.guest.result import SCHEMA, Examination
from ringfence.guest.steady import BUSY

WANTED, SECONDS = 400, 4.0
"""Samples of running code under load, and seconds for which the guest is driven to get them."""
FEW, SHORT = 6, 1.5
"""The same in boots that only show the layout."""
_FORMATS = {Kind.RAW: "raw", Kind.QCOW2: "qcow2", Kind.CD: "raw"}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for. `memory` in bytes; `ports` of the guest, published on loopback;
    `seconds`: most that one boot may take."""

    initrd: Path | None = None
    append: str = ""
    memory: int = 256 << 20
    cpu: str = ""
    disks: tuple[Path, ...] = ()
    ports: tuple[int, ...] = ()
    boots: int = 5
    exercise: str = ""
    accelerator: str = "auto"
    seconds: float = 60.0


def examine(path: Path, options: Options) -> Examination:
    """Boot an image and say what was seen. Raises InputError, MissingError."""
    box = confinement()
    box.check_limits(options.memory, int(options.seconds) + 1)
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(image(path))
        arch = ARCHITECTURES[found.kind.architecture]
        for program in (arch.program, *PROGRAMS):
            if shutil.which(program) is None:
                package = arch.package if program == arch.program else "util-linux"
                remedy = f"apt-get install {package}"
                raise MissingError(f"{program} is not installed", remedy=remedy)
        parts = _parts(found, str(path), options, stack)
        accel, cpu = accelerator(options.accelerator, options.cpu, arch, box)
        if options.cpu and accel == "tcg":
            check_model(cpu, arch, box)
        folder = stack.enter_context(private_folder(box))
        fat = efi_folder(found, folder, box) if found.kind is Kind.EFI else None
        parts = msgspec.structs.replace(parts, accel=accel, cpu=cpu, fat=fat)
        boots = asyncio.run(_boots(parts, box, folder, options))
    return Examination(
        schema=SCHEMA, image=str(path), architecture=arch.name, kernel=kernel_name(path),
        kind=found.kind.value, accelerator=accel, cpu=cpu, memory=options.memory, boots=len(boots),
        ends=tuple(one.end for one in boots if one.end),
        facts=facts(boots, arch, accel, options.memory),
        unseen=unseen(boots, bool(options.exercise)),
    )  # fmt: skip


async def _boots(
    parts: Machine, box: Confinement, folder: Path, options: Options
) -> list[Observation]:
    """The first boot is examined whole; the others show where things lie. A guest that stops by
    itself is not booted again."""
    found: list[Observation] = []
    for number in range(options.boots):
        plan = _plan(found, box, folder, options)
        found.append(await boot(_builder(parts, trace=number == 0), plan))
        if found[-1].end:
            break
    return found


def _plan(found: Sequence[Observation], box: Confinement, folder: Path, options: Options) -> Plan:
    if not found:
        drive = Drive(options.exercise, WANTED, SECONDS) if options.exercise else None
        return Plan(
            box=box, folder=folder, size=options.memory, limit=options.seconds, looks=WHOLE,
            drive=drive,
        )  # fmt: skip
    first = found[0]
    idle = any(look.registers.halted for look in first.during(Phase.BEFORE))
    ring3 = [look.phase for look in first.looks if look.registers.ring == 3]
    # Only load shows where programs lie that sleep otherwise.
    loaded = Phase.LOAD in ring3 and Phase.BEFORE not in ring3
    return Plan(
        box=box, folder=folder, size=options.memory, limit=options.seconds, looks=BRIEF,
        known=None if idle or first.steady is None else first.steady - BUSY,
        drive=Drive(options.exercise, FEW, SHORT, ring3=True, whole=False) if loaded else None,
    )  # fmt: skip


def _builder(parts: Machine, trace: bool) -> Build:
    def build(memory: int, control: int, line: int, debugger: int) -> Machine:
        return msgspec.structs.replace(
            parts, memory_handle=memory, monitor=control, console=line, trace=trace,
            debugger=debugger if parts.arch.debugger else None,
        )  # fmt: skip

    return build


def _parts(found: Image, where: str, options: Options, stack: contextlib.ExitStack) -> Machine:
    """All of the machine that is the same in every boot, its files open until `stack` ends."""
    direct = not found.kind.disk and found.kind is not Kind.EFI
    if (options.initrd or options.append) and not direct:
        raise InputError(
            f"--initrd and --append make no sense with a {found.kind}", remedy="leave them out"
        )
    initrd = None
    if options.initrd is not None:
        handle = stack.enter_context(opened(options.initrd))
        initrd = stack.enter_context(copied(handle, str(options.initrd)))
    disks = []
    if found.kind.disk:
        header = None
        if found.kind is Kind.QCOW2:
            header = stack.enter_context(frozen(found.handle, where))
        disks.append(Disk(found.handle, _FORMATS[found.kind], found.kind is Kind.CD, header))
    disks += [stack.enter_context(_disk(path)) for path in options.disks]
    return Machine(
        arch=ARCHITECTURES[found.kind.architecture], kind=found.kind, accel="", cpu="",
        memory=options.memory, memory_handle=-1, monitor=-1, console=-1,
        kernel=found.handle if direct else None, initrd=initrd, append=options.append,
        disks=tuple(disks), ports=options.ports, efi=_firmware() if found.efi else None,
    )  # fmt: skip


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[Disk]:
    """A further disk: qcow2 by its magic, anything else raw."""
    with opened(path) as handle:
        if os.pread(handle, len(QCOW2), 0) != QCOW2:
            yield Disk(handle, "raw")
            return
        with frozen(handle, str(path)) as header:
            yield Disk(handle, "qcow2", header=header)


def _firmware() -> Path:
    for path in FIRMWARE:
        if path.is_file():
            return path
    raise MissingError("EFI firmware is not installed", remedy="apt-get install ovmf")


def efi_folder(found: Image, folder: Path, box: Confinement) -> Path:
    """A folder with the program where EFI firmware looks for it (UEFI 2.10, 3.5.1.1). Raises
    InputError where there is no room for it."""
    top = folder / "qemu" / "efi"
    place = top / "EFI" / "BOOT"
    target = place / "BOOTX64.EFI"
    try:
        place.mkdir(parents=True)
        with open(target, "wb") as file, open(f"/proc/self/fd/{found.handle}", "rb") as source:
            shutil.copyfileobj(source, file)
        for made in (top, place.parent, place, target):
            if box.uid is not None:
                os.chown(made, box.uid, box.uid)
    except OSError as error:
        raise no_room(error) from None
    return top
