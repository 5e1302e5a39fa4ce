"""Inside a clone of the live process itself: it goes on unharmed, whatever it is."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from ringfence.collect.process import procfs
from ringfence.errors import InputError
from ringfence.knowledge.loader import load
from ringfence.probe.driven import scheduling
from ringfence.probe.inject import Stopped, injected
from ringfence.probe.leftover import left_over
from ringfence.probe.probing import INJECT, JOIN, probe_process
from ringfence.run import tracee
from tests import seccomp
from tests.command import ringfence
from tests.system.conftest import program

pytestmark = pytest.mark.system
KNOWLEDGE = load()

COUNTER = """
import os, signal, sys, threading, time
signal.signal(signal.SIGCHLD, lambda *_: os.write(1, b"SIGCHLD\\n"))
all_there = threading.Barrier(int(sys.argv[1]) + 1)  # each has memory of its own from then on
for _ in range(int(sys.argv[1])):
    threading.Thread(
        target=lambda: [all_there.wait(), *(time.sleep(0.001) for _ in range(10**9))], daemon=True
    ).start()
all_there.wait()
os.write(1, b"up\\n")
while True:
    line = os.read(0, 100)
    if not line: break
    try:
        os.waitpid(-1, os.WNOHANG); said = b"a child\\n"
    except ChildProcessError:
        said = b"alone\\n"
    os.write(1, said)
