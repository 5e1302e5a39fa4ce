"""kill -9 of those who enforce, at random moments, while a foreign program tries to run all the
time: what docs/watch.md states under *When nobody decides*."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.system.watch_runs import Run

DECIDER, STANDBY = "ringfence.watch.live.decider", "ringfence.watch.live.standby"
TRYING = "while :; do if {evil}; then echo ran; else echo denied; fi; {good}; sleep 0.01; done"
LONGEST = 1.5
"""Seconds to a kill at most: some hit a decider that is only coming up."""
PATIENCE = 20.0


class Enforced:
    """Runs with `--enforce exec --when-gone RULE` on a tmpfs of the test's own, `target`."""

    def __init__(self, place: Path, target: Path, rule: str, chance: random.Random) -> None:
        self._chance = chance
        self._words = ("--enforce", "exec", "--when-gone", rule)
        self._denies = rule == "deny"
        shutil.copy("/bin/true", target / "good")
        self.run = Run(place, target)
        self.run.watched.init()
        shutil.copy("/bin/true", target / "evil")
        self._tried = place / "tried"
        self.kills = 0

    def decider_killed(self, times: int) -> None:
        """It is replaced each time; with `deny` nothing foreign ever runs meanwhile."""
        with self._running():
            for _ in range(times):
                self._wait()
                self._kill(DECIDER)
            self._until(lambda: not self._runs("evil") and self._runs("good"), "it did not return")

    def watcher_killed(self) -> None:
        """`deny`: decider and standby go on, also when that decider is killed. `allow`: both
        end."""
        with self._running():
            self._wait()
            self._kill_watcher()
            if self._denies:
                self._kill(DECIDER)
                self._until(lambda: self._runs("good"), "it did not return")
                self._until(lambda: not self._runs("evil"), "it does not decide")
            else:
                self._until(lambda: not self._alive(), "they did not end")
                assert self._runs("evil")

    def standby_killed(self) -> None:
        """`deny`: the decider goes on, until it is killed, too. `allow`: it ends. Then the kernel
        allows all."""
        with self._running() as end_of_denying:
            self._wait()
            self._kill(STANDBY)
            if self._denies:
                assert not self._runs("evil")
                assert self._runs("good")
                end_of_denying()
                self._kill(DECIDER)
            self._until(lambda: not self._alive(), "it did not end")
            assert self._runs("evil")

    def starting_killed(self) -> None:
        """The watcher is killed while enforcement comes up: it does, or all of it ends."""
        with self.run.running(*self._words, sign="start"):
            self._wait()
            self._kill_watcher()
            if self._denies:
                self._until(lambda: not self._runs("evil") and self._runs("good"), "it is not up")
            else:
                self._until(lambda: not self._alive(), "they did not end")
                assert self._runs("evil")

    @contextlib.contextmanager
    def _running(self) -> Iterator[Callable[[], None]]:
        """With enforcement on, and both programs tried all the time by a shell. With `deny` it is
        asserted that the foreign one never ran until the given function is called, or the end."""
        script = TRYING.format(
            evil=shlex.quote(f"{self.run.target}/evil"), good=shlex.quote(f"{self.run.target}/good")
        )
        done = False

        def end_of_denying() -> None:
            nonlocal done
            done = True
            tried = self._tried.read_text()
            assert "denied" in tried
            assert not self._denies or "ran" not in tried

        with self.run.running(*self._words, sign="enforce"), self._tried.open("wb") as tried:
            shell = subprocess.Popen(["/bin/sh", "-c", script], stdout=tried,
                                     stderr=subprocess.DEVNULL)  # fmt: skip
            try:
                self._until(lambda: self._tried.read_text().count("\n") > 2, "nothing was tried")
                yield end_of_denying
                if not done:
                    end_of_denying()
            finally:
                shell.kill()
                shell.wait()

    def _wait(self) -> None:
        time.sleep(self._chance.uniform(0, LONGEST))

    def _kill(self, module: str) -> None:
        """SIGKILL to the process of this run that runs `module`, as soon as there is one."""
        self._until(lambda: self.run.children(module), f"there is no {module}")
        for pid in self.run.children(module):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kills += 1

    def _kill_watcher(self) -> None:
        assert self.run.process is not None
        self.run.process.kill()
        self.run.process.wait()
        self.kills += 1

    def _alive(self) -> list[int]:
        return [*self.run.children(DECIDER), *self.run.children(STANDBY)]

    def _runs(self, name: str) -> bool:
        """Whether a program runs now. Raises TimeoutExpired where nobody answers."""
        command = ["/bin/sh", "-c", '"$0"', str(self.run.target / name)]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        return done.returncode == 0

    def _until(self, holds: Callable[[], object], why: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, why
            time.sleep(0.02)
