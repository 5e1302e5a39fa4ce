"""The machine underneath: whether this system is a guest, and which devices it is given."""

from __future__ import annotations

import re
from pathlib import Path

from ringfence.knowledge.records import Device, Knowledge
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.kernel import Machine

KVM_CORE, OTHER_CORE = "kvm-core", "hypervisor-core"
"""A hypervisor is an interface by itself, whatever devices it gives."""
_VENDORS = {
    "KVMKVMKVM": "kvm",
    "VMwareVMware": "vmware",
    "Microsoft Hv": "hyper-v",
    "XenVMMXenVMM": "xen",
}


def machine(knowledge: Knowledge) -> Machine:
    """Whether there is a hypervisor, and the devices of the knowledge base that are seen."""
    virtual = _virtual()
    hypervisor = _hypervisor() if virtual.value else ""
    evidence = Evidence(Grade.OBSERVED, "/sys/bus", "devices on the virtio and PCI buses and ports")
    if not virtual.value:
        return Machine(virtual, "", {}, evidence)
    seen = {entry.id: places for entry in knowledge.devices.values() if (places := _places(entry))}
    core = KVM_CORE if hypervisor == "kvm" else OTHER_CORE
    seen[core] = (f"hypervisor {hypervisor}",)
    return Machine(virtual, hypervisor, seen, evidence)


def _virtual() -> Seen[bool]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return Seen(None, Evidence(Grade.ASSUMED, "/proc/cpuinfo", "cannot be read"))
    there = re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE) is not None
    detail = "hypervisor flag is set" if there else "no hypervisor flag"
    return Seen(there, Evidence(Grade.OBSERVED, "/proc/cpuinfo", detail))


def _hypervisor() -> str:
    """The kind of hypervisor, as far as clock source, Xen's folder and DMI tell; else unknown."""
    if Path("/sys/hypervisor/type").exists():
        return _text("/sys/hypervisor/type")
    clocks = _text("/sys/devices/system/clocksource/clocksource0/available_clocksource")
    if "kvm-clock" in clocks or Path("/sys/bus/virtio").exists():
        return "kvm"
    if "hyperv" in clocks or Path("/sys/bus/vmbus").exists():
        return "hyper-v"
    return "vmware" if "VMware" in _text("/sys/class/dmi/id/sys_vendor") else "unknown"


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _places(entry: Device) -> tuple[str, ...]:
    """Where the system sees a device of this kind."""
    virtio, pci, names = _virtio(), _pci(), _names()
    places = [place for place, number in virtio.items() if number in entry.virtio]
    places += [place for place, ids in pci.items() if ids in entry.pci]
    places += [f"{name} in {names[name]}" for name in entry.names if name in names]
    return tuple(places)


def _virtio() -> dict[str, int]:
    """virtio devices by bus name, with the device number of the virtio specification."""
    found = {}
    for place in sorted(Path("/sys/bus/virtio/devices").glob("*")):
        number = _text(f"{place}/device")
        if number:
            found[place.name] = int(number, 16)
    return found


def _pci() -> dict[str, str]:
    """PCI devices by address, as `vendor:device` in hexadecimal."""
    found = {}
    for place in sorted(Path("/sys/bus/pci/devices").glob("*")):
        vendor, device = _text(f"{place}/vendor"), _text(f"{place}/device")
        found[place.name] = f"{vendor.removeprefix('0x')}:{device.removeprefix('0x')}"
    return found


def _names() -> dict[str, str]:
    """Words of the port list, the serial driver's table and the buses: word -> where."""
    found: dict[str, str] = {}
    for line in _text("/proc/ioports").splitlines():
        found.setdefault(line.partition(" : ")[2].strip(), "/proc/ioports")
    for line in _text("/proc/tty/driver/serial").splitlines():
        match = re.search(r"uart:(\S+)", line)
        if match and match[1] != "unknown":
            found.setdefault(match[1], "/proc/tty/driver/serial")
    for bus in Path("/sys/bus").glob("*"):
        if next((bus / "devices").glob("*"), None) is not None:
            found.setdefault(bus.name, "/sys/bus")
    return found
