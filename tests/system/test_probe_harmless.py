"""Before and after the whole battery: the same files, the same processes, the same answers."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.collect.seccomp.tables import native_calls
from ringfence.knowledge.loader import load
from ringfence.probe.probing import INJECT, JOIN, probe_process
from tests import seccomp
from tests.system import containers
from tests.system.conftest import open_to_others, program

pytestmark = pytest.mark.system
KNOWLEDGE = load()
SETTINGS = ("/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/fs", "/proc/sys/user", "/proc/sys/net")
MOVING = ("random/", "fs/dentry-state", "fs/inode", "fs/file-nr", "fs/aio-nr", "ns_last_pid",
          "nf_conntrack_count", "keys/", "quota/", "tcp_fastopen_key", "core_uses", "pty/nr",
          "hotplug_parallel", "rtsig", "epoll", "seccomp/", "stat_refresh")  # fmt: skip
"""Settings that count, or that cannot be read without doing something."""
SHOWN = ("Name", "Uid", "Gid", "CapEff", "Seccomp", "TracerPid", "SigCgt", "Threads")
ASK = """
import socket
s = socket.create_connection(("127.0.0.1", 8080))
s.sendall(b"GET /none HTTP/1.0\\r\\n\\r\\n")
print(s.recv(4096).split(b"\\r\\n")[0])
"""


@pytest.fixture(scope="module")
def container(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """nginx in runc with an engine's defaults, on a tree of its own."""
    program("runc")
    place = tmp_path_factory.mktemp("bundles")
    open_to_others(place)
    (place / "nginx.conf").write_text(containers.NGINX)
    config = containers.engine_defaults(rootfs, place / "nginx.conf")
    with containers.running(containers.bundle(place / "b", config)) as (_, pid):
        yield pid


def files(root: Path) -> dict[str, tuple[object, ...]]:
    """Every file below: type, owner, times of change, and content of the smaller ones. A folder's
    times tell that a temporary file was in it: what is in it is compared instead."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            if path.parts[4:5] and path.parts[4] in ("proc", "sys"):
                continue
            info = path.lstat()
            body = b""
            if path.is_file() and not path.is_symlink() and info.st_size < 1 << 16:
                body = hashlib.sha256(path.read_bytes()).digest()
            times = (info.st_size, info.st_mtime_ns, info.st_ctime_ns)
            kept = () if path.is_dir() and not path.is_symlink() else times
            found[str(path)] = (info.st_mode, info.st_uid, info.st_gid, info.st_rdev, kept, body)
    return found


def settings() -> dict[str, bytes]:
    """Kernel settings, but those that count."""
    found: dict[str, bytes] = {}
    for place in SETTINGS:
        for folder, _, names in os.walk(place):
            for name in names:
                path = f"{folder}/{name}"
                if any(word in path for word in MOVING):
                    continue
                try:
                    found[path] = Path(path).read_bytes()
                except OSError:
                    continue
    return found


def host() -> dict[str, object]:
    """What the battery could have changed of this host."""
    ipc = [Path(f"/proc/sysvipc/{name}").read_text() for name in ("shm", "sem", "msg")]
    rules = subprocess.run([program("nft"), "list", "ruleset"], capture_output=True, check=True)
    links = subprocess.run([program("ip"), "-o", "link"], capture_output=True, check=True)
    policies = subprocess.run([program("ip"), "xfrm", "policy"], capture_output=True, check=False)
    return {
        "mounts": [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if not line.split()[4].startswith(("/tmp/", "/var/tmp/", "/run/"))
        ],
        "swaps": Path("/proc/swaps").read_text(),
        "name": os.uname().nodename,
        "ipc": ipc,
        "rules": rules.stdout,
        "links": links.stdout,
        "policies": policies.stdout,
        "passwd": Path("/etc/passwd").read_bytes(),
        "shm": sorted(os.listdir("/dev/shm")),
        "queues": sorted(os.listdir("/dev/mqueue")) if Path("/dev/mqueue").is_dir() else [],
        "settings": settings(),
    }


def processes(pid: int) -> list[str]:
    """The container's processes, as they show themselves."""
    found = []
    queue = [pid]
    while queue:
        one = queue.pop()
        children = Path(f"/proc/{one}/task/{one}/children").read_text().split()
        queue += [int(child) for child in children]
        state = Path(f"/proc/{one}/status").read_text()
        kept = [line for line in state.splitlines() if line.split(":")[0] in SHOWN]
        found.append(f"{one} {kept} {sorted(os.listdir(f'/proc/{one}/fd'))}")
    return sorted(found)


