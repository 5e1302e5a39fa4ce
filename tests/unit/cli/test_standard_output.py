"""Standard output as callers give it: without a reader, closed, full, in an encoding of theirs."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SERVER = str(ROOT / "examples" / "1-general-purpose-server.toml")
MEASURE = ("measure", SERVER, "--no-plan", "--format", "json")
WORDS = (
    MEASURE, ("compare", SERVER, "--targets-only", "--no-plan"), ("explain",), ("schema",),
    ("--version",), ("--help",), ("measure", "--help"), ("watch", "log", "--help"),
)  # fmt: skip
"""Commands that print by `put`, and what click prints."""
PASSED = (*MEASURE, "--fail-on", "surface>1")
"""A measurement whose surface is 16."""
HELD = (*MEASURE, "--fail-on", "surface>1000")
NAME = "\u00fc\u6f22"


def ended(words: tuple[str, ...], stdout: int, **environment: str) -> tuple[int, str]:
    """Exit code and standard error of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "ringfence", *words], stdout=stdout, stderr=subprocess.PIPE,
        text=True, check=False, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip
    return done.returncode, done.stderr


@contextlib.contextmanager
def without_reader() -> Iterator[int]:
    """The writing end of a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_reader_that_has_gone_is_no_error(words: tuple[str, ...]) -> None:
    with without_reader() as pipe:
        assert ended(words, pipe) == (0, "")


def test_a_limit_is_kept_or_passed_whoever_reads() -> None:
    with without_reader() as pipe:
        assert ended(HELD, pipe) == (0, "")
        code, told = ended(PASSED, pipe)
    assert code == 1 and told.startswith("ringfence: limit passed: ")


def test_a_limit_that_was_passed_counts_where_nobody_hears_it() -> None:
    def code(words: tuple[str, ...], pipe: int) -> int:
        return subprocess.run(
            [sys.executable, "-m", "ringfence", *words],
            stdout=subprocess.DEVNULL, stderr=pipe, check=False, timeout=60,
        ).returncode  # fmt: skip

    with without_reader() as pipe:
        assert [code(words, pipe) for words in (PASSED, HELD, ("explain", "nothing"))] == [1, 0, 2]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
@pytest.mark.parametrize(
    ("place", "why"), [(">&-", "bad file descriptor"), (">/dev/full", "no space left on device")]
)
def test_what_cannot_be_printed_is_said(words: tuple[str, ...], place: str, why: str) -> None:
    command = ["bash", "-c", f'"$@" {place}', "bash", sys.executable, "-m", "ringfence", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    said = f"ringfence: standard output: cannot be written: {why}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


@pytest.fixture
def named(tmp_path: Path) -> str:
    """A deployment whose name has a letter of Latin-1 and one that only Unicode has."""
    design = tmp_path / "named.toml"
    text = Path(SERVER).read_text()
    assert "general-purpose server" in text
    design.write_text(text.replace("general-purpose server", NAME), encoding="utf-8")
    return str(design)


@pytest.mark.parametrize("form", ["terminal", "json", "markdown"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_file_gets_utf8_whatever_the_locale(
    form: str, encoding: str, named: str, tmp_path: Path
) -> None:
    words = ("measure", named, "--no-plan", "--format", form)
    with open(tmp_path / "printed", "wb") as file:
        assert ended(words, file.fileno(), PYTHONIOENCODING=encoding) == (0, "")
    assert ended((*words, "-o", str(tmp_path / "written")), 2) == (0, "")
    printed = (tmp_path / "printed").read_bytes()
    assert printed == (tmp_path / "written").read_bytes()
    assert NAME in printed.decode("utf-8")
    if form == "json":
        assert json.loads(printed)["target"]["name"] == NAME


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", rb"\xfc\u6f22 (declared)"), ("latin-1", b"\xfc\\u6f22 (declared)"),
     ("utf-8", f"{NAME} (declared)".encode())],
)  # fmt: skip
def test_a_terminal_gets_its_own_encoding(encoding: str, shown: bytes, named: str) -> None:
    ours, theirs = pty.openpty()
    words = ("measure", named, "--no-plan")
    process = subprocess.Popen(
        [sys.executable, "-m", "ringfence", *words], stdout=theirs, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": encoding, "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # EIO: the last writer has closed the terminal
        while part := os.read(ours, 65536):
            seen += part
    os.close(ours)
    assert process.stderr is not None
    assert (process.wait(60), process.stderr.read()) == (0, b"")
    process.stderr.close()
    assert shown in seen
