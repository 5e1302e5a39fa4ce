"""The virtual machine of a hardened nginx under a policy: booted, asked over HTTP, its console."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.client
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ringfence.harden.vm.cpio import Member, archive
from tests.system.conftest import free_port, program
from tests.system.guests import linux

HERE = Path(__file__).parent
PATIENCE = 60.0
HIDDEN = "not for visitors\n"


@functools.cache
def static(name: str) -> bytes:
    """A C file of this folder as a static program."""
    target = Path(
        subprocess.run(["mktemp"], capture_output=True, text=True, check=True).stdout[:-1]
    )
    try:
        words = [program("musl-gcc"), "-static", "-Os", "-s", "-Wall", "-o", str(target)]
        subprocess.run([*words, str(HERE / name)], check=True)
        return target.read_bytes()
    finally:
        target.unlink()


def members(initrd: Path) -> list[tuple[str, int, bytes]]:
    """Path, mode and content of what our archives hold."""
    data, at = gzip.decompress(initrd.read_bytes()), 0
    found: list[tuple[str, int, bytes]] = []
    while True:
        mode, size, length = (int(data[at + n : at + n + 8], 16) for n in (14, 54, 94))
        name = data[at + 110 : at + 109 + length].decode()
        start = (at + 110 + length + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found.append((name, mode, data[start : start + size]))
        at = (start + size + 3) & ~3


def settings(initrd: Path, word: str) -> bytes:
    """Those of Ringfence's init, with `confine` between it and the service."""
    (text,) = (body for name, _, body in members(initrd) if name == ".ringfence/settings")
    rows = text.decode()[:-1].split("\0")
    (own,) = (row for row in rows if row.startswith("program="))
    program_row = own.replace("program=", "env=RF_PROGRAM=")
    rest = [row for row in rows if row != own]
    rows = ["program=/mac/confine", f"env=RF_WORD={word}", program_row, *rest]
    return "\0".join(rows).encode() + b"\0"


def overlay(initrd: Path, word: str, domain: str, policy: bytes, labels: dict[str, str]) -> bytes:
    """The archive that is laid over the machine's own."""
    file, folder = stat.S_IFREG, stat.S_IFDIR | 0o755
    named = "".join(f"{context}\t{path}\n" for path, context in labels.items())
    return archive(
        (
            Member("mac", folder),
            Member("mac/init", file | 0o755, body=static("init.c")),
            Member("mac/confine", file | 0o755, body=static("confine.c")),
            Member("mac/policy", file | 0o600, body=policy),
            Member("mac/labels", file | 0o600, body=named.encode()),
            Member("mac/domain", file | 0o600, body=domain.encode()),
            Member("mac/secret", file | 0o644, body=HIDDEN.encode()),
            Member("var/www/html/secret.html", file | 0o644, body=HIDDEN.encode()),
            Member(".ringfence/settings", file | 0o600, body=settings(initrd, word)),
        )
    )


class Guest:
    """A running machine: its port on this host's loopback, and what its console has shown."""

    def __init__(self, port: int, serial: Path, process: subprocess.Popen[bytes]) -> None:
        self.port, self._serial, self._process = port, serial, process

    @property
    def console(self) -> str:
        return self._serial.read_text(errors="replace").replace("\r", "")

    def ask(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body."""
        peer = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            peer.request("GET", path, headers=headers)
            answer = peer.getresponse()
            return answer.status, answer.read()
        finally:
            peer.close()

    def until_up(self) -> None:
        """Until it answers; AssertionError, with its console, when it does not."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.ask("/")
                return
            time.sleep(0.1)
        raise AssertionError(f"no answer; the console's end: {self.console[-4000:]}")

    def until_said(self, text: str) -> str:
        """The console, once it has shown `text`."""
        for _ in range(200):
            if text in self.console:
                break
            time.sleep(0.05)
        return self.console


@contextlib.contextmanager
def booted(result: Path, over: bytes, append: str, folder: Path) -> Iterator[Guest]:
    """The result's machine with an archive laid over it, answering."""
    (kernel,) = (linux() / "boot").glob("vmlinuz-*")
    own = (result / "vm.initrd").read_bytes()
    # The kernel looks for a further archive at the next multiple of four.
    (folder / "initrd").write_bytes(own + bytes(-len(own) % 4) + over)
    line = (result / "vm.cmdline").read_text().strip().replace(" quiet", "")
    line = line.replace("rdinit=/.ringfence/init", "rdinit=/mac/init")
    port = free_port()
    words = [
        program("qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-display", "none",
        "-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "512", "-no-reboot",
        "-kernel", str(kernel), "-initrd", str(folder / "initrd"), "-append", f"{line} {append}",
        "-serial", f"file:{folder}/serial", "-sandbox", "on",
        "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:80",
        "-device", "virtio-net-pci,netdev=net,romfile=",
    ]  # fmt: skip
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    guest = Guest(port, folder / "serial", process)
    try:
        guest.until_up()
        yield guest
    finally:
        process.kill()
        process.wait()
