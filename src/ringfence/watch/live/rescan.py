"""A full check in a process of its own, beside the events, and what it found that is news."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from ringfence.watch.baseline.result import Item, Report
from ringfence.watch.baseline.targets import Target
from ringfence.watch.live.told import EVENT, Told, finding

MOST_REMEMBERED = 500_000
MOST_COMPLAINT = 4096
MISSED = (
    "events do not tell of: changes before the start, writes through a mapping and asynchronous "
    "ones until the file is closed, changes through other names of a file (hard links) or through "
    "descriptors without one, changes below the file system or through other mounts of it, and "
    "what an overflow lost"
)


class Rescan:
    """One check on its way, since `began` (CLOCK_MONOTONIC, seconds)."""

    def __init__(self, reason: str, words: list[str], number: int) -> None:
        self.reason = reason
        self.began = time.monotonic()
        self.name = f"full check {number} ({reason})"
        self._out, self._complaints = _in_memory("report"), _in_memory("complaints")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ringfence", "watch", "check", "--format", "json", *words],
            stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._complaints,
        )  # fmt: skip

    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def result(self) -> Report | str:
        """What it reported, or why there is no report. Once."""
        with self._complaints as file:
            file.seek(0)
            complaint = file.read(MOST_COMPLAINT)
        with self._out as file:
            file.seek(0)
            data = file.read()
        if self._process.returncode not in (0, 1):
            return complaint.decode("utf-8", "replace").strip() or "it was killed"
        try:
            return msgspec.json.decode(data, type=Report)
        except msgspec.DecodeError as error:
            return f"its report makes no sense: {error}"

    def stop(self) -> None:
        """End it."""
        if not self.ended():
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._complaints.close()
        self._out.close()


class News:
    """What was told of each path last, so that the same finding is told once."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}

    def is_news(self, path: str, verdict: str, item: Item | None) -> bool:
        """Whether this differs from what was told of the path last. Remembers it."""
        mark = hash((verdict, repr(item.attributes) if item else ""))
        told = self._last.get(path)
        if told is not None and told[0] == mark:
            return False
        if len(self._last) >= MOST_REMEMBERED:
            self._last.clear()
        self._last[path] = mark, time.monotonic()
        return True

    def settle(self, report: Report, began: float) -> None:
        """Forget what a check that began then (CLOCK_MONOTONIC, seconds) found as it is in the
        baseline: should it come to differ again, that is news. Of what was told since, the check
        may have looked before it came."""
        unseen = {item.path.rstrip("/") for item in report.unseen}
        differing = {
            item.path for items in (report.added, report.removed, report.changed) for item in items
        }
        for path, (_, when) in list(self._last.items()):
            if when < began and path not in differing and not _within(path, unseen):
                del self._last[path]


def _within(path: str, places: set[str]) -> bool:
    """Whether it is one of them, or below one."""
    if not places:
        return False
    while path and path not in places:
        path = path.rpartition("/")[0]
    return path in places


def _in_memory(name: str) -> BinaryIO:
    """A file, for nobody reads a pipe before the check has ended; in memory, so that a full disk,
    or a unit that may write nowhere, keeps no check from being made. `result` or `stop` closes
    it."""
    return os.fdopen(os.memfd_create(f"ringfence-{name}", os.MFD_CLOEXEC), "w+b")


def command_words(words: tuple[str, ...], baseline: Path, public_key: Path, kind: str) -> list[str]:
    """The words of `watch check` for the target of this run."""
    found = ["--baseline", os.fspath(baseline), "--public-key", os.fspath(public_key)]
    return [*(["--kind", kind] if kind else []), *found, "--", *words]


def begun(target: Target, rescan: Rescan) -> Told:
    """The record of a check's start."""
    return Told(EVENT, target.name, {
        "event": "rescan", "reason": rescan.reason, "by": rescan.name, "why": MISSED,
    })  # fmt: skip


def findings(report: Report, news: News, name: str, began: float) -> Iterator[Told]:
    """A record for everything that differs and was not told so already; see `News.settle`."""
    news.settle(report, began)
    for verdict in ("added", "removed", "changed"):
        for item in getattr(report, verdict):
            if news.is_news(item.path, verdict, item):
                yield finding(verdict, item, name)


def summary(target: Target, report: Report | str, name: str, told: int) -> Told:
    """The record of a check's end."""
    detail: dict[str, object] = {"event": "full-check", "by": name}
    if isinstance(report, str):
        detail |= {"verdict": "failed", "why": report}
    else:
        differing = len(report.added) + len(report.removed) + len(report.changed)
        detail |= {
            "verdict": "unchanged" if report.same else "differs",
            "found": differing, "records": told, "entries": report.checked.entries,
            "unseen": len(report.unseen),
        }  # fmt: skip
    return Told(EVENT, target.name, detail)
