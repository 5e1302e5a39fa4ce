"""System calls within reach of machine code: ground truth by programs made for it, and oracles."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ringfence.collect.seccomp.tables import native_calls
from ringfence.harden.binary.loaded import Loaded, Unreadable
from ringfence.harden.binary.programs import reachable
from ringfence.harden.binary.references import references
from ringfence.harden.tree import Tree
from tests.system.conftest import program

pytestmark = pytest.mark.system
LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")

SOURCE = r"""
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <unistd.h>
static void called_by_table(void) { listen(3, 1); }
static void never(void) { mkdir("/x", 0700); }
static long (*volatile unused)(void);
static void (*table[])(void) = {called_by_table};
__attribute__((noinline)) static long gate(long number) { return syscall(number, 0, 0, 0); }
int main(int count, char **words) {
  if (count > 9) { table[count % 1](); gate(SYS_getcpu); mlock(words, 1); }
  if (count > 99) return (int)syscall(SYS_setns, 0, 0);
  (void)never; (void)unused;
  return 0;
}
"""


def built(folder: Path, *words: str, compiler: str = "gcc") -> Path:
    (folder / "main.c").write_text(SOURCE)
    subprocess.run(
        [program(compiler), "-O1", *words, "-o", str(folder / "main"), str(folder / "main.c")],
        check=True,
    )
    return folder / "main"


@pytest.mark.parametrize(
    ("compiler", "words"),
    [
        ("gcc", ("-pie", "-fPIE")),
        ("gcc", ("-no-pie", "-fno-pie")),
        ("gcc", ("-static", "-s")),
        ("gcc", ("-static-pie",)),
        ("musl-gcc", ("-static", "-s")),
    ],
)
def test_calls_of_a_program_are_found(
    tmp_path: Path, compiler: str, words: tuple[str, ...]
) -> None:
    """Through a table of functions, through syscall(3) and a wrapper of it; and not from code
    that the linker left out or that nothing refers to."""
    path = built(tmp_path, *words, compiler=compiler)
    tree = Tree(Path("/"))
    files = [str(path).lstrip("/")]
    if "-static" not in words and "-static-pie" not in words:
        files += [tree.resolve(str(LIBC))[0], tree.resolve("/lib64/ld-linux-x86-64.so.2")[0]]
    found = reachable(tree, files[:1], files)
    assert {"listen", "mlock", "setns", "exit_group"} <= found.calls.keys(), found.unclear
    assert "getcpu" in found.calls, "a number handed on by a wrapper"
    assert not {"ptrace", "swapon", "kexec_load"} & found.calls.keys()
    assert {"listen", "mlock", "setns", "getcpu"} <= found.own
    if len(files) > 1:
        assert {"mmap", "exit_group"} <= found.calls.keys() - found.own, "the C library's alone"


def test_unused_functions_of_a_library_are_not_in_reach(tmp_path: Path) -> None:
    path = built(tmp_path, "-pie", "-fPIE")
    tree = Tree(Path("/"))
    files = [str(path).lstrip("/"), tree.resolve(str(LIBC))[0]]
    found = reachable(tree, files[:1], files)
    assert not {"reboot", "mount", "swapon", "epoll_wait", "inotify_init1"} & found.calls.keys()
    assert len(found.calls) < 100


def test_references_miss_no_call_that_a_disassembler_sees() -> None:
    """Every direct call of libc, as objdump reads it, that leads to the start of a function."""
    loaded = Loaded(LIBC.read_bytes())
    found = references(loaded)
    text = subprocess.run(
        [program("objdump"), "-d", "--no-show-raw-insn", "-M", "intel", str(LIBC)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    wanted = missed = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[1] != "call" or not words[0].endswith(":"):
            continue
        try:
            place, target = int(words[0][:-1], 16), int(words[2], 16)
        except ValueError:
            continue  # through a register or memory
        if target in loaded.starts:
            wanted += 1
            missed += target not in found.functions.get(loaded.function(place), set())
    assert wanted > 5000
    assert missed == 0


def test_numbers_agree_with_wrappers_of_the_c_library() -> None:
    """A function named after a call makes that call."""
    loaded = Loaded(LIBC.read_bytes())
    from ringfence.harden.binary.sites import sites

    found = sites(loaded).numbers
    numbers = native_calls()
    plain = ("read", "write", "close", "listen", "bind", "mkdir", "unlink", "chdir", "getpid",
             "setsid", "mprotect", "munmap", "kill", "umask", "epoll_ctl",
             "sched_yield")  # fmt: skip
    for name in plain:
        assert numbers[name] in found[loaded.function(loaded.exports[name])], name


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    import random

    data = bytearray(Path("/bin/true").read_bytes())
    generator = random.Random(4)
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(6):
            broken[generator.randrange(4096)] = generator.randrange(256)
        try:
            references(Loaded(bytes(broken[: generator.randrange(64, len(broken))])))
        except Unreadable:
            continue
    with pytest.raises(Unreadable):
        Loaded(b"#!/bin/sh\n")
