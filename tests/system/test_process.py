"""Live services: nginx and redis as Debian ships them, and small processes set up both ways."""

from __future__ import annotations

import json
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from ringfence.collect.process.credentials import capability_names
from ringfence.collect.targets import collect
from ringfence.knowledge.loader import load
from ringfence.measure.conditions.scene import is_admin
from ringfence.measure.deduce import entry_points
from ringfence.measure.judge import deployment_of
from ringfence.model.deployment import Reach
from ringfence.model.facts import Facts
from ringfence.model.need import State
from tests.command import ringfence
from tests.seccomp import child
from tests.system.conftest import free_port, program, python_process

pytestmark = pytest.mark.system
KNOWLEDGE = load()
NOBODY = 65534
SETS = {"CapEff": "effective", "CapPrm": "permitted", "CapBnd": "bounding",
        "CapInh": "inheritable", "CapAmb": "ambient"}  # fmt: skip


def facts(pid: int) -> Facts:
    return collect(str(pid), KNOWLEDGE)


def by_ss() -> dict[int, set[int]]:
    """Listening TCP port -> PIDs that hold it, as ss(8) sees it."""
    text = subprocess.run([program("ss"), "-ltnpH"], capture_output=True, text=True,
                          check=True).stdout  # fmt: skip
    found: dict[int, set[int]] = {}
    for line in text.splitlines():
        port = int(line.split()[3].rpartition(":")[2])
        found.setdefault(port, set()).update(map(int, re.findall(r"pid=(\d+)", line)))
    return found


def test_every_listening_socket_of_nginx_and_who_holds_it(nginx: tuple[int, list[int]]) -> None:
    pid, ports = nginx
    found = {item.port: item for item in facts(pid).listeners}
    oracle = by_ss()
    assert set(found) == set(ports)
    for port, item in found.items():
        assert port is not None
        assert set(item.holders) == oracle[port]


def test_workers_handle_the_bytes_and_the_master_does_not(nginx: tuple[int, list[int]]) -> None:
    pid, _ = nginx
    seen = facts(pid)
    workers = {process.pid for process in seen.processes[1:]}
    for point in deployment_of(seen, KNOWLEDGE).entry_points:
        assert point.handler.pid in workers
        assert point.handler.user == "www-data"
        assert point.reach is Reach.NEIGHBOUR


def test_users_and_capabilities_are_those_of_the_kernel(nginx: tuple[int, list[int]]) -> None:
    pid, _ = nginx
    master, *workers = facts(pid).processes
    assert len(workers) == 2
    for process in (master, *workers):
        status = Path(f"/proc/{process.pid}/status").read_text()
        credentials = process.credentials.value
        assert credentials is not None
        for field, name in SETS.items():
            mask = re.search(rf"^{field}:\s+([0-9a-f]+)$", status, re.MULTILINE)
            assert mask is not None
            assert getattr(credentials, name) == capability_names(int(mask[1], 16))
        uid = int(re.search(r"^Uid:\s+\d+\s+(\d+)", status, re.MULTILINE)[1])  # type: ignore[index]
        assert credentials.uid == uid
    assert master.credentials.value is not None
    assert master.credentials.value.user == "root"
    assert {w.credentials.value.user for w in workers if w.credentials.value} == {"www-data"}


def test_redis_and_its_one_user(redis: tuple[int, int]) -> None:
    pid, port = redis
    seen = facts(pid)
    (item,) = seen.listeners
    assert (item.port, item.holders, item.waiting) == (port, (pid,), (pid,))
    result = json.loads(ringfence("measure", pid, "--format", "json", "--no-plan").out)
    execution = next(v for v in result["vectors"] if v["id"].endswith(".execution"))
    assert execution["gives"]["level"] == "admin"
    assert result["zero_days_to_admin"]["system"] == 1


