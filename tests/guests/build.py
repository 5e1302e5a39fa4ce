"""Builds the guests with gcc and binutils, and says what is true of each.

`kernel(name)` gives the path of an image for QEMU's `-kernel`. It is kept in the cache of the
system tests under a digest of everything that it is made from.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import msgspec
from msgspec.structs import replace

from tests.system.conftest import CACHE, program

SOURCES = Path(__file__).parent


class Bits(msgspec.Struct, frozen=True):
    """How many bits of an address the guest draws at random when it boots; 0 is a fixed one.

    The upper limit of what an examination may report. Over n boots each bit has come out the same
    every time with a probability of 2^(1-n), so that in five boots about 15/16 of them differ.
    """

    code: int = 0
    stack: int = 0
    heap: int = 0


class Truth(msgspec.Struct, frozen=True):
    """What is true of a guest while its application runs. The defaults are the variant `base`.

    `ring3`: the application runs in ring 3, else in ring 0. `wp`: CR0.WP. `nx`: EFER.NXE.
    `smep`, `smap`, `umip`: the bits of CR4, set if the processor offers them. `wx_pages`: pages
    that can be written and executed exist. `text_writable`: code pages are among them, in the
    ELF's segments too. `page_zero_mapped`: virtual page 0 is. `randomised_bits`: of the lowest
    address of each area. `canary`: all functions that stay mapped have one, drawn at boot.
    `guard`: the page below the application's stack is unmapped, else it is writable memory and so
    is the journal that follows. `stack`, `journal`: pages of each. `sleeps`: halts in ring 0 while
    it waits, else works on in the application's ring. `multiboot`: started by multiboot 1, else by
    PVH. `aliased`: the application's code can be written by a second name. `user_tables`,
    `user_gdt`: ring 3 can write the page tables, the descriptor table. `user_ports`: the
    application has IOPL 3. `lifted`: the kernel runs with EFLAGS.AC set, so that SMAP keeps it from
    nothing. `helper`: beside the application in ring 0, which answers, a page of code runs in ring
    3 now and then.
    """

    ring3: bool = False
    wp: bool = True
    nx: bool = True
    smep: bool = False
    smap: bool = False
    umip: bool = False
    wx_pages: bool = False
    text_writable: bool = False
    page_zero_mapped: bool = False
    randomised_bits: Bits = Bits()
    canary: bool = True
    guard: bool = False
    stack: int = 4
    journal: int = 64
    sleeps: bool = False
    multiboot: bool = False
    aliased: bool = False
    user_tables: bool = False
    user_gdt: bool = False
    user_ports: bool = False
    lifted: bool = False
    helper: bool = False

    @property
    def seen_guard(self) -> bool | None:
        """What page tables tell of the guard: the application uses the uppermost page of its stack
        alone, and whether other pages are its stack or data they do not say."""
        return seen_guard(self.guard, self.stack, self.journal)


def seen_guard(guard: bool, stack: int, journal: int) -> bool | None:
    """The same for an application with these pages of 4 KiB. None: it cannot be told."""
    if guard:
        return True if stack == 1 else None
    return False if stack + journal > 64 else None


BASE = Truth()
RING3 = replace(BASE, ring3=True, smep=True, smap=True, umip=True)

# Each differs in one property from `base` or, where it is about ring 3, from `ring3`. Ring 3
# brings the three bits with it, for they mean nothing without it; what follows from a property
# is part of it (no NXE: data can be executed). A guard can be told below a stack of one page only.
VARIANTS: dict[str, Truth] = {
    "base": BASE,
    "wx": replace(BASE, nx=False, wx_pages=True, text_writable=True),  # Rumprun, Unikraft
    "nonx": replace(BASE, nx=False, wx_pages=True),  # Mini-OS: text read-only, no NX
    "unusednx": replace(BASE, wx_pages=True, text_writable=True),  # OSv: NXE on, not used
    "pagezero": replace(BASE, page_zero_mapped=True),
    "nocanary": replace(BASE, canary=False),
    "nowp": replace(BASE, wp=False),
    "random": replace(BASE, randomised_bits=Bits(code=27, stack=27, heap=27)),
    "guard": replace(BASE, guard=True, stack=1),
    "deepguard": replace(BASE, guard=True),
    "databelow": replace(BASE, journal=32),
    "multiboot": replace(BASE, multiboot=True),
    "ring3": RING3,
    "smep": replace(RING3, smap=False),  # Nanos: SMEP and UMIP, never SMAP
    "smap": replace(RING3, smep=False),
    "sleep": replace(RING3, sleeps=True),
    "alias": replace(BASE, aliased=True),
    "ring3alias": replace(RING3, aliased=True),
    "usertables": replace(RING3, user_tables=True),
    "usergdt": replace(RING3, user_gdt=True),
    "userports": replace(RING3, user_ports=True),
    "lifted": replace(RING3, lifted=True, sleeps=True),
}

# One whose stack and heap are not those of all that runs.
SPLIT = {"helper": replace(BASE, helper=True)}

# Guests that an examination must survive, and the macro that makes each.
HOSTILE = {
    "never": "",
    "flood": "-DFLOOD=1",
    "triplefault": "-DTRIPLEFAULT=1",
    "cyclic": "-DCYCLIC=1",
    "everywhere": "-DEVERYWHERE=1",
    "toggling": "-DTOGGLING=1",
}

COMPILE = (
    "-std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fPIE -mgeneral-regs-only"
    " -mno-red-zone -fcf-protection=none -fno-asynchronous-unwind-tables"
    " -fno-tree-loop-distribute-patterns -fno-optimize-sibling-calls"
).split()
LINK = (
    "-nostdlib -static -no-pie -Wl,--build-id=none,--no-warn-rwx-segments,-z,max-page-size=4096"
).split()
# The application finds its canary at FS as programs do, the kernel at GS as Linux does.
PROTECT = ["-fstack-protector-all"]
BY_GS = [f"-mstack-protector-guard{rest}" for rest in ("=tls", "-reg=gs", "-offset=0x28")]
UNPROTECTED = ["-fno-stack-protector"]


def kernel(variant: str) -> Path:
    """The image of a variant or hostile guest, built when the cache lacks it.

    Raises KeyError for a name that is neither.
    """
    commands = (
        _hostile(HOSTILE[variant]) if variant in HOSTILE else _guest((VARIANTS | SPLIT)[variant])
    )
    image = CACHE / "guests" / f"{variant}-{_digest(commands)}.elf"
    if not image.exists():
        image.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=image.parent) as place:
            for command in commands:
                subprocess.run([program("gcc"), *command], check=True, cwd=place)
            os.replace(Path(place, "guest"), image)
    return image


def _guest(truth: Truth) -> list[list[str]]:
    """gcc's arguments, one command after the other, for an honest guest."""
    macros = [f"-D{name}={value:d}" for name, value in _macros(truth).items()]
    protect = PROTECT if truth.canary else UNPROTECTED
    by_gs = [*PROTECT, *BY_GS] if truth.canary else UNPROTECTED
    options = {
        "start.S": [], "enter.S": [], "boot.c": UNPROTECTED,
        "kernel.c": by_gs, "serial.c": by_gs, "app.c": protect,
    }  # fmt: skip
    compiles = [
        [*COMPILE, *macros, *more, "-c", str(SOURCES / name)] for name, more in options.items()
    ]
    objects = [f"{name.partition('.')[0]}.o" for name in options]
    script = ["-E", "-P", "-x", "c", *macros, str(SOURCES / "guest.ld"), "-o", "guest.ld"]
    return [*compiles, script, [*LINK, "-Wl,-T,guest.ld", *objects, "-o", "guest"]]