"""


@contextlib.contextmanager
def counter(threads: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers a line with whether it has children, and tells of SIGCHLD."""
    words = [sys.executable, "-c", COUNTER, str(threads)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout and process.stdin
    try:
        assert process.stdout.readline() == b"up\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def asked(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdin and process.stdout
    process.stdin.write(b"?\n")
    process.stdin.flush()
    return process.stdout.readline()


@pytest.mark.parametrize("threads", [0, 7])
def test_a_process_does_not_notice(threads: int) -> None:
    """No signal, no child, no change of what it shows of itself."""
    with counter(threads) as process:
        assert asked(process) == b"alone\n"
        before = shown(process.pid)
        report = probe_process(process.pid, KNOWLEDGE, stance=INJECT).report
        assert report.counts["open"] > 300
        assert asked(process) == b"alone\n"
        assert shown(process.pid) == before
        assert sum(report.stopped) < 1.0


def shown(pid: int) -> tuple[object, ...]:
    """What a process shows of itself that probing could have changed."""
    root = Path(f"/proc/{pid}")
    fields = procfs.fields((root / "status").read_text())
    kept = ("Uid", "Gid", "SigCgt", "SigIgn", "SigBlk", "Seccomp", "Seccomp_filters", "CapEff",
            "CapBnd", "NoNewPrivs", "TracerPid", "Threads", "NSpid")  # fmt: skip
    return (
        tuple(fields.get(name) for name in kept),
        sorted(os.listdir(root / "fd")),
        (root / "maps").read_bytes().count(b"\n"),
        (root / "oom_score_adj").read_text(),
        (root / "personality").read_text(),
        [os.readlink(root / "ns" / name) for name in sorted(os.listdir(root / "ns"))],
        (root / "limits").read_text(),
        (root / f"task/{pid}/children").read_text(),
    )


def test_rounds_in_a_row_leave_it_healthy() -> None:
    with counter(3) as process:
        before = shown(process.pid)
        for _ in range(400):
            with injected(process.pid) as zygote:
                assert zygote.call("getpid") > 0
        assert asked(process) == b"alone\n"
        assert shown(process.pid) == before


def test_a_web_server_under_load_loses_no_request(nginx: tuple[int, list[int]]) -> None:
    master, (port, *_) = nginx
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    failures: list[str] = []
    ended, answers = threading.Event(), [0]

    def load_it() -> None:
        while not ended.is_set():
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/nginx.conf", timeout=5
                ) as page:
                    answers[0] += page.status == 200
            except OSError as error:
                failures.append(str(error))  # the error itself would keep its connection open

    askers = [threading.Thread(target=load_it) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        for pid in (*workers, str(master)):
            for _ in range(40):
                with injected(int(pid)) as zygote:
                    zygote.call("getpid")
        for pid in workers[:1]:
            probe_process(int(pid), KNOWLEDGE, stance=INJECT)
    finally:
        ended.set()
        for asker in askers:
            asker.join()
    assert not failures
    assert answers[0] > 50
    assert Path(f"/proc/{master}/task/{master}/children").read_text().split() == workers


def test_it_sees_what_joining_cannot() -> None:
    """An open folder outside a changed root, as in CVE-2024-21626."""
    code = (
        "import os, time; handle = os.open('/', os.O_RDONLY | os.O_DIRECTORY); "
        "os.chroot('/usr'); os.chdir('/'); {}; os.write(1, b'up\\n'); time.sleep(600)"
    )
    for act, seen in (("", "open"), ("os.close(handle)", "closed")):
        text = code.format(act or "pass")
        process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
        try:
            assert process.stdout and process.stdout.readline() == b"up\n"
            attempts = {item.id: item for item in probe_process(
                process.pid, KNOWLEDGE, stance=INJECT).report.attempts}  # fmt: skip
            assert attempts["file.open-folders"].seen == seen
            joined = {item.id: item for item in
                      probe_process(process.pid, KNOWLEDGE).report.attempts}  # fmt: skip
            assert joined["file.open-folders"].seen == "unsupported"
        finally:
            process.kill()
            process.communicate()


def test_a_filter_that_forbids_forking_hides_nothing() -> None:
    """clone, fork, vfork and wait4 are refused: to the workload, not to us."""
    from ringfence.collect.seccomp.tables import native_calls

    names = ("clone", "fork", "vfork", "clone3", "wait4", "mmap", "munmap", "prctl", "seccomp")
    numbers = [native_calls()[name] for name in names]
    with seccomp.child(lambda: seccomp.install(seccomp.native_refusing(*numbers))) as pid:
        attempts = {item.id: item for item in
                    probe_process(pid, KNOWLEDGE, stance=INJECT).report.attempts}  # fmt: skip
    assert attempts["call.fork"].stopped_by.startswith("seccomp")
    assert attempts["call.getpid"].seen == "open"
    assert attempts["resource.fork"].seen == "closed"


def test_a_filter_that_kills_is_seen_as_one() -> None:
    from ringfence.collect.seccomp.tables import native_calls

    filters = seccomp.native_refusing(native_calls()["getppid"])
    filters[-1] = (seccomp.RETURN, 0, 0, 0x80000000)
    with seccomp.child(lambda: seccomp.install(filters)) as pid:
        for stance in ("join", INJECT):
            attempts = {item.id: item for item in
                        probe_process(pid, KNOWLEDGE, stance=stance).report.attempts}  # fmt: skip
            assert attempts["call.getppid"].stopped_by == "seccomp (kill)"
            assert attempts["call.getpid"].seen == "open"
        assert Path(f"/proc/{pid}").exists()


# --- what is refused, in one line ----------------------------------------------------------------


def refusal(pid: int) -> str:
    done = ringfence("probe", pid, "--inject")
    assert done.code == 2 and len(done.err.strip().splitlines()) == 1, done.err
    return done.err


def test_a_process_that_is_traced_already() -> None:
    with counter() as process:
        strace = subprocess.Popen([program("strace"), "-o", "/dev/null", "-p", str(process.pid)],
                                  stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            wait_for(lambda: "TracerPid:\t0\n" not in status(process.pid))
            assert f"is traced already, by process {strace.pid} (strace)" in refusal(process.pid)
            notes = probe_process(process.pid, KNOWLEDGE, stance=JOIN).report.notes
            assert f"process {strace.pid} traces it: what that refuses is not seen" in notes
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait()
        assert asked(process) == b"alone\n"
        notes = probe_process(process.pid, KNOWLEDGE, stance=JOIN).report.notes
        assert not any("traces it" in note for note in notes)


def test_a_process_that_is_stopped() -> None:
    with counter() as process:
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: "State:\tT" in status(process.pid))
        assert "is stopped (SIGSTOP)" in refusal(process.pid)
        assert ringfence("probe", process.pid).code == 0, "joining it asks nothing of it"
        assert "State:\tT" in status(process.pid)
        process.send_signal(signal.SIGCONT)
        assert asked(process) == b"alone\n"


def test_a_process_that_is_stopped_and_was_just_looked_at() -> None:
    """Refused, and stopped still: the kernel shows it as running for a moment after each tracer
    that lets it go, such as our own reading of its filters."""
    with counter() as process:
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: "State:\tT" in status(process.pid))
        for _ in range(200):
            tracee.stops(process.pid)
            with pytest.raises(InputError, match="is stopped"), injected(process.pid):
                pass
        wait_for(lambda: "State:\tT" in status(process.pid))