def as_nobody(pid: int) -> dict[str, Any]:
    """What `ringfence measure PID --format json` prints for an unprivileged user."""
    ours, theirs = os.pipe()
    running = os.fork()
    if running == 0:
        os.close(ours)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        done = ringfence("measure", pid, "--format", "json", "--no-plan")
        with os.fdopen(theirs, "w") as out:
            out.write(done.out if done.code == 0 else json.dumps({"code": done.code,
                                                                  "err": done.err}))  # fmt: skip
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as source:
        text = source.read()
    os.waitpid(running, 0)
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_user_without_root_gets_what_can_be_seen_and_is_told_the_rest(
    nginx: tuple[int, list[int]],
) -> None:
    pid, _ = nginx
    ours = json.loads(ringfence("measure", pid, "--format", "json", "--no-plan").out)
    theirs = as_nobody(pid)
    assert "code" not in theirs, theirs
    assert len(theirs["unseen"]) > len(ours["unseen"])
    assert theirs["evidence_coverage"]["observed"] < ours["evidence_coverage"]["observed"]
    counts = theirs["counts"], ours["counts"]
    assert [each["entry_points"]["at_least"] for each in counts] == [True, False]
    told = [item["what"] for item in theirs["unseen"] if item["what"].startswith("who listens at")]
    assert len(told) == 1
    assert any("entry points may be missing" in item["why"] for item in theirs["unseen"])
    # What could not be seen counts as open.
    before = set(ours["surface"]["by_attacker"])
    assert before == set(theirs["surface"]["by_attacker"])


def reach_of(pid: int) -> dict[str, Reach]:
    return {p.kind: p.reach for p in deployment_of(facts(pid), KNOWLEDGE).entry_points}


def test_where_a_socket_is_bound_decides_who_reaches_it() -> None:
    bind = "import socket; s = socket.socket(); s.bind(({!r}, 0)); s.listen()"
    for address, reach in (("127.0.0.1", Reach.NEIGHBOUR), ("0.0.0.0", Reach.INTERNET)):  # noqa: S104
        with python_process(bind.format(address)) as pid:
            assert reach_of(pid) == {"tcp": reach}


def test_a_bound_socket_that_does_not_listen_is_no_entry_point() -> None:
    with python_process("import socket; s = socket.socket(); s.bind(('127.0.0.1', 0))") as pid:
        assert facts(pid).listeners == ()


def test_udp_and_unix_sockets() -> None:
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import os, socket\nu = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "u.bind(('127.0.0.1', 0))\nx = socket.socket(socket.AF_UNIX)\n"
            f"x.bind({folder!r} + '/s'); x.listen(); os.chmod({folder!r} + '/s', 0o600)\n"
            "a = socket.socket(socket.AF_UNIX); a.bind('\\0ringfence-test'); a.listen()"
        )
        with python_process(code) as pid:
            found = facts(pid).listeners
    kinds = sorted(item.kind for item in found)
    assert kinds == ["udp", "unix", "unix"]
    modes = {item.path: item.mode for item in found if item.kind == "unix"}
    assert modes[f"{folder}/s"] is not None
    assert (modes[f"{folder}/s"] or 0) & 0o777 == 0o600
    assert [mode for path, mode in modes.items() if not path.startswith("/")] == [None]


def test_unix_sockets_that_take_datagrams_and_udp_lite() -> None:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import socket\n"
            "kept = []\n"
            "def bound(family, kind, protocol, *address):\n"
            "    kept.append(socket.socket(family, kind, protocol)); kept[-1].bind(*address)\n"
            "unix, datagrams = socket.AF_UNIX, socket.SOCK_DGRAM\n"
            f"bound(unix, datagrams, 0, {folder + '/log'!r})\n"
            "kept.append(socket.socket(unix, datagrams))\n"
            f"kept[-1].connect({folder + '/log'!r})\n"
            f"bound(unix, socket.SOCK_STREAM, 0, {folder + '/silent'!r})\n"
            f"bound(socket.AF_INET, datagrams, 136, ('127.0.0.1', {port}))\n"
        )
        with python_process(code) as pid:
            found = facts(pid).listeners
    assert {(item.kind, item.path, item.port) for item in found} == {
        ("unix", folder + "/log", None), ("udp", "", port),
    }  # fmt: skip


def test_sockets_that_no_table_lists_are_told_as_not_seen() -> None:
    code = "import socket\nkept = socket.socket({}, socket.SOCK_{})\n"
    xdp = 44  # AF_XDP of linux/socket.h, which Python has no name for
    for family, kind, told in (
        (xdp, "RAW", True),
        (int(socket.AF_VSOCK), "STREAM", False),
        (int(socket.AF_INET), "STREAM", False),
        (int(socket.AF_UNIX), "STREAM", False),
    ):
        with python_process(code.format(family, kind)) as pid:
            unseen = [item.what for item in facts(pid).unseen]
        assert (f"whether sockets of XDP of process {pid} take anything" in unseen) is told
        assert any("take anything" in item for item in unseen) is told


