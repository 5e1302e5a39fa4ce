"""The architectures whose guests can be examined."""

from __future__ import annotations

from ringfence.guest.arch.aarch64 import AARCH64
from ringfence.guest.arch.architecture import Architecture
from ringfence.guest.arch.x86 import X86

ARCHITECTURES: dict[str, Architecture] = {one.name: one for one in (X86, AARCH64)}
