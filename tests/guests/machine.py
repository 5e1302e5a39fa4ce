"""A guest under QEMU: its serial line, and QEMU's monitor, which sees it from outside."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.system.conftest import program

PATIENCE = 20  # seconds before a guest that says nothing fails its test


class Page(msgspec.Struct, frozen=True):
    """A mapped page as `info tlb` shows it: the rights of its last level."""

    address: int
    executable: bool
    user: bool
    writable: bool


class Machine:
    """A running guest of 64 MiB. All of it goes through two sockets; nothing is left on disk."""

    def __init__(self, serial: socket.socket, control: socket.socket) -> None:
        serial.settimeout(PATIENCE)
        control.settimeout(PATIENCE)
        self.serial = serial.makefile("rwb", buffering=0)
        self._control = control.makefile("rwb", buffering=0)
        self._control.readline()
        self._execute("qmp_capabilities", {})

    def ask(self, request: str) -> str:
        """The next line on the serial line after `request`."""
        self.serial.write(f"{request}\n".encode())
        return self.line()

    def line(self) -> str:
        """The next line on the serial line; raises TimeoutError when there is none."""
        return self.serial.readline().decode().rstrip("\n")

    def monitor(self, command: str) -> str:
        """What QEMU's monitor answers (https://www.qemu.org/docs/master/system/monitor.html)."""
        return self._execute("human-monitor-command", {"command-line": command})

    def registers(self) -> dict[str, int]:
        """Those that `info registers` gives as NAME=HEX, and the bases of segments and tables."""
        text = self.monitor("info registers")
        plain = re.findall(r"\b([A-Z][A-Z0-9]{1,3}) ?=([0-9a-f]+)\b(?! [0-9a-f]{16})", text)
        bases = re.findall(r"\b([A-Z]{2,3}) ?=(?:[0-9a-f]{4}| {4}) ([0-9a-f]{16})\b", text)
        return {name: int(value, 16) for name, value in [*plain, *bases]}

    def pages(self) -> list[Page]:
        """All mapped pages; the flags are those of QEMU's print_pte (target/i386/monitor.c)."""
        rows = re.findall(r"^([0-9a-f]{16}): [0-9a-f]{16} (\S{9})", self.monitor("info tlb"), re.M)
        return [
            Page(int(address, 16), flags[0] != "X", flags[7] == "U", flags[8] == "W")
            for address, flags in rows
        ]

    def _execute(self, command: str, arguments: dict[str, str]) -> str:
        message = {"execute": command, "arguments": arguments}
        self._control.write(json.dumps(message).encode() + b"\n")
        while True:
            answer = json.loads(self._control.readline())
            if "event" not in answer:
                return str(answer["return"])


@contextlib.contextmanager
def process(kernel: Path, cpu: str = "max") -> Iterator[tuple[subprocess.Popen[bytes], Machine]]:
    """QEMU with `kernel`, interpreted (TCG) on a processor of model `cpu`; killed afterwards."""
    serial, its_serial = socket.socketpair()
    control, its_control = socket.socketpair()
    with serial, its_serial, control, its_control:
        running = subprocess.Popen(
            [program("qemu-system-x86_64"), "-accel", "tcg", "-cpu", cpu, "-m", "64M",
             "-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(kernel),
             "-chardev", f"socket,id=serial,fd={its_serial.fileno()}", "-serial", "chardev:serial",
             "-chardev", f"socket,id=control,fd={its_control.fileno()}",
             "-mon", "chardev=control,mode=control"],
            pass_fds=[its_serial.fileno(), its_control.fileno()],
        )  # fmt: skip
        its_serial.close()
        its_control.close()
        try:
            yield running, Machine(serial, control)
        finally:
            running.kill()
            running.wait()


@contextlib.contextmanager
def boot(kernel: Path, cpu: str = "max") -> Iterator[Machine]:
    """The same for a guest that says `ready`, once it has."""
    with process(kernel, cpu) as (_, machine):
        assert machine.line() == "ready"
        yield machine
