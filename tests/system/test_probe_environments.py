"""The same battery on the host, in runc as engines have it, privileged, in bubblewrap, and in our
own fence: the results differ where they must."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ringfence.knowledge.loader import load
from ringfence.probe.probing import probe_process
from ringfence.probe.record import Attempt, ProbeReport
from ringfence.probe.targets import live
from tests.command import Outcome, ringfence
from tests.system import containers
from tests.system.conftest import open_to_others, program
from tests.system.hardening import Done, static_server
from tests.system.test_harden_small import SERVER

pytestmark = pytest.mark.system
KNOWLEDGE = load()
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


HOLLOW = frozenset({"iopl", "ioperm", "set_thread_area", "get_thread_area"})
"""There, and without the machine's ports in the kernel they only say ENOSYS (ioport.c); or there
for 32-bit programs alone (syscall_64.tbl)."""


class Battery:
    """The results of one environment."""

    def __init__(self, report: ProbeReport) -> None:
        self.report = report
        self.by_id = {item.id: item for item in report.attempts}

    def __getitem__(self, name: str) -> Attempt:
        return self.by_id[name]

    def open(self) -> set[str]:
        return {item.id for item in self.report.attempts if item.seen == "open"}


def probed(pid: int, stance: str = "join") -> Battery:
    return Battery(probe_process(pid, KNOWLEDGE, stance=stance).report)


@contextlib.contextmanager
def sleeping(*before: str) -> Iterator[int]:
    """The PID of a sleep(1), started by way of other programs."""
    words = [*before, program("sleep"), "300"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    sleeper = 0
    try:
        sleeper = _sleeper(process)
        yield sleeper
    finally:
        process.kill()
        if sleeper:
            with contextlib.suppress(ProcessLookupError):
                os.kill(sleeper, signal.SIGKILL)
        process.communicate()


def _sleeper(process: subprocess.Popen[bytes]) -> int:
    for _ in range(250):
        queue = [process.pid]
        while queue:
            pid = queue.pop()
            with contextlib.suppress(OSError):
                # Its name changes before it has put on the rest of its new self.
                state = Path(f"/proc/{pid}/stat").read_text()
                if "(sleep) S" in state:
                    return pid
                queue += [int(word) for word in
                          Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]  # fmt: skip
        time.sleep(0.02)
    raise AssertionError(f"sleep did not start: {process.stderr and process.stderr.read()!r}")


@pytest.fixture(scope="module")
def host() -> Battery:
    with sleeping() as pid:
        return probed(pid)


@pytest.fixture(scope="module")
def in_runc(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Battery]:
    """The worker of nginx, which is nobody's but www-data's, and the master with its privileges."""
    program("runc")
    place = tmp_path_factory.mktemp("bundles")
    open_to_others(place)
    (place / "nginx.conf").write_text(containers.NGINX)
    defaults = containers.engine_defaults(rootfs, place / "nginx.conf")
    privileged = containers.privileged(defaults)
    privileged["mounts"].append({"destination": "/mnt", "type": "bind", "source": "/",
                                 "options": ["rbind", "rw"]})  # fmt: skip
    found = {}
    for name, config in (("defaults", defaults), ("privileged", privileged)):
        with containers.running(containers.bundle(place / name, config)) as (_, pid):
            found[name] = probed(pid)
    return found


@pytest.fixture(scope="module")
def in_bubblewrap() -> Battery:
    words = (program("bwrap"), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev",
             "--unshare-all", "--uid", "1000", "--cap-drop", "ALL", "--new-session")  # fmt: skip
    with sleeping(*words) as pid:
        return probed(pid)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = static_server(tmp_path_factory.mktemp("tree") / "tree", SERVER)
    (tree / "srv").mkdir()
    (tree / "srv/index").write_text("page\n")
    place = tmp_path_factory.mktemp("fence") / "result"
    done = Done(str(tree), "-o", str(place), "--http", "http://localhost:8080/",
                command=("/bin/server",))  # fmt: skip
    assert done.code == 0, done.err
    return place


@pytest.fixture(scope="module")
def in_fence(result: Path) -> Battery:
    with live(str(result), (), KNOWLEDGE) as found:
        return Battery(
            probe_process(found.pid, KNOWLEDGE, kind=found.kind, name=found.name,
                          facts=found.facts).report
        )  # fmt: skip


def test_nothing_is_blocked_where_nothing_blocks(host: Battery) -> None:
    """The usual sweep finds 24 calls "blocked" without any filter."""
    calls = [item for item in host.report.attempts if item.group == "system calls"]
    assert len(calls) > 400
    assert [item.id for item in calls if item.seen == "closed"] == []
    assert not [item.id for item in host.report.attempts if item.stopped_by.startswith("seccomp")]


def test_configuration_and_probe_agree_on_every_call(
    host: Battery, in_runc: dict[str, Battery], in_bubblewrap: Battery, in_fence: Battery
) -> None:
    """What the filters' programs say when they are read, and what the kernel says when asked."""
    for battery in (host, *in_runc.values(), in_bubblewrap, in_fence):
        said = [name for name in battery.report.disagreements if name.startswith("call.")]
        assert said == []


