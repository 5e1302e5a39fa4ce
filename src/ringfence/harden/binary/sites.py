"""Which system calls a function makes: the number in rax at each `syscall` instruction.

Only functions that hold such an instruction are disassembled (capstone). A function that takes
the number from its caller, as syscall(3) does, is a gate: what its callers hand it counts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from ringfence.harden.binary.loaded import Loaded
from ringfence.harden.binary.references import References

_SYSCALL = re.compile(rb"\x0f\x05")
MOST_NUMBER = 1024
ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
"""Registers that carry a function's arguments (System V psABI)."""
_WIDE = {
    "eax": "rax", "ebx": "rbx", "ecx": "rcx", "edx": "rdx", "esi": "rsi", "edi": "rdi",
    "ebp": "rbp", **{f"r{n}d": f"r{n}" for n in range(8, 16)},
}  # fmt: skip
_CLOBBERED = ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11")

Value = int | str | None
"""A register's content: a number, the name of the argument that it holds, or unknown."""


@dataclass(slots=True)
class Sites:
    """Of one object: function start -> numbers; gates (pieces of code) and the register that their
    number comes in."""

    numbers: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    gates: dict[int, str] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)
    """Addresses of `syscall` whose number could not be seen."""


def sites(loaded: Loaded) -> Sites:
    """All `syscall` instructions of an object, by function."""
    found = Sites()
    for part in loaded.segments:
        if not part.code:
            continue
        for start in sorted({loaded.unit(part.start + m.start())
                             for m in _SYSCALL.finditer(part.data)}):  # fmt: skip
            _function(loaded, start, found)
    return found


def _function(loaded: Loaded, start: int, found: Sites) -> None:
    seen: list[Value] = []
    constants: set[int] = set()
    place = start
    for place, name, operands, registers in _walk(loaded, start):
        value = registers.get("rax")
        if name == "syscall":
            seen.append(value)
            if value is None:
                found.unknown.append(place)
        elif operands[:4] in ("eax,", "rax,") and name == "mov":
            constant = _number(operands[5:])
            if constant is not None and constant < MOST_NUMBER:
                constants.add(constant)
    for value in seen:
        if isinstance(value, int) and value < MOST_NUMBER:
            found.numbers[loaded.function(start)].add(value)
        elif isinstance(value, str):
            found.gates[start] = value
    if None in seen:
        # The number came by another branch: every one that the function ever loads may be it.
        found.numbers[loaded.function(start)] |= constants


def handed(
    loaded: Loaded, refs: References, gates: dict[int | str, str], callers: Iterable[int]
) -> tuple[dict[int, set[int]], dict[int, str], list[int]]:
    """What callers hand to gates (by address here, or by symbol).

    Gives numbers by caller, callers that hand on an argument of their own, and unclear places.
    """
    numbers: dict[int, set[int]] = defaultdict(set)
    further: dict[int, str] = {}
    unclear: list[int] = []
    targets = _targets(loaded, refs, gates)
    for caller in callers:
        for place, name, operands, registers in _walk(loaded, caller):
            register = targets.get(_number(operands) or -1) if name in ("call", "jmp") else None
            if name in ("call", "jmp") and register is None and "rip" in operands:
                register = _through_slot(loaded, gates, place, operands)
            if register is None:
                continue
            value = registers.get(register)
            if isinstance(value, int) and value < MOST_NUMBER:
                numbers[loaded.function(caller)].add(value)
            elif isinstance(value, str):
                further[caller] = value
            else:
                unclear.append(place)
    return numbers, further, unclear


def _targets(loaded: Loaded, refs: References, gates: dict[int | str, str]) -> dict[int, str]:
    """Call targets that are gates: functions, and stubs that lead to one."""
    found = {gate: register for gate, register in gates.items() if isinstance(gate, int)}
    for stub, behind in refs.stubs.items():
        if behind in gates:
            found[stub] = gates[behind]
    return found


def _through_slot(
    loaded: Loaded, gates: dict[int | str, str], place: int, operands: str
) -> str | None:
    """The gate behind `call [rip + distance]`, six bytes long."""
    match = re.search(r"\[rip ([+-]) (0x[0-9a-f]+|\d+)\]", operands)
    if not match:
        return None
    slot = place + 6 + int(match[1] + match[2], 0)
    return gates.get(loaded.slots.get(slot, loaded.pointers.get(slot, -1)))


def _walk(loaded: Loaded, start: int) -> Iterable[tuple[int, str, str, dict[str, Value]]]:
    """(address, mnemonic, operands, registers before it), in the order of addresses."""
    import capstone  # heavy, and only hardening needs it

    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.skipdata = True
    registers: dict[str, Value] = {name: name for name in ARGUMENTS}
    pushed: list[Value] = []
    for place, _, name, operands in engine.disasm_lite(loaded.code(start), start):
        yield place, name, operands, registers
        if name == "call":
            for register in _CLOBBERED:
                registers[register] = None
        elif name == "push":
            pushed.append(_value(operands, registers))
        elif name == "pop":
            registers[_WIDE.get(operands, operands)] = pushed.pop() if pushed else None
        elif name not in ("cmp", "test", "nop", "syscall"):
            _written(name, operands, registers)
        elif name == "syscall":
            registers["rax"] = registers["rcx"] = registers["r11"] = None


def _written(name: str, operands: str, registers: dict[str, Value]) -> None:
    left, _, right = operands.partition(", ")
    target = _WIDE.get(left, left)
    if name in ("mov", "movabs") or name == "movsxd":
        registers[target] = _value(right, registers)
    elif name == "xor" and left == right:
        registers[target] = 0
    elif target in registers:
        registers[target] = None


def _value(text: str, registers: dict[str, Value]) -> Value:
    number = _number(text)
    return registers.get(_WIDE.get(text, text)) if number is None else number


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None