def answer(pid: int) -> bytes:
    """A page of the service, asked from inside its network namespace."""
    words = [program("nsenter"), "-t", str(pid), "-n", "python3", "-c", ASK]
    return subprocess.run(words, capture_output=True, check=True).stdout


@pytest.mark.parametrize("stance", [JOIN, INJECT])
def test_nothing_is_left_behind(container: int, stance: str) -> None:
    def state() -> tuple[object, ...]:
        return (
            files(Path(f"/proc/{container}/root")),
            host(),
            processes(container),
            answer(container),
        )

    # Once beforehand: what a first probing loads or a first answer allocates is not its effect.
    probe_process(container, KNOWLEDGE, stance=stance)
    time.sleep(0.2)
    before = state()
    report = probe_process(container, KNOWLEDGE, stance=stance).report
    after = state()
    assert report.counts["open"] > 100
    for one, two in zip(before, after, strict=True):
        if isinstance(one, dict) and isinstance(two, dict):
            assert {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)} == set()
        assert one == two


def test_policies_of_ipsec_stay() -> None:
    """A request with another number would flush them: set one up in a namespace, and look."""
    name = f"rf{os.getpid()}"
    ip = program("ip")
    subprocess.run([ip, "netns", "add", name], check=True)
    inside = [ip, "netns", "exec", name]
    try:
        add = "xfrm policy add src 10.9.0.0/24 dst 10.9.1.0/24 dir out action block"
        subprocess.run([*inside, ip, *add.split()], check=True)
        process = subprocess.Popen([*inside, program("sleep"), "300"])
        try:
            time.sleep(0.2)
            report = probe_process(process.pid, KNOWLEDGE).report
            seen = {item.id: item.seen for item in report.attempts}
            kept = subprocess.run([*inside, ip, "xfrm", "policy"], capture_output=True, text=True)
        finally:
            process.kill()
            process.wait()
    finally:
        subprocess.run([ip, "netns", "del", name], check=True)
    assert "10.9.0.0/24" in kept.stdout
    assert seen["kernel.xfrm"] == "open"


def test_a_service_on_a_socket_is_told_nothing(tmp_path: Path) -> None:
    """A listener on loopback sees a connection at most, and no byte."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(0.5)
        process = subprocess.Popen([program("sleep"), "300"])
        try:
            probe_process(process.pid, KNOWLEDGE)
        finally:
            process.kill()
            process.wait()
        heard = b""
        while True:
            try:
                peer, _ = door.accept()
            except TimeoutError:
                break
            with peer:
                peer.settimeout(0.5)
                heard += peer.recv(100)
    assert heard == b""


def test_secrets_are_counted_not_kept() -> None:
    words = [program("sleep"), "300"]
    process = subprocess.Popen(words, env={"DB_PASSWORD": "do-not-print-me"})
    try:
        report = probe_process(process.pid, KNOWLEDGE).report
    finally:
        process.kill()
        process.wait()
    seen = {item.id: item for item in report.attempts}
    assert seen["information.environment-secrets"].seen == "open"
    assert "do-not-print-me" not in repr(report)


@pytest.mark.parametrize("name", ["unlinkat", "mq_unlink", "shmctl", "msgctl", "close"])
def test_a_filter_that_forbids_undoing_leaves_nothing_either(name: str) -> None:
    """What an attempt makes is taken back whether its filters permit that, or kill for it."""
    number = native_calls()[name]
    kill = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x80000000),
            (0x06, 0, 0, 0x7FFF0000)]  # fmt: skip
    for program_ in (seccomp.native_refusing(number), kill):
        before = host()
        with seccomp.child(functools.partial(seccomp.install, program_)) as pid:
            probe_process(pid, KNOWLEDGE)
        after = host()
        assert {key for key in before if before[key] != after[key]} == set()
        assert not [entry for place in ("/tmp", "/dev/shm", "/var/tmp", "/run")
                    for entry in os.listdir(place) if entry.startswith(".ringfence-")]  # fmt: skip
