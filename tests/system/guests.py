"""What tests of `ringfence guest` share: an examination as JSON, exercises, a Linux to boot."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ringfence.guest import examine
from tests.command import ringfence
from tests.system.conftest import CACHE, program
from tests.system.test_guest_static import package

ASK = """
import os, socket, sys, time
line = socket.socket(socket.AF_UNIX)
line.connect(os.environ["RINGFENCE_SERIAL"])
line.settimeout(10)
file = line.makefile("rwb", buffering=0)
request, answer = (word.encode() for word in sys.argv[1:3])
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    file.write((request + b"\\n") * 8)
    answers = 0
    while answers < 8:
        text = file.readline()
        if not text:
            sys.exit(1)
        answers += text.startswith(answer)
"""


def ask_on_serial(request: str, answer: str, seconds: float = 1.0) -> str:
    """An exercise that sends lines on the serial line for a while, and fails without answers."""
    return shlex.join([sys.executable, "-c", ASK, request, answer, str(seconds)])


def examined(image: Path, *words: object) -> dict[str, Any]:
    """The examination under TCG, which works everywhere."""
    program("qemu-system-x86_64")
    done = ringfence("guest", image, "--accel", "tcg", "--format", "json", *words)
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


@contextlib.contextmanager
def hurried(wanted: int) -> Iterator[None]:
    """Fewer samples than a user gets, for guests that do little else than what is asked; and more
    time to get them in, should the machine be busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examine, "WHOLE", 30)
        patch.setattr(examine, "WANTED", wanted)
        patch.setattr(examine, "SECONDS", 3 * examine.SECONDS)
        patch.setattr(examine, "SHORT", 6 * examine.SHORT)
        yield


def values(found: dict[str, Any]) -> dict[str, Any]:
    """Facts without their evidence."""
    return {name: fact["value"] for name, fact in found["facts"].items()}


def linux() -> Path:
    """Unpacked files of the kernel that linux-image-cloud-amd64 stands for."""
    return package(metapackage("amd64"))


def arm64_linux() -> Path:
    """The kernel that linux-image-cloud-arm64 stands for, from this machine's own sources by an apt
    with folders of its own: nothing is installed, no architecture is added."""
    kept = CACHE / "packages" / "arm64"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as place:
            settings = {
                "APT::Architecture": "arm64", "APT::Architectures": "arm64",
                "Dir::State": place, "Dir::State::status": "/dev/null", "Dir::Cache": place,
            }  # fmt: skip
            options = [
                word for name, value in settings.items() for word in ("-o", f"{name}={value}")
            ]
            subprocess.run(["apt-get", *options, "update", "-q"], check=True, capture_output=True)
            found = package(metapackage("arm64", *options), *options)
        kept.symlink_to(found.name)
    (kernel,) = (kept / "boot").glob("vmlinuz-*")
    return kernel


def metapackage(architecture: str, *options: str) -> str:
    """The package that linux-image-cloud-ARCHITECTURE depends on."""
    words = ["apt-cache", *options, "depends", f"linux-image-cloud-{architecture}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    match = re.search(rf"Depends: (linux-image-\S+-cloud-{architecture})", done.stdout)
    assert match is not None
    return match[1]


def initramfs(init: str, modules: tuple[Path, ...] = ()) -> bytes:
    """An initial RAM disk of busybox, a script as /init, and modules in /modules."""
    busybox = Path(program("busybox")).read_bytes()
    files = [("bin", 0o40755, b""), ("modules", 0o40755, b""), ("bin/busybox", 0o100755, busybox)]
    files += [("init", 0o100755, init.encode())]
    files += [(f"modules/{path.name}", 0o100644, path.read_bytes()) for path in modules]
    return archive(files)


def archive(files: list[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive (newc, Documentation/driver-api/early-userspace/buffer-format.rst in Linux) of
    files, each with its mode (folders too)."""
    out = bytearray()
    for number, (name, mode, data) in enumerate([*files, ("TRAILER!!!", 0, b"")], 1):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)
