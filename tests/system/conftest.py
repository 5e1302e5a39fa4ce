"""What system tests stand on: root, real programs, a Debian root file system kept in a cache."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("RINGFENCE_CACHE", "/var/cache/ringfence"))


@pytest.fixture(scope="session", autouse=True)
def root() -> None:
    """System tests read other users' processes and start containers."""
    if os.getuid() != 0:
        pytest.skip("system tests need root")


@pytest.fixture(scope="module", autouse=True)
def no_objects_left() -> Iterator[None]:
    """System V objects outlive whoever made them: no module's tests may leave one, which a leftover
    server would have, too."""
    before = _objects()
    yield
    assert _objects() <= before


def _objects() -> set[tuple[str, str]]:
    """Kind and identifier of each System V object of this namespace (sysvipc(7))."""
    return {
        (kind, line.split()[1])
        for kind in ("shm", "sem", "msg")
        for line in Path("/proc/sysvipc", kind).read_text().splitlines()[1:]
    }


def program(name: str) -> str:
    """The path of a program that `make test` installs; in CI its absence is a failure."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None and os.environ.get("CI"):
        raise AssertionError(f"{name} is not installed: tools/install.sh services should")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="session")
def rootfs_tar() -> Path:
    """A Debian root file system with nginx-light, made once."""
    program("mmdebstrap")
    tar = CACHE / "nginx.tar"
    if not tar.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = CACHE / f"nginx.{os.getpid()}.tar"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=essential", "--include=nginx-light",
             "bookworm", str(part)],
            check=True,
        )  # fmt: skip
        part.replace(tar)
    return tar


@pytest.fixture(scope="session")
def rootfs(rootfs_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, unpacked."""
    place = tmp_path_factory.mktemp("rootfs")
    place.chmod(0o755)
    subprocess.run(["tar", "-xf", str(rootfs_tar), "-C", str(place)], check=True)
    return place


def open_to_others(place: Path) -> None:
    """A folder for tests that other users may pass into, with those above it that pytest made."""
    place.chmod(0o755)
    for folder in place.parents:
        if not folder.name.startswith(("pytest-", "popen-")):
            break
        folder.chmod(0o755)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, list[int]]]:
    """nginx of Debian's package on two ports of loopback: the master's PID, and the ports."""
    place = tmp_path_factory.mktemp("nginx")
    open_to_others(place)
    ports = [free_port(), free_port()]
    listen = "".join(f"listen 127.0.0.1:{port};" for port in ports)
    temporary = "".join(
        f"{kind}_temp_path {place}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = place / "nginx.conf"
    configuration.write_text(
        f"user www-data; pid {place}/pid; error_log {place}/error.log;"
        "worker_processes 2; events {}"
        f"http {{ access_log off; {temporary} server {{ {listen} root {place}; }} }}"
    )
    subprocess.run([program("nginx"), "-c", str(configuration)], check=True)
    pid = wait_for_pid(place / "pid")
    wait_for_children(pid, 2)
    yield pid, ports
    os.kill(pid, signal.SIGQUIT)
    wait_for_end(pid)


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """redis-server of Debian's package on loopback: its PID and port."""
    place = tmp_path_factory.mktemp("redis")
    port = free_port()
    process = subprocess.Popen(
        [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1",
         "--save", "", "--dir", str(place)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_port(port)
    yield process.pid, port
    process.terminate()
    process.wait(timeout=10)


@contextlib.contextmanager
def python_process(code: str) -> Iterator[int]:
    """The PID of a Python process that has run `code` and waits; killed afterwards."""
    text = f"{code}\nprint('ready', flush=True)\nimport time; time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def wait_for_pid(path: Path) -> int:
    """The PID that a daemon writes, once it has."""
    for _ in range(250):
        if path.exists() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError(f"{path} was not written")


def wait_for_children(pid: int, count: int) -> None:
    """Until a process has so many children, each with a user and program of its own."""
    for _ in range(250):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        titles = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
        if len(titles) == count and all(b"worker" in title for title in titles):
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} does not have {count} workers")


def wait_for_port(port: int) -> None:
    """Until something listens on a port of loopback."""
    for _ in range(250):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")


def wait_for_end(pid: int) -> None:
    """Until a process that is not our child is gone."""
    for _ in range(250):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} did not end")
