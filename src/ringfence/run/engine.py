"""Containers through an engine's create, start, kill and delete (OCI runtime command line)."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, ClassVar

import msgspec

from ringfence.errors import MissingError, RingfenceError, UsageError
from ringfence.run import kernel, memory_programs
from ringfence.run.fence import ID_BASE, Fence, configuration

ENGINES = ("runc", "crun")
"""In the order in which they are tried; both have the same command line."""
MOST_LOG = 1 << 20
"""Bytes of output kept in memory, the last ones."""
FEW, PAUSE = 1 << 14, 0.002
"""Bytes and seconds: whoever writes less at a time is read that much later."""
LAST_WORDS = 0.5
"""Seconds for what a failed engine wrote; processes of the container's may hold the pipe open."""
REMOVALS = 5
"""How often an engine is told to delete a container, should it fail."""


class EngineError(RingfenceError):
    """The engine would not start the container; the message is its own."""

    exit_code = 3


class Output:
    """The service's output: handed on line by line, and its last megabyte kept."""

    def __init__(self, forward: Callable[[bytes], None] | None = None) -> None:
        self._forward = forward
        self._kept = bytearray()
        self._lock = threading.Lock()
        read, self.write_end = os.pipe()
        self._reader = threading.Thread(target=self._drain, args=(os.fdopen(read, "rb", 0),))
        self._reader.daemon = True
        self._reader.start()

    def _drain(self, stream: BinaryIO) -> None:
        with stream:
            while part := stream.read(1 << 16):
                with self._lock:
                    self._kept += part
                    # Rarely: each time moves a megabyte, and a busy server writes line by line.
                    if len(self._kept) > 2 * MOST_LOG:
                        del self._kept[:-MOST_LOG]
                if self._forward is not None:
                    self._forward(part)
                if len(part) < FEW:
                    time.sleep(PAUSE)  # a busy server writes line by line: many at once

    def close(self) -> None:
        """Nobody of ours writes any more: the thread ends when the service's processes have. What
        is closed already stays so."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def finish(self, seconds: float = 2.0) -> bytes:
        """All that was kept, once the last writer has ended or `seconds` have passed."""
        self._reader.join(seconds)
        return self.kept()

    def kept(self) -> bytes:
        """What was kept up to now."""
        with self._lock:
            return bytes(self._kept[-MOST_LOG:])


class Container:
    """One container of ours, from its configuration to its removal. Needs root."""

    adopting: ClassVar[int] = 0
    """Containers whose first process is, or is to be, a child of this process."""

    def __init__(
        self,
        fence: Fence,
        bundle: Path,
        engine: str = "runc",
        forward: Callable[[bytes], None] | None = None,
    ) -> None:
        self.fence = fence
        self.bundle = bundle
        self.engine = engine
        self.name = f"ringfence-{os.getpid()}-{os.urandom(4).hex()}"
        self.pid = 0
        self.status: int | None = None
        """Exit status once it has ended: negative for a signal, as subprocess has it."""
        self.output = Output(forward)
        self._adopting = False

    def create(self) -> None:
        """Everything is set up, and the program not started. Raises EngineError."""
        self._begin("create")
        self.forbid_memory_programs()

    def launch(self) -> None:
        """Set up and started in one go. Raises EngineError."""
        self._begin("run", "--detach")
        self.output.close()

    def forbid_memory_programs(self) -> None:
        """After `launch`, some milliseconds behind the program's beginning: a start in two steps
        would cost more than it is worth before anybody can have come in."""
        if not self.fence.memory_programs:
            memory_programs.forbid(self.pid)

    def _begin(self, *verb: str) -> None:
        self._adopt()
        self._give_output()
        rules = self.bundle / "rules.nft" if self.fence.firewall else None
        if rules is not None:
            rules.write_text(self.fence.firewall)
            rules.chmod(0o644)
        document = msgspec.json.encode(configuration(self.fence, str(rules or "")))
        (self.bundle / "config.json").write_bytes(document)
        pid_file = self.bundle / "pid"
        words = [*verb, "--bundle", str(self.bundle), "--pid-file", str(pid_file), self.name]
        with tempfile.TemporaryFile() as log:
            done = subprocess.run(
                [self.engine, "--log", f"/proc/self/fd/{log.fileno()}", *words],
                stdin=subprocess.DEVNULL,
                stdout=self.output.write_end,
                stderr=self.output.write_end,
                pass_fds=(log.fileno(),),
                check=False,
            )
            if done.returncode:
                log.seek(0)
                raise EngineError(self._reason(log.read()), where=self.engine)
        self.pid = int(pid_file.read_text())

    def _adopt(self) -> None:
        """The container's first process is to be our child; others that are orphaned meanwhile
        are, too, so it ends with the last container."""
        if not self._adopting:
            kernel.adopt_orphans(True)
            Container.adopting += 1
            self._adopting = True

    def _give_output(self) -> None:
        """So that the service may open /dev/stdout again, as links from its log files need."""
        base = ID_BASE if self.fence.user_namespace else 0
        os.fchown(self.output.write_end, base + self.fence.uid, base + self.fence.gid)

    def start(self) -> None:
        """The program begins. Raises EngineError."""
        done = subprocess.run([self.engine, "start", self.name], capture_output=True, check=False)
        self.output.close()
        if done.returncode:
            raise EngineError(self._reason(done.stderr), where=self.engine)

    def _reason(self, log: bytes) -> str:
        """What the engine, which has failed, said: in its log, else among the output, whose last
        part the reader may not have come to."""
        self.output.close()
        return last_line(log, self.output.finish(LAST_WORDS))

    def signal(self, number: int) -> None:
        """Send a signal to the first process; nothing where it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        if self.status is None and self.pid:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid and not os.WIFSTOPPED(status):
                    self.status = os.waitstatus_to_exitcode(status)
            except ChildProcessError:
                # Killed while a thread of ours traced it, which took its status.
                self.status = -signal.SIGKILL
        return self.status

    def wait(self, seconds: float) -> int | None:
        """The exit status, None if it still runs after `seconds`."""
        limit = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < limit:
            time.sleep(0.005)
        return self.status

    def removal(self) -> tuple[str, ...]:
        """The command that kills what is left and forgets the container."""
        return (self.engine, "delete", "--force", self.name)

    def remove(self) -> None:
        """Kill what is left and forget the container."""
        try:
            self._delete()
        except BaseException:
            self._delete()  # what a signal raised has killed the engine half-way
            raise
        finally:
            self._removed()

    def _delete(self) -> None:
        """Again while the engine fails: one that was killed in creating leaves a process that is
        still on its way out, and Ctrl-C is the engine's, too."""
        for _ in range(REMOVALS):
            if subprocess.run(self.removal(), capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.05)

    def _removed(self) -> None:
        if self.pid:
            self.wait(5)
        if self._adopting:
            self._adopting = False
            Container.adopting -= 1
            kernel.adopt_orphans(Container.adopting > 0)


