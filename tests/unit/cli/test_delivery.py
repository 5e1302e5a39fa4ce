"""`-o`: a file whole or not at all, anything else as it is, and told before long work if not."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ringfence.cli.delivery import deliver, writable
from ringfence.errors import InputError
from tests.command import ringfence

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


def test_a_fifo_is_written_into_and_stays_one(tmp_path: Path) -> None:
    place = tmp_path / "fifo"
    os.mkfifo(place)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(place.read_bytes()), daemon=True)
    reader.start()
    deliver("text\n" * 50_000, place)
    reader.join(10)
    assert heard == [b"text\n" * 50_000]
    assert stat.S_ISFIFO(place.lstat().st_mode)
    assert os.listdir(tmp_path) == ["fifo"]


@ROOT_ONLY
@pytest.mark.parametrize("linked", [False, True])
def test_a_device_is_written_into_and_stays_one(linked: bool, tmp_path: Path) -> None:
    node = place = tmp_path / "nul"
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    if linked:
        place = tmp_path / "link"
        place.symlink_to("nul")
    done = ringfence("measure", "examples/1-general-purpose-server.toml", "-o", place)
    assert (done.code, done.out) == (0, "")
    assert stat.S_ISCHR(node.lstat().st_mode) and place.is_symlink() == linked


@ROOT_ONLY
def test_a_full_device_is_one_line(tmp_path: Path) -> None:
    place = tmp_path / "full"
    os.mknod(place, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    with pytest.raises(InputError, match="full: cannot be written: no space left on device"):
        deliver("text", place)


def test_a_file_is_replaced_and_a_link_to_one_is_not_followed(tmp_path: Path) -> None:
    place, other, link = tmp_path / "file", tmp_path / "other", tmp_path / "link"
    place.write_text("longer than what comes")
    place.chmod(0o600)
    other.write_text("kept")
    link.symlink_to(other)
    for one in (place, link, tmp_path / "new"):
        deliver("short", one)
        assert one.read_text() == "short" and not one.is_symlink()
    assert other.read_text() == "kept"


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_an_open_file_goes_on_at_its_end(name: str, tmp_path: Path) -> None:
    link = tmp_path / "stdout"
    link.symlink_to(name)
    program = "import sys, pathlib; from ringfence.cli.delivery import deliver;"
    program += "deliver('second\\n', pathlib.Path(sys.argv[1]))"
    with open(tmp_path / "file", "w+") as file:
        file.write("first\n")
        file.flush()
        subprocess.run([sys.executable, "-c", program, link], stdout=file, check=True, timeout=30)
        file.seek(0)
        assert file.read() == "first\nsecond\n"
    assert link.is_symlink()


def test_whoever_shares_the_output_goes_on_behind_it(tmp_path: Path) -> None:
    """A shell's `{ ...; ringfence ... -o /dev/stdout; ...; } > file` has one offset for all."""
    with open(tmp_path / "file", "w+") as file:
        place = Path(f"/dev/fd/{file.fileno()}")
        file.write("first\n")
        file.flush()
        deliver("second\n", place)
        file.write("third\n")
        file.flush()
        file.seek(0)
        assert file.read() == "first\nsecond\nthird\n"


def test_a_socket_can_be_named_and_a_descriptor_for_reading_is_refused(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        place = Path(f"/dev/fd/{ours.fileno()}")
        assert writable(None, None, place) == place  # type: ignore[arg-type]
        deliver("said", place)
        assert theirs.recv(16) == b"said"
    (tmp_path / "file").write_text("kept")
    with open(tmp_path / "file") as file:
        place = Path(f"/proc/self/fd/{file.fileno()}")
        with pytest.raises(InputError, match="bad file descriptor"):
            writable(None, None, place)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="bad file descriptor"):
            deliver("lost", place)
    assert (tmp_path / "file").read_text() == "kept"


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    for place, why in (("gone/x", "no such file"), (".", "is a directory")):
        done = ringfence("guest", "no-image", "-o", tmp_path / place)
        assert done.code == 2 and f"cannot be written: {why}" in done.err
    good = tmp_path / "x"
    done = ringfence("guest", "no-image", "-o", good)
    assert done.err.startswith("ringfence: no-image: ") and not good.exists()
    assert os.listdir(tmp_path) == []
    os.mkfifo(good)
    assert writable(None, None, good) == good  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (("probe", "no-target"), "no-target"),
        (("watch", "check", ".", "--baseline", "no-baseline", "--public-key", "no-key"), "no-key"),
    ],
    ids=("probe", "watch check"),
)
def test_other_commands_tell_it_before_their_work(
    words: tuple[str, ...], about: str, tmp_path: Path
) -> None:
    done = ringfence(*words, "-o", tmp_path / "gone" / "x")
    assert done.code == 2 and "cannot be written: no such file" in done.err
    done = ringfence(*words, "-o", tmp_path / "x")
    assert done.code != 0 and about in done.err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "words",
    [
        ("guest", "no-image", "--time", "nan"),
        ("watch", "run", "x", "--baseline", "x", "--public-key", "x", "--patience", "nan"),
        ("watch", "run", "x", "--baseline", "x", "--public-key", "x", "--full-every", "nan"),
        ("watch", "run", "x", "--baseline", "x", "--public-key", "x", "--full-every", "inf"),
        ("harden", "--wait", "nan"),
    ],
)
def test_seconds_that_are_no_number(words: tuple[str, ...]) -> None:
    done = ringfence(*words)
    assert done.code == 2 and f"{words[-1]} is not a number of seconds" in done.err
    other = ringfence(*words[:-1], "2")
    assert other.code in (2, 3) and "number of seconds" not in other.err
