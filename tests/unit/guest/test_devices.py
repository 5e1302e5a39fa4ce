"""Devices from QEMU's trace and tree."""

from __future__ import annotations

from ringfence.guest import devices as module
from ringfence.guest.devices import Accesses, Device, devices, given, name_of


def line(name: str, addr: int = 0, cpu: int = 0, kind: str = "write") -> bytes:
    return (
        f"memory_region_ops_{kind} cpu {cpu} mr 0x55962a7fe1e0 addr {addr:#x} value 0x8f size 1 "
        f"name '{name}'"
    ).encode()


def test_names() -> None:
    assert name_of(line("serial", 0x3F8, kind="read")) == "serial"
    assert name_of(line("io", 0x501)) == "port 0x501"
    assert name_of(line("virtio-pci-notify-virtio-net")) == "virtio-net"
    assert name_of(line("virtio-pci-common-virtio-blk")) == "virtio-blk"
    assert name_of(line("virtio-pci")) == "virtio-pci"


def test_what_is_no_access_of_the_guest() -> None:
    assert name_of(line("apic-msi", cpu=-1)) is None
    assert name_of(b"memory_region_ops_write cpu 0 broken") is None
    assert name_of(b"Triple fault") is None


def test_phases_are_counted_apart() -> None:
    seen = Accesses()
    assert seen.count(line("rtc")) and seen.count(line("serial"))
    seen.serve()
    assert seen.count(line("serial")) and seen.count(line("serial"))
    assert not seen.count(b"qemu-system-x86_64: something else")
    assert devices(seen, {"virtio-net": True, "virtio-blk": False}) == (
        Device("serial", 1, 2),
        Device("rtc", 1, 0),
        Device("virtio-blk", 0, 0, False),
        Device("virtio-net", 0, 0, True),
    )


def test_names_are_bounded() -> None:
    seen = Accesses()
    for port in range(module.MOST_NAMES + 50):
        seen.count(line("io", port))
    assert len(seen.booting) == module.MOST_NAMES + 1
    assert seen.booting[module.OTHERS] == 50


def test_given_devices_are_named_once() -> None:
    tree = 'bus: main\n  dev: isa-serial, id ""\n    dev: i8257, id ""\n    dev: i8257, id ""\n'
    assert given(tree) == ("i8257", "isa-serial")
    assert given("") == ()
