"""What tests of `ringfence guest` share: an examination as JSON, exercises, a Linux to boot."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.command import ringfence
from tests.system.conftest import program
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


def values(found: dict[str, Any]) -> dict[str, Any]:
    """Facts without their evidence."""
    return {name: fact["value"] for name, fact in found["facts"].items()}


def linux() -> Path:
    """Unpacked files of the kernel that linux-image-cloud-amd64 stands for."""
    words = ["apt-cache", "depends", "linux-image-cloud-amd64"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    match = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", done.stdout)
    assert match is not None
    return package(match[1])


def initramfs(init: str, modules: tuple[Path, ...] = ()) -> bytes:
    """A cpio archive (newc, Documentation/driver-api/early-userspace/buffer-format.rst in Linux)
    of busybox, a script as /init, and modules in /modules."""
    busybox = Path(program("busybox")).read_bytes()
    files = [("bin", 0o40755, b""), ("modules", 0o40755, b""), ("bin/busybox", 0o100755, busybox)]
    files += [("init", 0o100755, init.encode())]
    files += [(f"modules/{path.name}", 0o100644, path.read_bytes()) for path in modules]
    out = bytearray()
    for number, (name, mode, data) in enumerate([*files, ("TRAILER!!!", 0, b"")], 1):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)