def test_a_listener_of_virtual_machines_is_an_entry_point() -> None:
    code = (
        "import socket\n"
        "kept = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)\n"
        "kept.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))\n"
        "kept.listen()\n"
    )
    with python_process(code) as pid:
        found = facts(pid)
    (listener,) = found.listeners
    assert (listener.kind, listener.address, listener.holders) == ("vsock", "any", (pid,))


STRANGER = (
    "import os, socket, sys\n"
    f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    "socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
)


def stranger_connects(path: str, *, beside: int | None = None) -> bool:
    """What connect(2) says to a user whom nothing names, in the namespaces of process `beside`."""
    enter = [program("nsenter"), "-t", str(beside), "-m", "--"] if beside else []
    done = subprocess.run(
        [*enter, sys.executable, "-c", STRANGER, path], capture_output=True, check=False
    )
    return done.returncode == 0


def test_the_folders_above_a_unix_socket_decide_who_connects() -> None:
    """What connect(2) says to a stranger, and what is told of the start `local`."""
    code = (
        "import os, socket\n"
        "kept = []\n"
        "for name, mode in (('a', 0o600), ('b', 0o755), ('d', 0o666), ('shut/e', 0o666)):\n"
        "    kept.append(socket.socket(socket.AF_UNIX)); path = {0!r} + '/' + name\n"
        "    kept[-1].bind(path); os.chmod(path, mode); kept[-1].listen()\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        os.mkdir(f"{folder}/shut", 0o700)
        with python_process(code.format(folder)) as pid:
            points, _ = entry_points(facts(pid))
            told = {point.address: point.reach is Reach.LOCAL for point in points}
            seen = {path: stranger_connects(path) for path in told}
    assert told == seen
    assert sorted(told.values()) == [False, False, False, True]


IN_A_SHUT_FOLDER = """
import ctypes, os, socket, subprocess
def run(*words): subprocess.run(words, check=True)
assert ctypes.CDLL(None).unshare(0x20000) == 0
run("mount", "--make-rprivate", "/")
os.chdir({folder!r})
run("mount", "-t", "tmpfs", "-o", "mode=755", "none", ".")
os.chdir({folder!r})
os.umask(0)
os.makedirs("shut/in"); os.mkdir("open"); open("file", "w").close()
os.chmod("shut", 0o700)
kept = socket.socket(socket.AF_UNIX)
{before}
kept.bind({folder!r} + "/shut/in/s"); kept.listen()
{after}
"""
ELSEWHERE = {
    "nowhere else": ("", "", None),
    "in a network of its own": ("assert ctypes.CDLL(None).unshare(0x40000000) == 0\n"
                                "kept = socket.socket(socket.AF_UNIX)", "", None),
    "the file mounted": ("", "run('mount', '--bind', 'shut/in/s', 'file')", "file"),
    "its folder mounted": ("", "run('mount', '--bind', 'shut/in', 'open')", "open/s"),
    "a shut folder mounted": ("", "run('mount', '--bind', 'shut', 'open')", None),
    "all of it mounted": ("", "run('mount', '--bind', '.', 'open')", None),
    "another folder mounted": ("", "os.mkdir('o'); run('mount', '--bind', 'o', 'open')", None),
    "renamed": ("", "os.rename('shut/in/s', 'open/s')", "open/s"),
    "renamed, with another there": (
        "", "os.rename('shut/in/s', 'open/s'); other = socket.socket(socket.AF_UNIX)\n"
        "other.bind({folder!r} + '/shut/in/s'); os.chmod('shut/in/s', 0o600)", "open/s"),
    "another beside it": (
        "", "other = socket.socket(socket.AF_UNIX)\n"
        "other.bind({folder!r} + '/shut/in/t'); os.chmod('shut/in/t', 0o600)", None),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "other"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_socket_that_is_found_elsewhere_too_is_open_there(
    before: str, after: str, other: str | None
) -> None:
    """A socket for everybody in a folder for nobody: `local` where a stranger gets to it by another
    path, `inside` where the folder keeps everybody out."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        after = after.format(folder=folder)
        code = IN_A_SHUT_FOLDER.format(folder=folder, before=before, after=after)
        with python_process(code) as pid:
            points, _ = entry_points(facts(pid))
            (point,) = (point for point in points if point.address == f"{folder}/shut/in/s")
            assert not stranger_connects(f"{folder}/shut/in/s", beside=pid)
            if other is not None:
                assert stranger_connects(f"{folder}/{other}", beside=pid)
    assert point.reach is (Reach.INSIDE if other is None else Reach.LOCAL)


IN_A_ROOT_OF_ITS_OWN = """
import ctypes, os, socket, subprocess, time
libc = ctypes.CDLL(None)
def run(*words): subprocess.run(words, check=True)
assert libc.unshare(0x20000) == 0
run("mount", "--make-rprivate", "/")
os.chdir({folder!r})
os.mkdir("shut", 0o700); open("file", "w").close()
run("mount", "-t", "tmpfs", "-o", "mode=700", "none", "shut")
read, write = os.pipe()
if os.fork() == 0:
    libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG
    os.chroot("shut"); os.umask(0)
    kept = socket.socket(socket.AF_UNIX); kept.bind("/s"); kept.listen()
    os.write(write, b"x"); time.sleep(600)
os.read(read, 1)
if {mounted}: run("mount", "--bind", "shut/s", "file")
"""


@pytest.mark.parametrize("mounted", [True, False])
def test_a_mount_outside_of_the_holders_root_directory_leads_to_its_socket(mounted: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        code = IN_A_ROOT_OF_ITS_OWN.format(folder=folder, mounted=mounted)
        with python_process(code) as pid:
            points, _ = entry_points(facts(pid))
            assert stranger_connects(f"{folder}/file", beside=pid) is mounted
            assert not stranger_connects(f"{folder}/shut/s", beside=pid)
    (point,) = (point for point in points if point.address == "/s")
    assert point.reach is (Reach.LOCAL if mounted else Reach.INSIDE)


LISTENER = """
import ctypes, os, socket, threading, time
unshare = ctypes.CDLL(None).unshare
FILES, NET = 0x400, 0x40000000
def listen():
    global kept
    kept = socket.create_server(("0.0.0.0", {port}))
{body}
"""
HIDDEN = {
    "in a thread with descriptors of its own": """
done = threading.Event()
def apart():
    assert unshare(FILES) == 0
    listen(); done.set(); time.sleep(600)
threading.Thread(target=apart, daemon=True).start(); done.wait()""",
    "in a thread with a network of its own": """
done = threading.Event()
def apart():
    assert unshare(NET) == 0
    listen(); done.set(); time.sleep(600)
threading.Thread(target=apart, daemon=True).start(); done.wait()""",
    "made in a network that was left": """
home = os.open("/proc/self/ns/net", os.O_RDONLY)
assert unshare(NET) == 0
listen()
assert ctypes.CDLL(None).setns(home, 0) == 0""",
    "in the open": "listen()",
}


@pytest.mark.parametrize("body", HIDDEN.values(), ids=HIDDEN)
def test_a_listening_socket_is_seen_wherever_it_is_held(body: str) -> None:
    port = free_port()
    with python_process(LISTENER.format(port=port, body=body)) as pid:
        found = facts(pid)
    (listener,) = found.listeners
    assert (listener.kind, listener.port) == ("tcp", port)
    assert listener.holders == (pid,)
    (point,) = deployment_of(found, KNOWLEDGE).entry_points
    assert point.reach is Reach.INTERNET


HOPS = """
import ctypes, os, signal, socket, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
end = time.monotonic() + 60
kept = socket.create_server(("0.0.0.0", {port}))
if os.fork() == 0:
    while os.getppid() != 1 and time.monotonic() < end:
        if {hops} and os.fork():
            os._exit(0)
        time.sleep(0.01)
    os._exit(0)
kept.close()
"""


@pytest.mark.parametrize("hops", [True, False])
def test_a_socket_that_is_handed_from_process_to_process_is_not_lost(hops: bool) -> None:
    port = free_port()
    with python_process(HOPS.format(port=port, hops=hops)) as pid:
        found = facts(pid)
    (listener,) = (item for item in found.listeners if item.port == port)
    changing = [item for item in found.unseen if item.what == f"all processes of {pid}"]
    assert bool(changing) is hops
    if not hops:
        assert listener.holders_seen
        assert pid not in listener.holders
    points = deployment_of(found, KNOWLEDGE).entry_points
    assert f"tcp:0.0.0.0:{port}" in {point.id for point in points}


TUNNEL = """
import ctypes, os, subprocess
assert ctypes.CDLL(None).unshare(0x40000000) == 0
if {tunnel}:
    add = "ip link add vx0 type vxlan id 5 dstport 4789"
    subprocess.run(add.split(), check=True)
    subprocess.run("ip link set vx0 up".split(), check=True)
os.setuid(64001)
"""


@pytest.mark.parametrize("tunnel", [True, False])
def test_a_socket_of_the_kernel_itself_is_supposed_and_moves_no_start(tunnel: bool) -> None:
    with python_process(TUNNEL.format(tunnel=tunnel)) as pid:
        points = deployment_of(facts(pid), KNOWLEDGE).entry_points
        done = ringfence("measure", pid, "--no-plan", "--format", "json")
    wanted = [("udp:0.0.0.0:4789", Reach.INTERNET, True)] * tunnel
    assert [(point.id, point.reach, point.supposed) for point in points] == wanted
    assert json.loads(done.out)["start"] == "supply-chain"


def test_loopback_of_a_namespace_of_its_own_is_reached_from_inside_alone() -> None:
    code = (
        "import ctypes, socket\nassert ctypes.CDLL(None).unshare(0x40000000) == 0\n"
        "s = socket.socket(); s.bind(('127.0.0.1', 80)); s.listen()"
    )
    with python_process(code) as pid:
        assert reach_of(pid) == {"tcp": Reach.INSIDE}


def test_memory_that_is_writable_and_executable() -> None:
    both = "import mmap; m = mmap.mmap(-1, 4096, prot=7)"
    with python_process(both) as open_one, python_process("import mmap") as closed_one:
        counts = [facts(pid).processes[0].memory.value for pid in (open_one, closed_one)]
    assert counts[0] is not None
    assert counts[1] is not None
    assert (counts[0].writable_executable, counts[1].writable_executable) == (1, 0)
    assert mmap.PROT_EXEC | mmap.PROT_WRITE | mmap.PROT_READ == 7


def test_no_new_privileges_and_capabilities_both_ways() -> None:
    import ctypes

    def hardened() -> None:
        assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)

    found = []
    for prepare in (lambda: None, hardened):
        with child(prepare) as pid:
            process = facts(pid).processes[0]
            assert process.credentials.value is not None
            found.append(
                (process.no_new_privileges.value, bool(process.credentials.value.effective))
            )
    assert found == [(False, True), (True, False)]


def test_namespaces_shared_and_private() -> None:
    with (
        python_process("pass") as shared,
        python_process(
            "import ctypes; assert ctypes.CDLL(None).unshare(0x4000000 | 0x8000000) == 0"
        ) as own,
    ):
        seen = [
            {space.kind: space.shared.value for space in facts(pid).processes[0].namespaces}
            for pid in (shared, own)
        ]
    assert (seen[0]["uts"], seen[0]["ipc"]) == (True, True)
    assert (seen[1]["uts"], seen[1]["ipc"]) == (False, False)
    assert seen[0]["net"] == seen[1]["net"]


def test_children_belong_to_the_workload() -> None:
    code = "import subprocess; c = subprocess.Popen(['sleep', '600'])"
    with python_process(code) as pid:
        names = [process.program for process in facts(pid).processes]
        for process in facts(pid).processes[1:]:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
    assert names[1:] == ["sleep"]


def test_a_process_that_ends_while_it_is_measured_is_one_line() -> None:
    """Started and gone again and again: an answer or one line, never a traceback."""
    for delay in (0.0, 0.05, 0.1, 0.2, 0.3, 0.4):
        process = subprocess.Popen(["sleep", str(delay)])
        done = ringfence("measure", process.pid, "--no-plan")
        process.wait()
        assert done.code in (0, 2)
        if done.code == 2:
            assert done.err.count("\n") == 1


def test_kernel_threads_and_the_dead_are_refused() -> None:
    assert "thread of the kernel" in ringfence("measure", "2").err
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    time.sleep(0.1)
    done = ringfence("measure", pid)
    os.waitpid(pid, 0)
    assert done.code == 2
    assert "has ended" in done.err


def test_a_process_whose_first_thread_has_ended_is_measured_by_another() -> None:
    """/proc shows nothing under its own id any more: neither sockets nor memory."""
    port = free_port()
    end = "{'x86_64': 60, 'aarch64': 93}[platform.machine()]"
    script = (
        "import ctypes, platform, socket, threading, time\n"
        f"s = socket.socket(); s.bind(('127.0.0.1', {port})); s.listen()\n"
        "threading.Thread(target=s.accept).start()\n"
        f"time.sleep = lambda _: ctypes.CDLL(None).syscall({end}, 0)\n"
    )
    with python_process(script) as pid:
        for _ in range(500):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break
            time.sleep(0.01)
        found = facts(pid)
        assert [item.port for item in found.listeners] == [port]
        assert found.processes[0].executable == os.path.realpath(sys.executable)
        assert found.processes[0].memory.value
        host = collect("host", KNOWLEDGE)
        assert port in {item.port for item in host.listeners}


def test_a_secret_of_the_environment_is_named_and_never_shown() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)],
        env={**os.environ, "DB_PASSWORD": "hunter2-hunter2", "PLAIN": "visible"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "facts.json"
            shown = "".join(
                ringfence("measure", process.pid, "--format", form, "--facts", kept).out
                for form in ("terminal", "json", "markdown")
            )
            shown += kept.read_text()
    finally:
        process.kill()
        process.wait()
    assert "DB_PASSWORD" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "wait",
    [
        "import select; p = select.poll(); p.register(s); p.poll()",
        "import select; select.select([s], [], [])",
        "import select; e = select.epoll(); e.register(s); e.poll()",
        "s.accept()",
    ],
    ids=["poll", "select", "epoll", "accept"],
)
def test_who_waits_on_a_socket_is_seen_in_every_way_of_waiting(wait: str) -> None:
    """The parent only holds the socket; its child waits on it."""
    code = (
        "import os, socket\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
        f"if os.fork() == 0:\n    {wait}\n"
    )
    with python_process(code) as pid:
        for _ in range(100):
            (item,) = facts(pid).listeners
            if item.waiting:
                break
            time.sleep(0.02)
        children = [process.pid for process in facts(pid).processes[1:]]
        for child_pid in children:
            assert child_pid is not None
            os.kill(child_pid, signal.SIGKILL)
    assert set(item.holders) == {pid, *children}
    assert list(item.waiting) == children


def test_the_thread_that_stayed_privileged_counts() -> None:
    """The first thread drops root by a raw system call, which speaks for it alone."""
    code = (
        "import ctypes, platform, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "c = ctypes.CDLL(None)\n"
        "number = {'x86_64': 117, 'aarch64': 147}[platform.machine()]\n"
        "assert c.prctl(38, 1, 0, 0, 0) == 0\n"
        "assert c.syscall(number, 65534, 65534, 65534) == 0"
    )
    with python_process(code) as pid:
        process = facts(pid).processes[0]
    assert process.credentials.value is not None
    assert process.credentials.value.uid == 0
    assert "CAP_SYS_ADMIN" in process.credentials.value.effective
    assert f"/proc/{pid}/task/" in process.credentials.evidence.source
    assert process.no_new_privileges.value is False


def test_capabilities_over_a_user_namespace_are_none_over_the_system() -> None:
    code = (
        "import ctypes, os\nos.setresgid(1234, 1234, 1234); os.setresuid(1234, 1234, 1234)\n"
        "c = ctypes.CDLL(None)\nassert c.prctl(4, 1, 0, 0, 0) == 0\n"
        "assert c.unshare(0x10000000) == 0\nopen('/proc/self/uid_map', 'w').write('0 1234 1')"
    )
    with python_process(code) as pid:
        seen = facts(pid)
    assert seen.processes[0].credentials.value is not None
    assert "CAP_SYS_ADMIN" in seen.processes[0].credentials.value.effective
    assert is_admin(seen.processes[0], container=False) is False


def test_a_saved_root_counts_as_root() -> None:
    with python_process("import os; os.setresuid(1234, 1234, 0)") as pid:
        seen = facts(pid)
    assert is_admin(seen.processes[0], container=False) is True
    conditions = deployment_of(seen, KNOWLEDGE).conditions
    assert conditions["process:root-user"].state is State.OPEN
