"""The smallest program that the kernel would execute. It is never run: execution is stopped
before its first instruction, which would end it (exit(2))."""

from __future__ import annotations

import platform
import struct

BASE = 0x400000
HEADERS = 64 + 56
CODE = {
    "x86_64": (62, bytes.fromhex("31ffb83c0000000f05")),
    "aarch64": (183, bytes.fromhex("000080d2a80b80d2010000d4")),
}
"""e_machine, and `exit(0)`."""


def program() -> bytes:
    """An ELF file for this machine, as elf(5) describes it."""
    machine, code = CODE.get(platform.machine(), CODE["x86_64"])
    size = HEADERS + len(code)
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0,
                         0, 0)  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)
    return identity + header + segment + code
