"""A full disk: a small tmpfs that is filled, and emptied again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.watch.ledger.record import Record, decode
from ringfence.watch.ledger.segments import segments
from ringfence.watch.ledger.tail import NotWritten
from ringfence.watch.ledger.writer import Ledger
from tests.unit.watch.ledgers import KEY, checked

pytestmark = pytest.mark.system


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def subjects(path: Path) -> list[str]:
    lines = (decode(data[:-1]) for item in segments(path) for data in item.lines())
    return [line.subject for line in lines if isinstance(line, Record)]


def fill(ledger: Ledger, given: list[str]) -> None:
    """Append until the disk refuses."""
    for number in range(10_000):
        subject = f"{len(given)}-{number}"
        try:
            ledger.append("event", subject, {"x": "y" * (number * 37 % 3000)})
        except NotWritten:
            return
        given.append(subject)
    raise AssertionError("the disk was never full")


@pytest.mark.parametrize("segment_bytes", [1 << 20, 20_000])
def test_a_full_disk_breaks_nothing(disk: Path, segment_bytes: int) -> None:
    """Within a segment, and where a new one does not fit any more."""
    ballast = [disk / f"ballast-{number}" for number in range(6)]
    for item in ballast:
        item.write_bytes(b"x" * 24_000)
    ledger = Ledger.open(disk / "log", KEY, segment_bytes=segment_bytes)
    given: list[str] = []
    for item in ballast:
        fill(ledger, given)
        for _ in range(3):
            with pytest.raises(NotWritten, match="no space left"):
                ledger.append("event", "too much", {"x": "y" * 9000})
        assert checked(disk / "log").broken is None
        item.unlink()
        ledger.append("event", "room again")
        given.append("room again")
    ledger.close()
    verdict = checked(disk / "log")
    assert verdict.broken is None
    assert any("no space left" in note for note in verdict.notes)
    found = subjects(disk / "log")
    assert "too much" not in found
    assert [item for item in found if item not in ("opened", "refused", "closed")] == given
    assert found.count("refused") >= 6


def test_a_full_disk_at_the_start(disk: Path) -> None:
    """Nothing is there, and later all is well."""
    ledger = Ledger.open(disk / "log", KEY)
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    with pytest.raises(NotWritten, match="no space left"):
        ledger.append("event", "too early")
    assert [item.name for item in (disk / "log").iterdir()] == ["lock"]
    ballast.unlink()
    assert ledger.append("event", "now") == 2
    ledger.close()
    assert subjects(disk / "log") == ["opened", "refused", "now", "closed"]
    assert checked(disk / "log").broken is None
