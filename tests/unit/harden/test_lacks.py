"""What a traced run lacked, told in lines that whoever was traced does not make up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from ringfence.errors import InputError
from ringfence.harden import lacks as module
from ringfence.harden.lacks import lacks
from ringfence.harden.result import read_left_out
from ringfence.run.tracing import LOG


def told(place: Path, path: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """What is said of a service that wrote to a path, used a program and looked for a file."""
    report = SimpleNamespace(calls={}, taken=())
    monkeypatch.setattr(module, "read_report", lambda result: report)
    (place / "root").mkdir()
    (place / "left-out.txt").write_bytes(path + b"/kept\n")
    text = "".join(f"\\{byte:03o}" for byte in b"/" + path)
    lines = (
        '7 1.0 execve("/x", ["x"], 0x7f /* 1 var */) = 0',
        f'7 1.1 openat(AT_FDCWD</>, "{text}/n", O_WRONLY|O_CREAT, 0600) = -1 EROFS (Read-only)',
        f'7 1.2 execve("{text}/x", [], 0x7f /* 0 vars */) = -1 EACCES (Permission denied)',
        f'7 1.3 openat(AT_FDCWD</>, "{text}/kept", O_RDONLY) = -1 ENOENT (No such file)',
        f'7 1.4 openat(AT_FDCWD</>, "{text}/other", O_RDONLY) = -1 ENOENT (No such file)',
    )
    log = "".join(f"{line}\n" for line in lines)
    (place / LOG).write_text(log)
    return lacks(place, place, place / "root", "/")


def words(line: str) -> bytes:
    """What bash makes of the end of a line."""
    done = subprocess.run(
        ["bash", "-c", f"printf %s {line.rpartition(' ')[2]}"], capture_output=True, check=True
    )
    return done.stdout


def test_plain_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(tmp_path, b"srv", monkeypatch) == (
        "it could not write /srv/n (EROFS): ringfence harden ... --writable /srv",
        "its user may not use /srv/x (execve: EACCES)",
        "it looked for /srv/kept, which was left out: ringfence harden ... --keep /srv/kept",
    )


@pytest.mark.parametrize(
    "path",
    [b"a$(id)", b"a;id", "\u00e4'\"`".encode(), b"a\\nb'$x\x1b[1m", b"\xff1\x7f2", b"-\x01f\\",
     "\u202eb".encode(), b"a\rringfence:"],
)  # fmt: skip
def test_paths_that_a_shell_or_a_terminal_would_take_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: bytes
) -> None:
    lines = told(tmp_path, path, monkeypatch)
    assert all(line.isprintable() for line in lines)
    assert words(lines[0]) == b"/" + path
    if path.decode("utf-8", "replace").isprintable():
        assert words(lines[2]) == b"/" + path + b"/kept"


@pytest.mark.parametrize("path", [b"a\rb", b"a\x0bb", "a\u2028b".encode(), b"\xffb"])
def test_a_name_with_what_ends_a_line_elsewhere_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: bytes
) -> None:
    *_, last = told(tmp_path, path, monkeypatch)
    assert last.startswith("it looked for ") and "which was left out" in last


def test_what_was_left_out_is_read_from_a_plain_file_alone(tmp_path: Path) -> None:
    """A result that somebody else made: a FIFO would hold us up for ever."""
    os.mkfifo(tmp_path / "left-out.txt")
    with pytest.raises(InputError, match="left-out"):
        read_left_out(tmp_path)


def test_a_line_break_in_a_path_makes_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = b"x\nringfence: run --allow all"
    lines = told(tmp_path, path, monkeypatch)
    assert len(lines) == 2 and all(line.isprintable() for line in lines)
    assert lines[0].endswith(r"--writable $'/x\x0aringfence: run --allow all'")


def of(place: Path, monkeypatch: pytest.MonkeyPatch, left_out: str, *lines: str) -> tuple[str, ...]:
    report = SimpleNamespace(calls={}, taken=())
    monkeypatch.setattr(module, "read_report", lambda result: report)
    (place / "root/app").mkdir(parents=True)
    (place / "root/app/app.py").touch()
    (place / "left-out.txt").write_text(left_out)
    begin = '7 1.0 execve("/x", ["x"], 0x7f /* 1 var */) = 0'
    (place / LOG).write_text("".join(f"{line}\n" for line in (begin, *lines)))
    return lacks(place, place, place / "root", "/")


def test_what_was_closed_for_one_reason_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f'7 1.1 openat(AT_FDCWD</>, "/{name}", O_WRONLY|O_CREAT, 0600) = -1 {error} (No)'
             for name, error in (("app/a", "EROFS"), ("app/b", "EROFS"), ("app/b", "EROFS"),
                                 ("app/c", "EACCES"), ("srv/d", "EROFS"))]  # fmt: skip
    assert of(tmp_path, monkeypatch, "", *lines) == (
        "it could not write /app/a and 1 more beside it (EROFS): "
        "ringfence harden ... --writable /app",
        "it could not write /app/c (EACCES): ringfence harden ... --writable /app",
        "it could not write /srv/d (EROFS): ringfence harden ... --writable /srv",
    )


def test_what_python_compiled_is_one_line_without_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = [f'7 1.1 openat(AT_FDCWD</>, "/{folder}/__pycache__/{name}.cpython-311.pyc.9", '
             "O_WRONLY|O_CREAT, 0600) = -1 EROFS (Read-only)"
             for folder in ("app", "lib") for name in ("a", "b")]  # fmt: skip
    cache.append('7 1.1 mkdir("/lib/more/__pycache__", 0777) = -1 EROFS (Read-only)')
    (line,) = of(tmp_path, monkeypatch, "", *cache)
    assert line.startswith("it could not write 5 files in 3 folders __pycache__ (EROFS)")
    assert "--writable" not in line


def test_names_that_a_folder_did_not_show_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python looks for no plugin whose folder it did not see beside the program."""
    left_out = "app/plugins/one.py\napp/plugins/two.py\napp/__pycache__/a.pyc\nlib/x\n"
    lines = ['7 1.1 getdents64(3</app>, 0x5 /* 3 entries */, 32768) = 80',
             '7 1.1 getdents64(3</app>, 0x5 /* 0 entries */, 32768) = 0']  # fmt: skip
    assert of(tmp_path, monkeypatch, left_out, *lines) == (
        "it read the names in /app without those that were left out: plugins: "
        "ringfence harden ... --keep /app/NAME",
    )


def test_a_folder_that_was_left_out_is_told_and_one_that_is_there_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f'7 1.1 newfstatat(AT_FDCWD</>, "/{path}", 0x7f, 0) = -1 ENOENT (No such file)'
             for path in ("app/plugins", "app/nothing", "app")]  # fmt: skip
    assert of(tmp_path, monkeypatch, "app/plugins/one.py\n", *lines) == (
        "it looked for /app/plugins, which was left out: ringfence harden ... --keep /app/plugins",
    )
