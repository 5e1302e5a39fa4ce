"""Which functions, symbols and data the code of an object refers to, read from its bytes.

Not a disassembly: every place where a call, a jump or an address relative to the instruction
could stand is looked at, and counts only if it leads exactly to the start of a function, to a
relocated pointer or into data. True references are all found; a chance hit is one in millions.
That makes a libc 0.1 s. The oracle of its tests is a disassembler.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from dataclasses import dataclass, field

from ringfence.harden.binary.loaded import Loaded

_BRANCH = re.compile(rb"(?s)(?=(?:[\xe8\xe9]|\x0f[\x80-\x8f])(.{4}))")
"""call, jmp and jcc with a 32-bit distance."""
_RELATIVE = re.compile(rb"(?s)(?=[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](.{4}))")
"""ModRM bytes of an operand relative to the next instruction, and the distance."""
_INDIRECT = re.compile(rb"(?s)\xff\x25(?=(.{4}))")
"""jmp through a pointer: what a procedure linkage table is made of."""
_ABSOLUTE = re.compile(rb"(?s)(?=[\xb8-\xbf\x68\xc0-\xc7](.{4}))")
"""mov and push of a 32-bit constant, in fixed programs perhaps an address."""
_STUB = (0, 4, 1, 5)
"""How far before the jump a linkage stub may begin: endbr64 and a bnd prefix."""


@dataclass(slots=True)
class References:
    """Of one object: function start -> what that function refers to."""

    functions: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    symbols: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    data: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    stubs: dict[int, str | int] = field(default_factory=dict)
    """Address of a linkage stub -> the symbol, or the function, behind it."""


def references(loaded: Loaded) -> References:
    """All references of an object's code."""
    found = References(stubs=_stubs(loaded))
    for part in loaded.segments:
        if not part.code:
            continue
        for pattern in (_BRANCH, _RELATIVE):
            for match in pattern.finditer(part.data):
                target = part.start + match.end(1) + _signed(match[1])
                _refer(found, loaded, part.start + match.start(), target)
        if loaded.fixed:
            for match in _ABSOLUTE.finditer(part.data):
                (target,) = struct.unpack("<I", match[1])
                _refer(found, loaded, part.start + match.start(), target)
    return found


def _refer(found: References, loaded: Loaded, place: int, target: int) -> None:
    if target in loaded.starts:
        found.functions[loaded.function(place)].add(target)
    elif target in found.stubs:
        behind = found.stubs[target]
        if isinstance(behind, str):
            found.symbols[loaded.function(place)].add(behind)
        else:
            found.functions[loaded.function(place)].add(behind)
    elif target in loaded.slots:
        found.symbols[loaded.function(place)].add(loaded.slots[target])
    elif target in loaded.pointers or loaded.in_data(target):
        found.data[loaded.function(place)].add(target)


def _stubs(loaded: Loaded) -> dict[int, str | int]:
    found: dict[int, str | int] = {}
    for part in loaded.segments:
        if not part.code:
            continue
        for match in _INDIRECT.finditer(part.data):
            place = part.start + match.start()
            slot = place + 6 + _signed(match[1])
            behind = loaded.slots.get(slot, loaded.pointers.get(slot))
            if behind is not None:
                for back in _STUB:
                    found.setdefault(place - back, behind)
    return found


def _signed(data: bytes) -> int:
    value: int = struct.unpack("<i", data)[0]
    return value
