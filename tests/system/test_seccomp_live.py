"""Filters of live processes, read from the kernel, and the process unharmed by it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.collect.process import procfs
from ringfence.collect.seccomp import live
from ringfence.collect.seccomp.live import FilterUnreadable, read_live, read_programs
from ringfence.collect.seccomp.tables import native_calls
from tests.seccomp import child, encoded, filtered_child, install, native_refusing, refusing
from tests.system.conftest import program, python_process

pytestmark = pytest.mark.system
MOUNT = native_calls()["mount"]
QUESTIONS = ("mount", "socket[AF_ALG]", "socket[AF_INET]")

THREADS = """
import sys, threading, time
sys.path.insert(0, {root!r})
from tests.seccomp import install, refusing
ready = threading.Barrier(3)
def confined():
    install(refusing({number}))
    ready.wait(); time.sleep(600)
def free():
    ready.wait(); time.sleep(600)
{main}
for target in {targets}:
    threading.Thread(target=target, daemon=True).start()
ready.wait()
"""


def state(pid: int) -> str:
    return procfs.fields(Path(f"/proc/{pid}/status").read_text())["State"][0]


def tracer(pid: int) -> str:
    return procfs.fields(Path(f"/proc/{pid}/status").read_text())["TracerPid"]


def until(pid: int, wanted: str) -> None:
    for _ in range(200):
        if state(pid) == wanted:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is {state(pid)}, not {wanted}")


def test_without_a_filter_everything_is_allowed() -> None:
    with child(lambda: None) as pid:
        found = read_live(pid, QUESTIONS)
    assert (found.mode, found.filters) == (0, 0)
    assert {verdict.actions for verdict in found.calls.values()} == {("allow",)}


@pytest.mark.parametrize("stack", [1, 3])
def test_every_stacked_filter_is_read(stack: int) -> None:
    with filtered_child(stack, refused=MOUNT) as pid:
        found = read_live(pid, QUESTIONS)
        programs = read_programs(pid).programs
    assert found.filters == stack
    assert programs == tuple(encoded(refusing(MOUNT + index)) for index in range(stack))
    by_number = {number: name for name, number in native_calls().items()}
    refused = {name for name, verdict in found.calls.items() if verdict.actions == ("errno",)}
    assert refused == {by_number[MOUNT + index] for index in range(stack)}
    assert found.asked["mount"].errno == 1
    assert found.asked["socket[AF_INET]"].actions == ("allow",)


def test_a_filter_on_an_argument() -> None:
    """socket(AF_ALG) alone is refused, with EAFNOSUPPORT."""
    body = [(0x20, 0, 0, 0), (0x15, 0, 3, native_calls()["socket"]), (0x20, 0, 0, 16),
            (0x15, 0, 1, 38), (6, 0, 0, 0x00050061), (6, 0, 0, 0x7FFF0000)]  # fmt: skip
    with child(lambda: install(body)) as pid:
        found = read_live(pid, QUESTIONS)
    assert found.asked["socket[AF_ALG]"].errno == 97
    assert found.asked["socket[AF_INET]"].actions == ("allow",)
    assert found.calls["socket"].actions == ("allow", "errno")
    assert found.calls["socket"].arguments == (0,)


def test_the_kernel_does_what_was_read() -> None:
    """The child itself tries each call and says what it got."""
    names = ("sched_yield", "getppid", "getuid", "getgid")
    numbers = [native_calls()[name] for name in names]
    ours, theirs = os.pipe()

    def prepare() -> None:
        install(native_refusing(*numbers[:2], errno=38))
        call = ctypes.CDLL(None, use_errno=True).syscall
        answers = []
        for number in numbers:
            ctypes.set_errno(0)
            answers.append(ctypes.get_errno() if call(number) == -1 else 0)
        os.write(theirs, bytes(answers))

    with child(prepare) as pid:
        tried = dict(zip(names, os.read(ours, 9), strict=True))
        found = read_live(pid, ())
    os.close(ours)
    os.close(theirs)
    for name, number in tried.items():
        verdict = found.calls[name]
        assert (verdict.errno if verdict.actions == ("errno",) else 0) == number, name
    assert set(tried.values()) == {0, 38}


def test_strict_mode() -> None:
    def prepare() -> None:
        tell.append(1)
        os.write(theirs, b"1")
        prctl = ctypes.CDLL(None).prctl
        prctl(22, 1, 0, 0, 0)
        libc = ctypes.CDLL(None)
        buffer = ctypes.create_string_buffer(1)
        libc.read(ours_blocked, buffer, 1)
        libc.syscall(60, 0)

    tell: list[int] = []
    ours, theirs = os.pipe()
    ours_blocked, _keep = os.pipe()
    pid = os.fork()
    if pid == 0:
        prepare()
        os._exit(1)
    os.read(ours, 1)
    for _ in range(100):
        if procfs.fields(Path(f"/proc/{pid}/status").read_text())["Seccomp"] == "1":
            break
        time.sleep(0.01)
    found = read_live(pid, ())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for descriptor in (ours, theirs, ours_blocked, _keep):
        os.close(descriptor)
    assert found.mode == 1
    allowed = {name for name, verdict in found.calls.items() if verdict.actions == ("allow",)}
    assert allowed == {"read", "write", "exit", "rt_sigreturn"}


@contextlib.contextmanager
def threaded(main: str, targets: str) -> Iterator[int]:
    root = str(Path(__file__).parents[2])
    code = THREADS.format(root=root, number=MOUNT, main=main, targets=targets)
    with python_process(code) as pid:
        yield pid


def test_of_several_threads_the_least_confined_counts() -> None:
    with threaded(f"install(refusing({MOUNT}))", "(confined, confined)") as pid:
        alike = read_live(pid, QUESTIONS)
    assert alike.asked["mount"].actions == ("errno",)
    with threaded("", "(confined, free)") as pid:
        found = read_live(pid, QUESTIONS)
    assert found.calls["mount"].actions == ("allow",)


ALLOWING = "[(6, 0, 0, 0x7FFF0000)]"
"""A filter that allows everything."""


@pytest.mark.parametrize("stack", [1, 3])
def test_a_thread_whose_filters_refuse_nothing_is_not_hidden_by_their_number(stack: int) -> None:
    main = f"""
