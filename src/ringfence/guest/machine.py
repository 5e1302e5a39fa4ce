"""QEMU's command line for each kind of image: as few devices as the kind can do with."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import msgspec

from ringfence.guest.arch.architecture import Architecture
from ringfence.guest.confine import CONFINED
from ringfence.guest.devices import EVENTS
from ringfence.guest.kinds import Kind

FIRMWARE = (Path("/usr/share/ovmf/OVMF.fd"), Path("/usr/share/OVMF/OVMF_CODE.fd"))
"""EFI firmware as Debian's package ovmf installs it."""
_IN_SIGHT = "ioeventfd=off"
"""A driver's notifications come as accesses that are traced, not by an event descriptor."""
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\] +\d+ +127\.0\.0\.1 +(\d+) +\S+ +(\d+)")


class Disk(msgspec.Struct, frozen=True):
    """A disk image by descriptor; `format` is QEMU's name and never guessed by QEMU. Writes go to
    an overlay that has no name and is gone with QEMU. `header`: of a qcow2 its checked start, as
    a layer over it (frozen.py)."""

    handle: int
    format: str
    cd: bool = False
    header: int | None = None

    @property
    def handles(self) -> tuple[int, ...]:
        """The descriptors that QEMU inherits."""
        return (self.handle,) if self.header is None else (self.handle, self.header)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual machine. Descriptors are numbers that QEMU inherits: `memory_handle`, `monitor`,
    `console` and `debugger` (connected sockets; the last one only where the architecture needs it),
    `kernel`, `initrd` (copies in memory). `ports`: the guest's,
    each published on a free one of loopback. `efi`: firmware file. `fat`: a folder that an EFI
    program is started from. `trace`: report each access to an emulated device on standard error."""

    arch: Architecture
    kind: Kind
    accel: str
    cpu: str
    memory: int
    memory_handle: int
    monitor: int
    console: int
    debugger: int | None = None
    kernel: int | None = None
    initrd: int | None = None
    append: str = ""
    disks: tuple[Disk, ...] = ()
    ports: tuple[int, ...] = ()
    efi: Path | None = None
    fat: Path | None = None
    trace: bool = False

    @property
    def handles(self) -> tuple[int, ...]:
        """The descriptors that QEMU inherits."""
        optional = [one for one in (self.debugger, self.kernel, self.initrd) if one is not None]
        disks = [handle for disk in self.disks for handle in disk.handles]
        return (self.memory_handle, self.monitor, self.console, *optional, *disks)


def words(machine: Machine) -> list[str]:
    """The whole command. A guest that resets, shuts down or panics is left to be looked at."""
    trace = [word for event in EVENTS for word in ("-trace", f"enable={event}")]
    return [
        machine.arch.program, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
        "-name", "ringfence-guest", "-action", "reboot=shutdown,shutdown=pause,panic=pause",
        *machine.arch.machine,
        "-accel", machine.accel, "-cpu", machine.cpu, "-smp", "1",
        "-m", f"size={machine.memory >> 20}M",
        "-object", f"memory-backend-file,id=ram,share=on,size={machine.memory},"
        f"mem-path=/proc/self/fd/{machine.memory_handle}",
        "-chardev", f"socket,id=monitor,fd={machine.monitor}",
        "-mon", "chardev=monitor,mode=control",
        "-chardev", f"socket,id=console,fd={machine.console}", "-serial", "chardev:console",
        *_debugger(machine), *(trace if machine.trace else []), *CONFINED,
        *_start(machine), *_disks(machine), *_network(machine),
    ]  # fmt: skip


def _debugger(machine: Machine) -> list[str]:
    if machine.debugger is None:
        return []
    return [
        "-chardev", f"socket,id=debugger,fd={machine.debugger}", "-gdb", "chardev:debugger",
    ]  # fmt: skip


def _start(machine: Machine) -> list[str]:
    found = []
    if machine.kernel is not None:
        found += ["-kernel", f"/proc/self/fd/{machine.kernel}"]
        if machine.initrd is not None:
            found += ["-initrd", f"/proc/self/fd/{machine.initrd}"]
        if machine.append:
            found += ["-append", machine.append]
    if machine.efi is not None:
        found += ["-bios", str(machine.efi)]
    if machine.fat is not None:
        found += ["-drive", f"file=fat:{_escaped(machine.fat)},format=vvfat,read-only=on,if=virtio"]
    return found


def _disks(machine: Machine) -> list[str]:
    found = []
    for number, disk in enumerate(machine.disks):
        for handle in disk.handles:
            found += ["-add-fd", f"fd={handle},set={handle}"]
        place = f"{_source(disk)},cache=unsafe"
        if disk.cd:
            found += ["-drive", f"{place},if=ide,media=cdrom,read-only=on"]
            continue
        found += ["-drive", f"{place},if=none,id=disk{number},snapshot=on"]
        found += ["-device", f"virtio-blk-pci,drive=disk{number},{_IN_SIGHT}"]
    return found


def _source(disk: Disk) -> str:
    """Where a disk's content comes from. No name of a backing file is taken from an image."""
    if disk.header is None:
        return f"file=/dev/fdset/{disk.handle},format={disk.format}"
    bytes_of_file = {"driver": "raw", "file": _opened(disk.handle)}
    start = {"driver": "qcow2", "file": _opened(disk.header), "backing": bytes_of_file}
    tree = {"driver": disk.format, "file": start, "backing": None}
    return f"file=json:{json.dumps(tree)}".replace(",", ",,")


def _opened(handle: int) -> dict[str, str]:
    return {"driver": "file", "filename": f"/dev/fdset/{handle}"}


def _network(machine: Machine) -> list[str]:
    """No network, or one in which the guest reaches nothing: it only answers on its ports."""
    if not machine.ports:
        return ["-nic", "none"]
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:0-:{port}" for port in machine.ports)
    return [
        "-netdev", f"user,id=net,restrict=on,ipv6=off{forwards}",
        "-device", f"virtio-net-pci,netdev=net,romfile=,{_IN_SIGHT}",
    ]  # fmt: skip


def complaint(machine: Machine, line: str) -> tuple[str, str]:
    """The option of ours that a line of QEMU's begins with ("" for none), and what QEMU says of it
    without its value, which is long and means nothing to users."""
    said = line.removeprefix(f"{machine.arch.program}: ")
    for option, value in itertools.pairwise(words(machine)):
        if said.startswith(start := f"{option} {value}: "):
            return option, said.removeprefix(start)
    return "", said


def published(text: str) -> dict[int, int]:
    """This host's port on loopback for each of the guest's, from QEMU's `info usernet`."""
    found = _FORWARD.findall(text)
    return {int(inside): int(outside) for outside, inside in found}


def _escaped(path: Path) -> str:
    """A comma ends an option's value; two stand for one."""
    return str(path).replace(",", ",,")