def test_a_container_as_engines_have_it(in_runc: dict[str, Battery]) -> None:
    defaults = in_runc["defaults"]
    for name in ("capability.chown", "capability.net-raw", "capability.mknod", "identity.root-user",
                 "execution.dropped", "execution.sh", "capability.sys-chroot"):  # fmt: skip
        assert defaults[name].seen == "open", name
    for name, layer in (
        ("kernel.bpf", "seccomp"), ("kernel.io-uring", "seccomp"), ("kernel.keyrings", "seccomp"),
        ("namespace.mount", "seccomp"), ("namespace.unshare-user", "seccomp"),
        ("namespace.clone-user", "seccomp"), ("capability.net-admin", "capability CAP_NET_ADMIN"),
        ("capability.sys-time", "capability CAP_SYS_TIME"),
        ("file.core-pattern", "read-only mount"),
        ("network.internet", "no route"),
    ):  # fmt: skip
        attempt = defaults[name]
        assert attempt.seen == "closed", name
        assert attempt.stopped_by.startswith(layer), (name, attempt.stopped_by)


def test_privileged_with_the_host_mounted(in_runc: dict[str, Battery]) -> None:
    privileged, defaults = in_runc["privileged"], in_runc["defaults"]
    assert privileged.open() - defaults.open() > {
        "kernel.bpf", "kernel.io-uring", "namespace.mount", "capability.sys-admin",
        "capability.net-admin", "namespace.unshare-net", "file.core-pattern",
    }  # fmt: skip
    assert "call.mount" in privileged.open() - defaults.open()
    # The host's files have other names there, at which they are tried.
    for name, path in (("file.shadow", "/mnt/etc/shadow"), ("file.cron-directory", "/mnt/etc/"),
                       ("file.program-directory", "/mnt/usr/")):  # fmt: skip
        assert privileged[name].seen == "open", name
        assert privileged[name].expected == "open", name
        assert privileged[name].detail.startswith(path)
        assert "/mnt/" not in defaults[name].detail


def test_bubblewrap(in_bubblewrap: Battery, host: Battery) -> None:
    assert in_bubblewrap["capability.sys-chroot"].stopped_by == "capability CAP_SYS_CHROOT"
    assert in_bubblewrap["capability.chown"].seen == "unsupported"  # nobody else is mapped
    assert in_bubblewrap["file.etc-directory"].stopped_by == "read-only mount"
    assert in_bubblewrap["network.internet"].stopped_by == "no route"
    assert in_bubblewrap["identity.new-privileges"].stopped_by == "no_new_privs"
    assert in_bubblewrap["call.bpf"].seen == "open"  # no filter unless it is given one
    assert in_bubblewrap["process.other-root"].seen == "closed"
    assert len(in_bubblewrap.open()) < len(host.open())


def test_our_own_fence_holds_more_than_all_others(
    in_fence: Battery, in_bubblewrap: Battery, in_runc: dict[str, Battery]
) -> None:
    others = in_bubblewrap.open() & in_runc["defaults"].open()
    # harden lets a user without capabilities bind low ports; engines give a capability for that.
    assert in_fence.open() - others <= {"execution.own-program", "capability.net-bind-service"}
    assert len(in_fence.open()) < len(others)
    for name in ("execution.memory-file", "execution.dropped", "execution.loader",
                 "execution.own-code", "kernel.bpf", "kernel.io-uring", "socket.alg",
                 "namespace.clone3", "namespace.unshare-user", "file.own-program"):  # fmt: skip
        assert in_fence[name].seen != "open", name
    assert in_fence["kernel.core"].seen == "open"


def test_a_closed_attempt_names_its_layer(
    host: Battery, in_runc: dict[str, Battery], in_bubblewrap: Battery, in_fence: Battery
) -> None:
    for battery in (host, *in_runc.values(), in_bubblewrap, in_fence):
        nameless = [item.id for item in battery.report.attempts
                    if item.seen == "closed" and not item.stopped_by]  # fmt: skip
        assert nameless == []


def test_controls_are_seen_not_claimed(in_fence: Battery, host: Battery) -> None:
    """A control is an attempt that was open on this host: of what the fence closes most were."""
    shut = [item for item in in_fence.report.attempts if item.seen == "closed"]
    assert sum(bool(item.control) for item in shut) > 0.7 * len(shut)
    for item in shut:
        if item.control and item.id in host.by_id:
            assert host[item.id].seen != "closed", item.id


