"""Runs of `ringfence harden` and `ringfence run` for system tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ringfence.harden.record import Report
from tests.system.conftest import free_port, program

RINGFENCE = Path(sys.executable).with_name("ringfence")
NGINX = ("nginx", "-g", "daemon off;")


class Done:
    """A finished `ringfence harden`."""

    def __init__(self, *words: str, command: tuple[str, ...] = (), cwd: Path | None = None) -> None:
        for name in ("runc", "strace", "nft"):
            program(name)
        tail = ["--", *command] if command else []
        done = subprocess.run(
            [str(RINGFENCE), "harden", *words, *tail], capture_output=True, text=True, cwd=cwd,
            check=False, errors="surrogateescape",
        )  # fmt: skip
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr


def report(folder: Path) -> Report:
    """The report of a result."""
    return msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)


def static_server(folder: Path, source: str) -> Path:
    """A root file system with one static program at /bin/server, made by musl-gcc."""
    (folder / "bin").mkdir(parents=True)
    (folder / "server.c").write_text(source)
    words = [program("musl-gcc"), "-static", "-Os", "-s", "-o", str(folder / "bin/server")]
    subprocess.run([*words, str(folder / "server.c")], check=True)
    (folder / "server.c").unlink()
    return folder


def busybox(folder: Path, *applets: str) -> Path:
    """A root file system with busybox under several names."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy(program("busybox"), folder / "bin/busybox")
    for name in applets:
        (folder / "bin" / name).symlink_to("busybox")
    return folder


class Fenced:
    """A service inside its fence: the process of `ringfence run`, and its port on this host."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def pid(self) -> int:
        """The service's first process, as seen from here."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        own = os.readlink("/proc/self/ns/pid")
        return next(int(child) for child in children.split()
                    if os.readlink(f"/proc/{child}/ns/pid") != own)  # fmt: skip

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        """Status and body of an HTTP answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def until_up(self) -> None:
        """Wait until it answers."""
        for _ in range(500):
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.ask("/")
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"not up: {self.process.stderr and self.process.stderr.read()!r}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit status, output and complaints."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out.decode(), (err or b"").decode()


@contextlib.contextmanager
def fenced(
    folder: Path, inside: int, *words: str, errors: int = subprocess.PIPE
) -> Iterator[Fenced]:
    """`ringfence run` of a result, up, with one port published; `errors` is its standard error."""
    port = free_port()
    with subprocess.Popen(
        [str(RINGFENCE), "run", str(folder), "-p", f"{port}:{inside}", *words],
        stdout=subprocess.PIPE, stderr=errors,
    ) as process:  # fmt: skip
        service = Fenced(process, port)
        try:
            service.until_up()
            yield service
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=30)


def policy(folder: Path, name: str) -> Any:
    """A policy in JSON."""
    return json.loads((folder / "policy" / name).read_text())
