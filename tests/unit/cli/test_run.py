"""The words that `ringfence run` takes: those that make no sense end with one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.run import engine, result
from ringfence.run.fence import Volume
from ringfence.run.result import Options
from tests.command import ringfence


class Taken(Exception):
    """All words made sense; what came of them."""


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def ready(folder: Path, options: Options) -> None:
        raise Taken(options)

    monkeypatch.setattr(engine, "check_root", lambda: None)
    monkeypatch.setattr(result, "ready", ready)


def options(*words: object) -> Options:
    """What `run` is to do."""
    with pytest.raises(Taken) as taken:
        ringfence("run", "result", *words)
    found = taken.value.args[0]
    assert isinstance(found, Options)
    return found


@pytest.mark.parametrize(
    ("text", "size"),
    [("6m", 6 << 20), ("6291456", 6 << 20), ("512M", 512 << 20), ("2147483648g", 1 << 61)],
)
def test_a_limit_of_memory(text: str, size: int) -> None:
    assert options("--memory", text).memory == size


@pytest.mark.parametrize(
    "text",
    ["0", "0g", "1", "6291455", "-1", "5m", "2147483649g", "99999999999999g", "9" * 5000, "m",
     "1t", "\u0661\u0662g", "1\u212a", ""],
)  # fmt: skip
def test_no_limit_of_memory(text: str) -> None:
    done = ringfence("run", "result", "--memory", text)
    assert done.code == 2 and "is no size" in done.err and "--memory 512m" in done.err


@pytest.mark.parametrize("count", [16, 512, 1 << 22])
def test_a_limit_of_processes(count: int) -> None:
    assert options("--pids", count).processes == count


@pytest.mark.parametrize("text", ["0", "-1", "1", "15", str((1 << 22) + 1), "many"])
def test_no_limit_of_processes(text: str) -> None:
    done = ringfence("run", "result", "--pids", text)
    assert done.code == 2 and "--pids" in done.err


def test_volumes(tmp_path: Path) -> None:
    words = [f"{tmp_path}:/data", f"{tmp_path}:/a//b/./c/../d/:ro", f"{tmp_path}:/e:rw"]
    assert options(*(word for text in words for word in ("-v", text))).volumes == (
        Volume(str(tmp_path), "data"),
        Volume(str(tmp_path), "a/b/d", read_only=True),
        Volume(str(tmp_path), "e"),
    )


@pytest.mark.parametrize(
    "place",
    ["", ":", ":/", ":/.", ":data", ":/../etc", ":/a/../../b", ":/data:", ":/data:z", ":/data:RO",
     ":/data:ro:ro", ":/data:ro,z", ":/a\0b", "/missing:/data"],
)  # fmt: skip
def test_no_volumes(tmp_path: Path, place: str) -> None:
    done = ringfence("run", "result", "-v", f"{tmp_path}{place}")
    assert done.code == 2 and "is no volume" in done.err and len(done.err.splitlines()) == 1


def test_a_volume_without_a_folder_of_this_host() -> None:
    assert "is no volume" in ringfence("run", "result", "-v", ":/data").err


@pytest.mark.parametrize(
    "text", ["80", "8080:80", "127.0.0.1:8080:80", "127.0.0.1:80", "[::1]:8080:80", "65535:1"]
)
def test_ports(text: str) -> None:
    assert options("-p", text)


@pytest.mark.parametrize(
    "text",
    ["", "0", "65536", "80:0", "0:80", "80:65536", "9" * 5000, "\u0663\u0660:80", "80:\u0668\u0660",
     "\u0661.1.1.1:80:80", "[::\u0661]:80:80", "-80", "80/tcp"],
)  # fmt: skip
def test_no_ports(text: str) -> None:
    done = ringfence("run", "result", "-p", text)
    assert done.code == 2 and "is no port" in done.err and "-p 8080:80" in done.err


def test_podman_is_not_traced() -> None:
    done = ringfence("run", "result", "--trace", "--engine", "podman")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--engine podman: cannot be traced" in done.err and "--engine runc" in done.err
    assert options("--trace", "--engine", "runc") and options("--engine", "podman")