def test_no_room_for_one_more_process() -> None:
    """RLIMIT_NPROC, as another user: root's processes are not counted."""

    def lowered() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        os.setresuid(54399, 54399, 54399)

    process = subprocess.Popen([program("sleep"), "300"], preexec_fn=lowered)
    try:
        wait_for(lambda: "Name:\tsleep" in status(process.pid))
        assert "limit of processes leaves no room" in refusal(process.pid)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_32_bit_program(tmp_path: Path) -> None:
    """pause(2) by `int 0x80`, assembled here: no 32-bit library is needed."""
    source = tmp_path / "pause.S"
    source.write_text(".globl _start\n_start: movl $29, %eax\nint $0x80\njmp _start\n")
    binary = tmp_path / "pause"
    words = [program("gcc"), "-m32", "-nostdlib", "-static", "-o", str(binary), str(source)]
    subprocess.run(words, check=True)
    try:
        process = subprocess.Popen([str(binary)])
    except OSError:
        pytest.skip("this kernel does not run 32-bit programs")
    try:
        wait_for(lambda: "State:\tS" in status(process.pid))
        assert "is a 32-bit program" in refusal(process.pid)
        assert process.poll() is None
        for narrow, pid in ((True, process.pid), (False, os.getpid())):
            done = ringfence("probe", pid, "--format", "json")
            assert done.code == 0, done.err
            assert ("it is a 32-bit program" in done.out) is narrow
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
def test_static_programs(tmp_path: Path, compiler: str) -> None:
    source = tmp_path / "wait.c"
    source.write_text("#include <unistd.h>\nint main(void) { for (;;) sleep(600); }\n")
    binary = tmp_path / "wait"
    words = [program(compiler), "-static", "-o", str(binary), str(source)]
    subprocess.run(words, check=True)
    process = subprocess.Popen([str(binary)])
    try:
        wait_for(lambda: "State:\tS" in status(process.pid))
        for _ in range(3):
            report = probe_process(process.pid, KNOWLEDGE, stance=INJECT).report
            assert report.counts["open"] > 300
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("policy", [os.SCHED_BATCH, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK])
def test_a_clone_is_scheduled_like_its_original(policy: int) -> None:
    """Whoever changes that, from its first moment on, has tampered with it."""
    with counter() as process:
        os.sched_setscheduler(process.pid, policy, os.sched_param(0))
        with injected(process.pid) as zygote:
            assert zygote.call("getuid") == os.getuid()
        os.sched_setscheduler(process.pid, os.SCHED_BATCH, os.sched_param(0))
        mine = scheduling(process.pid)
        assert mine is not None
        other = os.SCHED_IDLE, *mine[1:]
        with (
            mock.patch("ringfence.probe.inject.scheduling", return_value=other),
            pytest.raises(InputError, match="its scheduling"),
            injected(process.pid),
        ):
            pass
        assert not left_over(process.pid)


LEADERLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(300,)).start()
ctypes.CDLL(None).syscall(60, 0)
"""


@pytest.mark.parametrize("stance", [JOIN, INJECT])
def test_a_process_whose_first_thread_has_ended(stance: str) -> None:
    with subprocess.Popen([sys.executable, "-c", LEADERLESS]) as process:
        try:
            until = time.monotonic() + 20
            while procfs.living(process.pid) == process.pid and time.monotonic() < until:
                time.sleep(0.01)
            found = probe_process(process.pid, KNOWLEDGE, stance=stance)
            assert found.report.target.pid == process.pid
            assert found.report.counts["open"] > 100
            assert not left_over(process.pid)
        finally:
            process.kill()
    with pytest.raises(InputError):
        probe_process(process.pid, KNOWLEDGE, stance=stance)


def test_a_process_that_ends_in_the_middle() -> None:
    """Killed while its clone is driven: one error, or a whole result; nothing is left over."""
    for delay in (0.0, 0.01, 0.05, 0.2, *(random.uniform(0, 1.5) for _ in range(6))):
        with counter() as process:
            killer = threading.Timer(delay, process.kill)
            killer.start()
            try:
                probe_process(process.pid, KNOWLEDGE, stance=INJECT)
            except InputError as error:
                assert "\n" not in error.line()
            finally:
                killer.join()
    assert not leftovers()


def leftovers() -> list[int]:
    """Copies of this process, or of one that it started, that should be gone."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(child) for child in children if b"python" in
            Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM])
def test_the_program_is_ended_in_the_middle(number: int) -> None:
    """Nothing is left among the workload's children, where it would count as a process of its."""
    with counter() as process:
        words = [sys.executable, "-m", "ringfence", "probe", str(process.pid), "--inject"]
        probing = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: left_over(process.pid))
        probing.send_signal(number)
        assert probing.wait(10) != 0
        wait_for(lambda: not procfs.children(process.pid))
        assert asked(process) == b"alone\n"


def test_what_an_earlier_probing_left_is_collected() -> None:
    """Even its guardian was killed."""
    source = f"from ringfence.probe.inject import injected\nwith injected({{}}): {KILL_ALL}"
    with counter() as process:
        subprocess.run([sys.executable, "-c", source.format(process.pid)], check=False)
        wait_for(lambda: list(left_over(process.pid).values()) == [True])
        with injected(process.pid):
            assert list(left_over(process.pid).values()) == [False]
        assert not procfs.children(process.pid)
        assert asked(process) == b"alone\n"


KILL_ALL = """
    import os
    from ringfence.collect.process.procfs import children
    for pid in (*children(os.getpid()), os.getpid()): os.kill(pid, 9)
"""


def test_the_stops_are_told() -> None:
    with counter() as process:
        watch = Stopped()
        with injected(process.pid, watch):
            pass
        assert len(watch.times) == 2 and all(0 < item < 1 for item in watch.times)


def status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def wait_for(condition: object) -> None:
    assert callable(condition)
    for _ in range(500):
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.01)
    raise AssertionError("did not come")