def idle():
    for _ in range({stack}): install({ALLOWING})
    installed.set(); time.sleep(600)
installed = threading.Event()
threading.Thread(target=idle, daemon=True).start(); installed.wait()
install(refusing({MOUNT})); install(refusing({MOUNT}))
"""
    with threaded(main, "(confined, confined)") as pid:
        found = read_live(pid, QUESTIONS)
    assert (found.mode, found.filters) == (2, min(stack, 2))
    assert found.calls["mount"].actions == found.asked["mount"].actions == ("allow",)
    assert "threads differ" in found.evidence.detail


def test_threads_beyond_the_bound_leave_the_filters_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = f"install(refusing({MOUNT}))"
    with threaded(main, "(confined, confined)") as pid:
        monkeypatch.setattr(live, "MOST_THREADS", 3)
        assert read_live(pid, ()).mode == 2
        monkeypatch.setattr(live, "MOST_THREADS", 2)
        with pytest.raises(FilterUnreadable, match="more than 2 threads"):
            read_live(pid, ())
        monkeypatch.setattr(live, "MOST_THREADS", 3)
        monkeypatch.setattr(live, "MOST_STACKS", 1)
        with pytest.raises(FilterUnreadable, match="more than 1 different"):
            read_live(pid, ())


def test_a_process_that_somebody_traces_is_refused_and_named() -> None:
    with filtered_child() as pid:
        command = [program("strace"), "-qq", "-o", "/dev/null", "-p", str(pid)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as other:
            for _ in range(200):
                if tracer(pid) != "0":
                    break
                time.sleep(0.01)
            with pytest.raises(FilterUnreadable, match=f"process {other.pid} traces it already"):
                read_live(pid, ())
            other.terminate()


def test_a_process_that_is_gone() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises((procfs.Vanished, FileNotFoundError)):
        read_live(pid, ())


def test_the_process_goes_on_untraced() -> None:
    with filtered_child() as pid:
        until(pid, "S")
        read_live(pid, ())
        assert tracer(pid) == "0"
        until(pid, "S")


def test_a_stopped_process_stays_stopped() -> None:
    with filtered_child() as pid:
        os.kill(pid, signal.SIGSTOP)
        until(pid, "T")
        assert read_live(pid, ()).filters == 1
        time.sleep(0.05)
        assert state(pid) == "T"
        os.kill(pid, signal.SIGCONT)
        until(pid, "S")


def test_no_signal_is_lost_while_filters_are_read() -> None:
    """Queued signals, counted by the child, while it is read again and again."""
    ours, theirs = os.pipe()
    wanted = 100

    def prepare() -> None:
        install(refusing(MOUNT))
        # The wake-up pipe gets a byte from the C handler, each time: Python's own handler may
        # fold signals that arrive together into one call.
        os.set_blocking(theirs, False)
        signal.set_wakeup_fd(theirs)
        signal.signal(signal.SIGRTMIN, lambda *_: None)

    with child(prepare) as pid:
        for number in range(wanted):
            os.kill(pid, signal.SIGRTMIN)
            if number % 2 == 0:
                assert read_programs(pid).programs
        time.sleep(0.3)
        counted = len(os.read(ours, 10 * wanted))
    os.close(ours)
    os.close(theirs)
    assert counted == wanted