def test_the_gate(result: Path, tmp_path: Path) -> None:
    """Saved in the fence; then the same program without one."""
    saved = tmp_path / "saved.json"
    done = ringfence("probe", result, "--format", "json", "-o", saved)
    assert done.code == 0, done.err
    same = ringfence("probe", result, "--baseline", saved)
    assert same.code == 0 and "opened since" not in same.err
    with sleeping() as pid:
        gone = ringfence("probe", pid, "--baseline", saved)
    assert gone.code == 1
    assert "opened since: kernel.bpf" in gone.err


def test_measuring_by_probes_proves_more() -> None:
    with sleeping(*AS_NOBODY) as pid:
        plain = ringfence("measure", pid, "--format", "json", "--no-plan")
        tried = ringfence("measure", pid, "--format", "json", "--no-plan", "--probe")
    assert (plain.code, tried.code) == (0, 0), plain.err + tried.err
    before, after = json.loads(plain.out), json.loads(tried.out)
    assert before["evidence_coverage"]["probed"] == 0
    assert after["evidence_coverage"]["probed"] > 0.3
    # It adds what was seen open alone, and drops nothing that the process can reach: it makes a
    # user namespace by itself, and uses nf_tables in there.
    known = {vector["id"] for vector in before["vectors"]}
    found = {vector["id"]: vector for vector in after["vectors"]}
    for name in found.keys() - known:
        assert any(item["grade"] == "probed" for item in found[name]["evidence"]), name
    reached = {"nf-tables", "user-namespaces", "keyrings"} & known
    assert reached and reached <= found.keys()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "nothing to probe"),
        (("9999999",), 2, "no such process"),
        (("/nowhere/at-all",), 2, "is no process"),
        (("--", "/nowhere/program"), 2, "no such program"),
        (("--", "true"), 2, "ended by itself with status 0"),
        (("2",), 2, ""),
        (("no-such-container-here",), 2, "no file or container of this name"),
    ],
)
def test_wrong_targets(words: tuple[str, ...], code: int, said: str) -> None:
    done = ringfence("probe", *words)
    assert (done.code, said in done.err) == (code, True), done.err
    assert len(done.err.strip().splitlines()) == 1


def test_without_root() -> None:
    """What needs root is refused in one line; a process of our own is probed all the same."""
    with sleeping() as pid:
        ringfence("probe", pid)  # all modules are loaded: others may not read where they lie
        refused = as_nobody("probe", pid)
    assert refused.code == 3 and "run as root" in refused.err
    with sleeping(*AS_NOBODY) as pid:
        own = as_nobody("probe", pid, "--format", "json")
    assert own.code == 0, own.err
    report = json.loads(own.out)
    seen = {item["id"]: item["seen"] for item in report["attempts"]}
    assert seen["capability.sys-admin"] == "closed" and seen["kernel.core"] == "open"


def as_nobody(*words: object) -> Outcome:
    """The command in a child that has given up all privilege."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable, as after an exec
            os.write(write, msgspec.json.encode(ringfence(*words)))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return msgspec.json.decode(text, type=Outcome)


def test_the_kernels_table_is_known_call_by_call(host: Battery) -> None:
    """The kernel's own symbols as the oracle: a call that was left out is a weak one (COND_SYSCALL
    of kernel/sys_ni.c), and the usual sweep takes those for allowed."""
    kinds: dict[str, set[str]] = {}
    for line in Path("/proc/kallsyms").read_text().splitlines():
        _, kind, symbol, *_ = line.split()
        if symbol.startswith("__x64_sys_"):
            kinds.setdefault(symbol.removeprefix("__x64_sys_"), set()).add(kind)
    compared = {True: 0, False: 0}
    for item in host.report.attempts:
        name = item.id.removeprefix("call.")
        if item.group == "system calls" and name in kinds and name not in HOLLOW:
            there = "T" in kinds[name] or "t" in kinds[name]
            assert (item.seen != "unsupported") == there, name
            compared[there] += 1
    assert compared[True] > 300 and compared[False] >= 5


def test_calls_that_no_table_of_ours_knows_are_tried_all_the_same(host: Battery) -> None:
    """Their numbers are: whatever answers is in the report."""
    import ctypes

    from ringfence.collect.seccomp.tables import native_calls

    libc = ctypes.CDLL(None, use_errno=True)
    known = set(native_calls().values())
    for number in range(max(known) + 1, max(known) + 40):
        ctypes.set_errno(0)
        there = libc.syscall(number, *[ctypes.c_long(-1)] * 6) != -1 or ctypes.get_errno() != 38
        assert (f"call.call-{number}" in host.by_id) == there, number
