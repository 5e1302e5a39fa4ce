"""Whether a file that is opened, and not executed, could be code. Pure.

The kernel says that a file is opened, not what for: `ld.so PROGRAM`, dlopen(3) and `sh SCRIPT` are
plain opens. So what looks like code has to be in the baseline, and other files may be opened.
"""

from __future__ import annotations

MAGIC = {
    b"\x7fELF": "a program or library (ELF)",
    b"#!": "a script (#!)",
    b"\xca\xfe\xba\xbe": "Java byte code",
    b"\0asm": "WebAssembly",
}
"""First bytes (elf(5), execve(2), the Java and WebAssembly specifications) -> what they mean."""
SUFFIXES = tuple(
    b".ash .bash .class .jar .js .ko .lua .mjs .cjs .php .phar .pl .pm .py .pyc .pyo .rb .sh .so "
    b".tcl .zsh".split()
)
"""Ends of names by which interpreters and loaders find code."""
HEAD = 4
EXECUTE = 0o111


def looks_like_code(head: bytes, mode: int, name: bytes) -> str:
    """What code it could be, '' for none: by its first `HEAD` bytes, st_mode, and its name."""
    for magic, what in MAGIC.items():
        if head.startswith(magic):
            return what
    if mode & EXECUTE:
        return "a file with an execute bit"
    lower = name.lower()
    if lower.endswith(SUFFIXES) or b".so." in lower:
        return "code by its name"
    return ""
