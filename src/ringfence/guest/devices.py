"""Which devices the guest was given, and which it drives: from QEMU's trace, tree and virtio state.

Trace lines are those of the log backend (docs/devel/tracing.rst in QEMU), events
memory_region_ops_read and memory_region_ops_write: one line for each access to a register of an
emulated device, by port or by memory. Accesses that the kernel handles alone under KVM (to the
interrupt controllers and the timer) are not among them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

EVENTS = ("memory_region_ops_read", "memory_region_ops_write")
MOST_NAMES = 256
"""Names counted apart: a guest can touch 65,536 unclaimed ports."""
OTHERS = "others"
# The subpage and I/O catch-all regions of QEMU have no name of their own.
_LINE = re.compile(
    rb"memory_region_ops_(?:read|write) cpu (-?\d+) mr 0x[0-9a-f]+ addr 0x([0-9a-f]+) "
    rb"value 0x[0-9a-f]+ size \d+ name '([^'\n]{0,64})'"
)
_DEVICE = re.compile(r"^ *dev: ([\w.-]{1,64}), id ", re.MULTILINE)
_VIRTIO = re.compile(r"virtio-pci-(?:common|isr|device|notify|notify-pio)-([\w-]+)")


class Device(msgspec.Struct, frozen=True):
    """A device, or an unclaimed port, that the guest touched: accesses before it had settled (its
    firmware's among them) and since. `driver_ok`: a virtio driver says that it serves the device;
    None for what is not virtio."""

    name: str
    booting: int
    serving: int
    driver_ok: bool | None = None


def name_of(line: bytes) -> str | None:
    """The device or port that one trace line names; None for other lines.

    Lines of no processor (cpu -1 with the interrupt controller's messages) are the device's own.
    """
    match = _LINE.match(line)
    if match is None or match[1] == b"-1":
        return None
    name = match[3].decode("ascii", "replace")
    if name == "io":
        return f"port 0x{int(match[2], 16):x}"
    virtio = _VIRTIO.fullmatch(name)
    return virtio[1] if virtio else name


class Accesses:
    """Counts of trace lines by device; `serve` begins the second phase."""

    def __init__(self) -> None:
        self.booting: Counter[str] = Counter()
        self.serving: Counter[str] = Counter()
        self._current = self.booting

    def serve(self) -> None:
        """From now on the guest counts as serving."""
        self._current = self.serving

    def count(self, line: bytes) -> bool:
        """Whether the line was a trace line; counted if so."""
        if not line.startswith(b"memory_region_ops_"):
            return False
        name = name_of(line)
        if name is not None:
            known = self._current
            known[name if name in known or len(known) < MOST_NAMES else OTHERS] += 1
        return True


def given(tree: str) -> tuple[str, ...]:
    """Names of the devices in QEMU's `info qtree`, each once, sorted."""
    return tuple(sorted(set(_DEVICE.findall(tree))))


def devices(accesses: Accesses, virtio: Mapping[str, bool]) -> tuple[Device, ...]:
    """What was touched, the busiest while serving first; virtio devices even if untouched."""
    names: Iterable[str] = accesses.booting.keys() | accesses.serving.keys() | virtio.keys()
    found = [
        Device(name, accesses.booting[name], accesses.serving[name], virtio.get(name))
        for name in names
    ]
    return tuple(sorted(found, key=lambda one: (-one.serving, -one.booting, one.name)))
