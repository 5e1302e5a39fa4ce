"""Builds the aarch64 guests with Debian's cross compiler, and says what is true of each."""

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
APPLICATION = SOURCES.parent
COMPILER, OBJCOPY = "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-objcopy"


class Truth(msgspec.Struct, frozen=True):
    """What is true of a guest while its application runs. The defaults are the variant `base`.

    `el0`: the application runs in EL0, else in EL1. `paged`: SCTLR_EL1.M. `wx_pages`: data that can
    be executed by who can write it. `text_writable`: code pages can be written. `wxn`:
    SCTLR_EL1.WXN takes execution from all that is writable. `table_pxn`: stack and heap are kept
    from execution by entries of the tables above them alone; `hpd`: TCR_EL1.HPD0, by which such
    rights do not count. `pxn`: EL1 cannot execute the application's code. `pan`: SCTLR_EL1.SPAN is
    clear, so that calls from EL0 set PSTATE.PAN; `lifted`: the kernel clears it again. `aliased`:
    the application's code can be written by a second name. `user_tables`: EL0 can write the page
    tables. `page_zero_mapped`, `random`, `guard`, `stack`, `journal`, `sleeps`: as in
    `tests.guests.build`. `granule`: bits of an address inside a page; `bits`: of an address in each
    half. `image`: a flat Image.
    """

    el0: bool = False
    paged: bool = True
    wx_pages: bool = False
    text_writable: bool = False
    wxn: bool = False
    table_pxn: bool = False
    hpd: bool = False
    pxn: bool = True
    pan: bool = True
    lifted: bool = False
    aliased: bool = False
    user_tables: bool = False
    page_zero_mapped: bool = False
    random: bool = False
    guard: bool = False
    stack: int = 4
    journal: int = 64
    sleeps: bool = True
    granule: int = 12
    bits: int = 48
    image: bool = False

    @property
    def executable_data(self) -> bool:
        """Whether the application's stack and heap can be executed."""
        open_tables = self.wx_pages or (self.table_pxn and self.hpd)
        return not self.paged or (open_tables and not self.wxn)


BASE = Truth()
EL0 = replace(BASE, el0=True)

# Each differs in one property from `base` or, where it is about EL0, from `el0`.
VARIANTS: dict[str, Truth] = {
    "base": BASE,
    "image": replace(BASE, image=True),
    "nommu": replace(BASE, paged=False),
    "wx": replace(BASE, wx_pages=True, text_writable=True),
    "data": replace(BASE, wx_pages=True),
    "wxn": replace(BASE, wx_pages=True, wxn=True),
    "tables": replace(BASE, table_pxn=True),
    "hpd": replace(BASE, table_pxn=True, hpd=True),
    "pagezero": replace(BASE, page_zero_mapped=True),
    "random": replace(BASE, random=True),
    "guard": replace(BASE, guard=True, stack=1),
    "deepguard": replace(BASE, guard=True),
    "databelow": replace(BASE, journal=32),
    "el0": EL0,
    "el0wx": replace(EL0, wx_pages=True),
    "nopan": replace(EL0, pan=False),
    "nopxn": replace(EL0, pxn=False),
    "lifted": replace(EL0, lifted=True),
    "alias": replace(BASE, aliased=True),
    "el0alias": replace(EL0, aliased=True),
    "usertables": replace(EL0, user_tables=True),
    "busy": replace(EL0, sleeps=False),
    "16k": replace(BASE, granule=14),
    "64k": replace(BASE, granule=16),
    "39bits": replace(BASE, bits=39),
    "52bits": replace(BASE, bits=52),
}

COMPILE = (
    "-std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fPIE -mgeneral-regs-only -mstrict-align"
    " -mno-outline-atomics -mbranch-protection=none -fno-stack-protector"
    " -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns"
    " -fno-optimize-sibling-calls"
).split()
LINK = (
    "-nostdlib -static -no-pie -Wl,--build-id=none,--no-warn-rwx-segments,-z,max-page-size=4096"
).split()
LINUX = (
    "-O2 -Wall -Wextra -Werror -ffreestanding -mgeneral-regs-only -mno-outline-atomics"
    " -fno-stack-protector -fno-tree-loop-distribute-patterns -static -nostdlib"
).split()
FILES = ("start.S", "enter.S", "boot.c", "kernel.c", "pl011.c", "../app.c")


def kernel(variant: str) -> Path:
    """The image of a variant, built when the cache lacks it. Raises KeyError for other names."""
    truth = VARIANTS[variant]
    commands = _commands(truth)
    name = f"aarch64-{variant}-{_digest(commands)}.{'img' if truth.image else 'elf'}"
    image = CACHE / "guests" / name
    if not image.exists():
        image.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=image.parent) as place:
            for command in commands:
                subprocess.run([program(command[0]), *command[1:]], check=True, cwd=place)
            os.replace(Path(place, "guest"), image)
    return image


def init(*, writable_code: bool) -> bytes:
    """The only program of a stock Linux (init.c); with a page that it writes and executes, or
    without."""
    command = [program(COMPILER), *LINUX, f"-DWX={int(writable_code)}", str(SOURCES / "init.c")]
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([*command, "-o", "init"], check=True, cwd=place)
        return Path(place, "init").read_bytes()


def _commands(truth: Truth) -> list[list[str]]:
    macros = [f"-D{name}={int(value)}" for name, value in _macros(truth).items()]
    compiles = [[COMPILER, *COMPILE, *macros, "-c", str(SOURCES / name)] for name in FILES]
    objects = [f"{Path(name).stem}.o" for name in FILES]
    script = ["-E", "-P", "-x", "c", *macros, str(SOURCES / "guest.ld"), "-o", "guest.ld"]
    link = [COMPILER, *LINK, "-Wl,-T,guest.ld", *objects, "-o", "guest"]
    flat = [[OBJCOPY, "-O", "binary", "guest", "guest"]] if truth.image else []
    return [*compiles, [COMPILER, *script], link, *flat]


def _macros(truth: Truth) -> dict[str, int]:
    """The macros of guest.h."""
    return {
        "EL0": truth.el0,
        "RING3": truth.el0,
        "MMU": truth.paged,
        "WX_PAGES": truth.wx_pages,
        "TEXT_WRITABLE": truth.text_writable,
        "WXN": truth.wxn,
        "TABLE_PXN": truth.table_pxn,
        "HPD": truth.hpd,
        "PXN": truth.pxn,
        "PAN": truth.pan,
        "LIFTED": truth.lifted,
        "ALIAS": truth.aliased,
        "USER_TABLES": truth.user_tables,
        "PAGE_ZERO": truth.page_zero_mapped,
        "RANDOM": truth.random,
        "GUARD": truth.guard,
        "STACK_PAGES": truth.stack,
        "JOURNAL_PAGES": truth.journal,
        "SLEEP": truth.sleeps,
        "GRANULE": truth.granule,
        "BITS": truth.bits,
    }


def _digest(commands: list[list[str]]) -> str:
    """Of the sources, the commands and the compiler."""
    seen = hashlib.sha256(repr((commands, _compiler())).encode())
    shared = (APPLICATION / name for name in ("app.c", "app.h", "areas.h"))
    for path in sorted([*SOURCES.iterdir(), *shared]):
        if path.suffix in (".S", ".c", ".h", ".ld"):
            seen.update(path.read_bytes())
    return seen.hexdigest()[:16]


@functools.cache
def _compiler() -> str:
    """gcc's own description of itself."""
    done = subprocess.run([program(COMPILER), "-v"], capture_output=True, text=True, check=True)
    return done.stderr
