"""ELF facts against the compiler's switches, readelf and pyelftools."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from ringfence.collect.files.elf import read_elf
from ringfence.model.files import Elf
from tests.system.conftest import program

pytestmark = pytest.mark.system

SOURCE = """
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
    char buffer[64];
    strcpy(buffer, argv[0]);
    printf(argv[0], buffer);
    return argc;
}
"""
CASES: dict[str, tuple[list[str], dict[str, object]]] = {
    "pie": (["-pie", "-fPIE"], {"kind": "pie", "static": False}),
    "fixed": (["-no-pie"], {"kind": "executable", "static": False}),
    "static": (["-static", "-no-pie"], {"kind": "executable", "static": True, "needed": ()}),
    "static-pie": (["-static-pie", "-fPIE"], {"kind": "static-pie", "static": True}),
    "library": (["-shared", "-fPIC"], {"kind": "shared", "static": False}),
    "stack executable": (["-z", "execstack"], {"nx": False}),
    "stack not": (["-z", "noexecstack"], {"nx": True}),
    "no relro": (["-z", "norelro"], {"relro": "none"}),
    "partial relro": (["-z", "relro", "-z", "lazy"], {"relro": "partial"}),
    "full relro": (["-z", "relro", "-z", "now"], {"relro": "full"}),
    "canary": (["-fstack-protector-all"], {"canary": True}),
    "no canary": (["-fno-stack-protector"], {"canary": False}),
    "fortify": (["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"], {"fortify": True}),
    "no fortify": (["-O2", "-U_FORTIFY_SOURCE"], {"fortify": False}),
    "code not writable": (["-pie", "-fPIE"], {"writable_executable": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_compiler_was_told_is_what_is_read(case: str, tmp_path: Path) -> None:
    switches, expected = CASES[case]
    (tmp_path / "a.c").write_text(SOURCE)
    made = subprocess.run(
        [program("gcc"), "-w", *switches, "-o", "a.out", "a.c"], cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    found = read_elf((tmp_path / "a.out").read_bytes())
    assert found is not None
    for field, value in expected.items():
        assert getattr(found, field) == value, field
    assert found.problem == ""


def test_a_segment_that_is_writable_and_executable(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int kept = 1; void _start(void) { kept = 2; }")
    command = [program("gcc"), "-w", "-nostdlib", "-static", "-no-pie", "-Wl,-N", "a.c"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = read_elf((tmp_path / "a.out").read_bytes())
    assert found is not None
    assert found.writable_executable


def files() -> list[Path]:
    """ELF files of this system: programs and libraries, each once."""
    found: dict[tuple[int, int], Path] = {}
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/libexec"):
        for path in sorted(Path(folder).glob("*")):
            if path.is_symlink() or not path.is_file() or path.stat().st_size > 8 << 20:
                continue
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    info = path.stat()
                    found.setdefault((info.st_dev, info.st_ino), path)
    return list(found.values())[::2][:300]


def by_pyelftools(path: Path) -> dict[str, object]:
    """The same facts, read by another program's way: sections, names, flags."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        segments = list(elf.iter_segments())
        stack = [s["p_flags"] & 1 for s in segments if s["p_type"] == "PT_GNU_STACK"]
        interpreter = [s.get_interp_name() for s in segments if s["p_type"] == "PT_INTERP"]
        dynamic = next((s for s in elf.iter_sections() if isinstance(s, DynamicSection)), None)
        tags = list(dynamic.iter_tags()) if dynamic is not None else []
        names: set[str] = set()
        for section in (".dynsym",) if dynamic is not None else (".symtab",):
            table = elf.get_section_by_name(section)
            names |= (
                {symbol.name for symbol in table.iter_symbols()} if table is not None else set()
            )
        now = any(
            tag.entry.d_tag == "DT_BIND_NOW"
            or (tag.entry.d_tag == "DT_FLAGS" and tag.entry.d_val & 8)
            or (tag.entry.d_tag == "DT_FLAGS_1" and tag.entry.d_val & 1)
            for tag in tags
        )
        relro = any(s["p_type"] == "PT_GNU_RELRO" for s in segments)
        return {
            "bits": elf.elfclass,
            "nx": not stack[0] if stack else False,
            "relro": ("full" if now or not tags else "partial") if relro else "none",
            "interpreter": interpreter[0] if interpreter else "",
            "needed": tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
            "canary": bool({"__stack_chk_fail", "__stack_chk_guard"} & names),
            "fortify": any(re.fullmatch(r"__\w+_chk", name) for name in names),
            "writable_executable": any(
                s["p_flags"] & 3 == 3 for s in segments if s["p_type"] == "PT_LOAD"
            ),
        }


def test_every_program_and_library_of_this_system_reads_as_pyelftools_reads_it() -> None:
    found = files()
    assert len(found) > 100
    for path in found:
        ours = read_elf(path.read_bytes())
        assert isinstance(ours, Elf), path
        for field, value in by_pyelftools(path).items():
            assert getattr(ours, field) == value, (path, field)


def test_readelf_agrees_on_headers_and_libraries() -> None:
    for path in files()[::15]:
        ours = read_elf(path.read_bytes())
        assert ours is not None
        text = subprocess.run(
            [program("readelf"), "-lW", "-d", str(path)],
            capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"},
        ).stdout  # fmt: skip
        assert tuple(re.findall(r"\(NEEDED\).*\[(.+)\]", text)) == ours.needed
        stack = re.search(r"GNU_STACK\s.*?\s(R\s?W\s?E?|RWE|RW)\s", text)
        assert stack is not None
        assert ("E" not in stack[1]) == ours.nx
        assert ("GNU_RELRO" in text) == (ours.relro != "none")