def _macros(truth: Truth) -> dict[str, int]:
    """The macros of guest.h."""
    return {
        "RING3": truth.ring3,
        "WP": truth.wp,
        "NX": truth.nx,
        "WX_PAGES": truth.wx_pages,
        "TEXT_WRITABLE": truth.text_writable,
        "SMEP": truth.smep,
        "SMAP": truth.smap,
        "UMIP": truth.umip,
        "PAGE_ZERO": truth.page_zero_mapped,
        "RANDOM": truth.randomised_bits != Bits(),
        "GUARD": truth.guard,
        "STACK_PAGES": truth.stack,
        "JOURNAL_PAGES": truth.journal,
        "SLEEP": truth.sleeps,
        "MULTIBOOT": truth.multiboot,
        "ALIAS": truth.aliased,
        "USER_TABLES": truth.user_tables,
        "USER_GDT": truth.user_gdt,
        "USER_PORTS": truth.user_ports,
        "LIFTED": truth.lifted,
        "HELPER": truth.helper,
    }


def _hostile(macro: str) -> list[list[str]]:
    """The same for a hostile guest: one file of assembly."""
    place = "-Wl,-Ttext-segment=0x100000,-e,start"
    return [[*LINK, *([macro] if macro else []), place, str(SOURCES / "hostile.S"), "-o", "guest"]]


def _digest(commands: list[list[str]]) -> str:
    """Of the sources, the commands and the compiler."""
    seen = hashlib.sha256(repr((commands, _compiler())).encode())
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in (".S", ".c", ".h", ".ld"):
            seen.update(path.read_bytes())
    return seen.hexdigest()[:16]


@functools.cache
def _compiler() -> str:
    """gcc's own description of itself."""
    done = subprocess.run([program("gcc"), "-v"], capture_output=True, text=True, check=True)
    return done.stderr
