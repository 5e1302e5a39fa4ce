"""Paths are looked up as the service sees them, and never lead out of the root."""

from __future__ import annotations

from pathlib import Path

from tests.unit.harden.trees import planted


def test_absolute_links_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    tree = planted(root, {"usr/lib/x.so": "library"}, {"lib": "/usr/lib", "up": "../../secret"})
    assert tree.resolve("/lib/x.so") == ("usr/lib/x.so", ("lib",))
    assert tree.read("lib/x.so") == b"library"
    assert tree.resolve("up")[0] == "secret"
    assert tree.read("up") == b""


def test_loops_end(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"a/file": ""}, {"a/b": "../a/b"})
    assert not tree.is_file("a/b/x")
    assert tree.read("a/b") == b""


def test_dots_and_what_is_not_there(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"etc/nginx/nginx.conf": "x"})
    assert tree.resolve("/etc/./nginx/../nginx/nginx.conf")[0] == "etc/nginx/nginx.conf"
    assert tree.resolve("../../etc/none")[0] == "etc/none"
    assert not tree.is_file("etc/nginx")
    assert tree.is_folder("etc/nginx")


def test_patterns_match_as_a_shell_does(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"etc/a/1.conf": "", "etc/a/2.conf": "", "etc/a/.3.conf": ""})
    assert tree.matching("/etc/*/*.conf") == ["etc/a/1.conf", "etc/a/2.conf"]
    assert tree.matching("/etc/a/none.conf") == []


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    tree = planted(tmp_path, {})
    assert tree.read("pipe") == b""


def test_programs_are_found_as_a_shell_finds_them(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"usr/bin/tool*": "", "usr/bin/data": ""}, {"bin": "usr/bin"})
    assert tree.program("tool") == "usr/bin/tool"
    assert tree.program("/bin/tool") == "bin/tool"
    assert tree.program("data") is None
