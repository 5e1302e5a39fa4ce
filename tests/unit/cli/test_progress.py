"""Progress: on a terminal's standard error, on long work, and gone afterwards."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ringfence.cli import progress as module
from ringfence.cli.progress import bar, progress

WORK = (
    "import time, sys\nfrom ringfence.cli import progress as p\np.PATIENCE = 0.05\n"
    "with p.progress('reading'): time.sleep({seconds})\nprint('result')\n"
)


def on_a_terminal(seconds: float, tmp_path: Path) -> str:
    """What a terminal on standard error sees."""
    ours, theirs = pty.openpty()
    out = (tmp_path / "out").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-c", WORK.format(seconds=seconds)], stdout=out, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert process.wait() == 0
    out.close()
    assert (tmp_path / "out").read_text() == "result\n"
    return seen.decode()


def test_long_work_shows_a_bar_and_takes_it_away(tmp_path: Path) -> None:
    seen = on_a_terminal(0.5, tmp_path)
    assert "reading" in seen
    assert seen.endswith("\x1b[K")


def test_short_work_shows_nothing(tmp_path: Path) -> None:
    assert on_a_terminal(0, tmp_path) == ""


def test_nothing_is_shown_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with progress("reading"):
        pass
    assert capsys.readouterr().err == ""


def test_the_bar_keeps_its_width() -> None:
    assert {len(bar(step)) for step in range(50)} == {22}
