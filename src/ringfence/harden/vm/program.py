"""The init as a static program: `init.c` compiled on this host, the same bytes each time."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path

from ringfence.errors import InputError, MissingError

COMPILERS = ("musl-gcc", "gcc")
"""In this order: musl's static programs are a tenth of the size of glibc's."""
_FLAGS = ("-static", "-Os", "-s", "-fstack-protector-strong", "-Wl,-z,relro,-z,now,-z,noexecstack",
          "-Wl,--build-id=none")  # fmt: skip
_PATIENCE = 60.0


def init_program() -> bytes:
    """The program's bytes. Raises MissingError without a compiler, or on another processor."""
    if platform.machine() != "x86_64":
        raise MissingError("a virtual machine's init is compiled on x86-64 only")
    compiler = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        raise MissingError(
            "no C compiler for the virtual machine's init", remedy="apt-get install musl-tools"
        )
    with tempfile.TemporaryDirectory(prefix="ringfence-init-") as folder:
        place = Path(folder)
        (place / "init.c").write_bytes((files("ringfence.harden.vm") / "init.c").read_bytes())
        done = subprocess.run(
            [compiler, *_FLAGS, "-o", "init", "init.c"], cwd=place, capture_output=True,
            text=True, timeout=_PATIENCE, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise _uncompiled(compiler, done.stderr)
        return (place / "init").read_bytes()


def _uncompiled(compiler: str, said: str) -> MissingError | InputError:
    """Without the static C library the linker is what complains."""
    lines = [line for line in said.splitlines() if line.strip()]
    if "cannot find -lc" in said or "No such file" in said:
        return MissingError(
            f"no static C library: {lines[-1][:200]}", where=compiler,
            remedy="apt-get install musl-tools",
        )  # fmt: skip
    return InputError(f"cannot compile init.c: {(lines or [''])[-1][:200]}", where=compiler)
