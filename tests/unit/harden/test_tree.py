"""Paths are looked up as the service sees them, and never lead out of the root."""

from __future__ import annotations

from pathlib import Path

from ringfence.harden.tree import NOWHERE
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


def test_too_many_links_lead_nowhere_and_not_out_of_the_root(tmp_path: Path) -> None:
    """The kernel follows 40: what is beyond must not be left to it, outside of our root."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "key").write_text("secret")
    chain = {f"s{number}": f"s{number + 1}" for number in range(41)}
    tree = planted(tmp_path / "root", {"in/key": "ours"}, {**chain, "s41": str(outside)})
    for path in ("s0", "s0/key", "s1/key"):
        assert tree.resolve(path) == (NOWHERE, ())
        assert tree.status(tree.resolve(path)[0]) is None
        assert tree.names(path) == [] and list(tree.below(path)) == []
        assert tree.read(path) == b"" and tree.matching(f"{path}/*") == []
    short = planted(tmp_path / "short", {"in/key": "ours"}, {"s0": "s1", "s1": "in"})
    assert short.resolve("s0/key") == ("in/key", ("s0", "s1"))
    assert short.read("s0/key") == b"ours"
