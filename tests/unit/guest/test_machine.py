"""QEMU's command line: confined, without a network or with one that leads inwards only."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import MissingError
from ringfence.guest.arch.aarch64 import AARCH64
from ringfence.guest.arch.x86 import X86
from ringfence.guest.confine import Confinement
from ringfence.guest.kinds import Kind
from ringfence.guest.machine import Disk, Machine, complaint, published, words


def made(**fields: Any) -> Machine:
    plain: dict[str, Any] = {
        "arch": X86, "kind": Kind.PVH, "accel": "tcg", "cpu": "max", "memory": 64 << 20,
        "memory_handle": 3, "monitor": 4, "console": 5,
    }  # fmt: skip
    return Machine(**(plain | fields))


def command(**fields: Any) -> str:
    return " ".join(words(made(**fields)))


def test_a_kernel_has_no_disk_and_no_network() -> None:
    text = command(kernel=7, initrd=8, append="console=ttyS0")
    assert "-kernel /proc/self/fd/7 -initrd /proc/self/fd/8 -append console=ttyS0" in text
    assert "-nic none" in text and "-drive" not in text and "-netdev" not in text
    assert "spawn=deny" in text and "elevateprivileges=deny" in text
    assert "-nodefaults -no-user-config" in text


def test_ports_are_on_loopback_and_the_guest_reaches_nothing() -> None:
    text = command(kernel=7, ports=(80, 443))
    assert "user,id=net,restrict=on" in text
    assert text.count("hostfwd=tcp:127.0.0.1:0-:") == 2
    assert "-nic none" not in text


def test_disks_have_a_format_and_keep_nothing() -> None:
    text = command(disks=(Disk(9, "raw"), Disk(10, "raw", cd=True)))
    assert "-add-fd fd=9,set=9" in text and "-add-fd fd=10,set=10" in text
    assert "file=/dev/fdset/9,format=raw,cache=unsafe,if=none,id=disk0,snapshot=on" in text
    assert "file=/dev/fdset/10,format=raw,cache=unsafe,if=ide,media=cdrom,read-only=on" in text


def test_a_qcow2_is_read_through_its_checked_header_and_has_no_backing_file() -> None:
    text = command(disks=(Disk(9, "qcow2", header=10),))
    assert "-add-fd fd=9,set=9 -add-fd fd=10,set=10" in text
    tree = json.loads(text.split("file=json:")[1].split(",cache=unsafe")[0].replace(",,", ","))
    assert tree["driver"] == "qcow2" and tree["backing"] is None
    assert tree["file"]["file"]["filename"] == "/dev/fdset/10"
    bytes_of_file = {"driver": "file", "filename": "/dev/fdset/9"}
    assert tree["file"]["backing"] == {"driver": "raw", "file": bytes_of_file}
    assert "if=none,id=disk0,snapshot=on" in text


def test_a_complaint_is_told_without_the_option_that_it_is_of() -> None:
    machine = made(kind=Kind.QCOW2, disks=(Disk(9, "qcow2", header=10),))
    drive = words(machine)[words(machine).index("-drive") + 1]
    why = "Unsupported cluster size: 2^63"
    program = X86.program
    assert complaint(machine, f"{program}: -drive {drive}: {why}") == ("-drive", why)
    assert complaint(machine, f"{program}: {why}") == ("", why)
    other = f"-drive file=/dev/fdset/9: {why}"
    assert complaint(machine, f"{program}: {other}") == ("", other)


def test_a_comma_in_a_folders_name_ends_no_option() -> None:
    text = command(fat=Path("/tmp/a,readonly=off"), efi=Path("/usr/share/ovmf/OVMF.fd"))
    assert "file=fat:/tmp/a,,readonly=off,format=vvfat,read-only=on" in text


def test_tracing_only_where_asked() -> None:
    assert "memory_region_ops" not in command(kernel=7)
    assert "-trace enable=memory_region_ops_read" in command(kernel=7, trace=True)


def test_handles_that_qemu_inherits() -> None:
    machine = Machine(
        arch=X86, kind=Kind.RAW, accel="tcg", cpu="max", memory=1, memory_handle=3, monitor=4,
        console=5, kernel=6, initrd=7, disks=(Disk(8, "raw"), Disk(9, "qcow2", header=10)),
    )  # fmt: skip
    assert machine.handles == (3, 4, 5, 6, 7, 8, 9, 10)


def test_the_debugger_is_there_where_the_architecture_needs_it() -> None:
    assert "-gdb" not in command(kernel=7)
    text = command(arch=AARCH64, kind=Kind.ARM64, kernel=7, debugger=6)
    assert "-chardev socket,id=debugger,fd=6 -gdb chardev:debugger" in text
    assert text.startswith("qemu-system-aarch64 ") and "-machine virt," in text
    assert "spawn=deny" in text


def test_where_ports_were_published() -> None:
    text = (
        "Hub -1 (net):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ\n"
        "  TCP[HOST_FORWARD]  12       127.0.0.1 38745       10.0.2.15    80     0     0\n"
        "  TCP[HOST_FORWARD]  13       127.0.0.1 40001       10.0.2.15   443     0     0\n"
        "  TCP[ESTABLISHED]   14       127.0.0.1 38745       10.0.2.15    80     0     0\n"
    )
    assert published(text) == {80: 38745, 443: 40001}
    assert published("") == {}


def test_confinement_with_root_and_without() -> None:
    with_root = " ".join(Confinement(0x71000005).words(64 << 20, 60))
    assert "--reuid 1895825413 --regid 1895825413 --clear-groups" in with_root
    assert "--bounding-set=-all" in with_root and "--no-new-privs" in with_root
    assert "--pdeathsig KILL" in with_root and f"--as={(64 << 20) + (4 << 30)}" in with_root
    assert "--groups 108" in " ".join(Confinement(0x71000005, 108).words(1, 1))
    without = " ".join(Confinement(None).words(64 << 20, 60))
    assert "--reuid" not in without and "--nproc" not in without
    assert "--no-new-privs" in without and "--pdeathsig KILL" in without


@pytest.mark.parametrize(
    ("kind", "pair", "enough"),
    [
        ("nofile", (20, 4096), (256, 256)),
        ("fsize", (1 << 20, -1), (8 << 30, -1)),
        ("as", (1 << 30, 1 << 30), (1 << 30, (4 << 30) + (64 << 20))),
        ("cpu", (-1, 100), (10, 185)),
        ("nproc", (10, 10), (10, 64)),
    ],
)
def test_limits_that_leave_qemu_no_room_are_named(
    kind: str, pair: tuple[int, int], enough: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(found: tuple[int, int]) -> None:
        number = getattr(resource, f"RLIMIT_{kind.upper()}")
        monkeypatch.setattr(resource, "getrlimit", lambda one: found if one == number else (-1, -1))

    box = Confinement(0x71000005)
    held(enough)
    box.check_limits(64 << 20, 60)
    held(pair)
    with pytest.raises(MissingError, match=f"prlimit --{kind}: .* is too low a limit"):
        box.check_limits(64 << 20, 60)
    if kind == "nproc":
        Confinement(None).check_limits(64 << 20, 60)
