"""Which accelerator really works here: KVM is tried with a program of a few bytes.

/dev/kvm may open and yet be no use: a nested KVM can hang, or emulate each instruction of the
guest's ring 0 in software, a hundred times slower than QEMU's own translator. So the guest of the
trial counts down from 20 million in ring 0 and leaves by QEMU's debug port: 0.2 s at worst where
KVM works.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess

from ringfence.errors import InputError, MissingError, UsageError
from ringfence.guest.arch.architecture import Architecture
from ringfence.guest.confine import CONFINED, Confinement

PROGRAM = "qemu-system-x86_64"
LIMIT = 2.0
"""Seconds that the trial may take."""
_PATIENCE = 20.0
"""Seconds for QEMU to make a machine: it takes a tenth of one."""
_ROM, _RESET = 1 << 16, 0xFFF0
# At the reset vector: jmp to the ROM's start. There: mov ecx, 20000000; 1: dec ecx; jnz 1b;
# mov al, 0x10; out 0xf4, al; hlt.
_JUMP = bytes.fromhex("e90d00")
_COUNT = bytes.fromhex("66b9002d3101 6649 75fc b010 e6f4 f4")
_LEFT_WELL = 0x10 << 1 | 1
_CPUS = ("max", "max,arch-capabilities=off")
"""Some hosts offer a model-specific register (0x10a) that they refuse to set."""


def accelerator(wanted: str, cpu: str, arch: Architecture, box: Confinement) -> tuple[str, str]:
    """Accelerator and processor model for `auto`, `kvm` or `tcg`.

    Raises UsageError where KVM is asked for and the guest's architecture does without, and
    MissingError where QEMU cannot start with it at all; a slow one
    that was asked for is used.
    """
    if wanted == "kvm" and not arch.kvm:
        raise UsageError(
            f"KVM is not used for guests of {arch.name}",
            where="--accel kvm",
            remedy="use --accel tcg, or leave it out",
        )
    if wanted == "tcg" or not arch.kvm:
        return "tcg", cpu or arch.cpu
    for model in (cpu,) if cpu else _CPUS:
        status = trial(model, box)
        if status == _LEFT_WELL or (wanted == "kvm" and status is None):
            return "kvm", model
    if wanted == "kvm":
        raise MissingError(
            "KVM does not work here",
            where="/dev/kvm",
            remedy="its group must be able to open it (mode 660), or use --accel tcg",
        )
    return "tcg", cpu or arch.cpu


def check_model(cpu: str, arch: Architecture, box: Confinement) -> None:
    """Raises InputError for a processor model that QEMU's translator does not have: a machine that
    does not run is made with it, and ended."""
    words = [
        arch.program, "-nodefaults", "-no-user-config", "-display", "none", *arch.machine,
        "-object", "memory-backend-ram,id=ram,size=16M", "-m", "16M", "-accel", "tcg", "-cpu", cpu,
        "-S", "-monitor", "stdio", *CONFINED,
    ]  # fmt: skip
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [*box.words(16 << 20, int(_PATIENCE)), *words], input=b"quit\n", timeout=_PATIENCE,
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").splitlines() or ["refused by QEMU"]
            raise InputError(
                said[-1].removeprefix(f"{arch.program}: "), where=f"--cpu {cpu}",
                remedy=f"{arch.program} -cpu help lists the models",
            )  # fmt: skip


@functools.cache
def trial(cpu: str, box: Confinement) -> int | None:
    """Exit status of the trial under KVM with this processor; None where it took too long."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return 1
    rom = os.memfd_create("rom", os.MFD_CLOEXEC)
    with contextlib.closing(os.fdopen(rom, "wb")) as file:
        file.write(_COUNT.ljust(_RESET, b"\0") + _JUMP.ljust(_ROM - _RESET, b"\0"))
        file.flush()
        words = [
            PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc",
            "-accel", "kvm", "-cpu", cpu, "-m", "16", "-bios", f"/proc/self/fd/{rom}",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *CONFINED,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                [*box.words(16 << 20, int(LIMIT) + 1), *words], pass_fds=(rom,), timeout=LIMIT,
                stdin=subprocess.DEVNULL, capture_output=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
    return done.returncode
