"""Live maps and the executable's own headers: W^X, stack, position independence, libraries."""

from __future__ import annotations

import os

from ringfence.collect.files.elf import read_elf
from ringfence.collect.files.filebytes import of_file
from ringfence.collect.process import procfs
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.files import Elf
from ringfence.model.process import Memory

FIXED_LIMIT = 0x10000000
"""Programs linked at a fixed address on 64-bit machines start far below this; PIE ones above."""

LEAST_FIELDS = 5
"""Range, rights, offset, device and inode; the name is missing from anonymous memory's rows."""


def memory(pid: int) -> Seen[Memory]:
    """What /proc/PID/maps shows."""
    source = f"/proc/{pid}/maps"
    try:
        rows = procfs.rows(procfs.whole(pid, "maps"))
        executable = procfs.link(pid, "exe")
    except OSError as error:
        return procfs.refused(source, error)
    lines = [line for row in rows if len(line := row.split(maxsplit=5)) >= LEAST_FIELDS]
    both = [line for line in lines if "w" in line[1] and "x" in line[1]]
    stack = any(len(line) > 5 and line[5] == "[stack]" and "x" in line[1] for line in lines)
    own = [
        int(line[0].split("-")[0], 16) for line in lines if len(line) > 5 and line[5] == executable
    ]
    code = dict.fromkeys(line[5] for line in lines if len(line) > 5 and "x" in line[1])
    return Seen(
        Memory(
            writable_executable=len(both),
            executable_stack=stack,
            position_independent=min(own) >= FIXED_LIMIT if own else None,
            mapped={path: _size(pid, path) for path in code if path.startswith("/")},
            evidence=Evidence(Grade.OBSERVED, source, f"{len(lines)} mappings"),
        ),
        Evidence(Grade.OBSERVED, source),
    )


def _size(pid: int, path: str) -> int:
    """Bytes of a mapped file in the process's view; 0 where it is gone or out of sight."""
    try:
        return os.stat(f"/proc/{pid}/root{path}").st_size
    except OSError:
        return 0


def image(pid: int) -> Seen[Elf]:
    """The headers of the executable that runs, through /proc/PID/exe (even if it was deleted)."""
    source = f"/proc/{pid}/exe"
    try:
        with open(source, "rb", buffering=0) as file:
            found = read_elf(of_file(file))
    except OSError as error:
        return procfs.refused(source, error)
    if found is None:
        return Seen(None, Evidence(Grade.ASSUMED, source, "not an ELF file"))
    return Seen(found, Evidence(Grade.OBSERVED, source, f"ELF {found.kind}"))