def last_line(*texts: bytes) -> str:
    """What an engine says went wrong: the last line of the first text that has one, without the
    log's own frame."""
    for text in texts:
        lines = text.decode("utf-8", "replace").strip().splitlines()
        if lines:
            line = lines[-1]
            return line.partition("msg=")[2].strip('"') or line
    return "ended without a word"


def check_root() -> None:
    """Before anything is looked at. Raises MissingError."""
    if os.geteuid() != 0:
        raise MissingError("starting containers", remedy="run as root (sudo)")


def working_engine(wanted: str = "") -> str:
    """The first engine that really starts containers here, or `wanted`.

    Raises UsageError for what is none, MissingError where none works. Tried once a process, with a
    container that is set up and never started.
    """
    if wanted and wanted not in ENGINES:
        raise UsageError(f"{wanted} is no engine", remedy=f"use {' or '.join(ENGINES)}")
    failures = []
    for engine in (wanted,) if wanted else ENGINES:
        failure = _failure(engine)
        if failure is None:
            return engine
        failures.append(failure)
    raise MissingError("; ".join(failures), remedy="apt-get install runc")


@functools.cache
def _failure(engine: str) -> str | None:
    """Why an engine does not work here, None where it does."""
    if not shutil.which(engine):
        return f"{engine} is not installed"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        (root / "program").touch(0o755)
        fence = Fence(root, ("/program",), (), "/", 0, 0, user_namespace=False)
        container = Container(fence, Path(folder), engine)
        try:
            container.create()
        except EngineError as error:
            return f"{engine} does not work here: {error.what}"
        finally:
            container.remove()
            container.output.close()
    return None
