"""Why a run ends: signals are noted, and cut nothing short."""

from __future__ import annotations

import os
import select
import signal
import threading

from ringfence.watch.live.ending import Ending

BOTH = (signal.SIGTERM, signal.SIGINT)


def readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def test_a_signal_is_noted_and_wakes() -> None:
    for number in BOTH:
        with Ending() as ending:
            assert ending.reason == "" and not readable(ending.fd)
            os.kill(os.getpid(), number)
            assert ending.reason == number.name and readable(ending.fd)
            ending.woken()
            assert ending.reason == number.name and not readable(ending.fd)


def test_the_first_reason_stays() -> None:
    with Ending() as ending:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert ending.reason == "SIGINT"
    with Ending() as ending:
        ending.reason = "the target has ended"
        os.kill(os.getpid(), signal.SIGTERM)
        assert ending.reason == "the target has ended"


def test_everything_is_as_it_was_afterwards() -> None:
    handlers = [signal.getsignal(number) for number in BOTH]
    handles = len(os.listdir("/proc/self/fd"))
    wakeup = signal.set_wakeup_fd(-1)
    with Ending():
        assert [signal.getsignal(number) for number in BOTH] != handlers
    assert [signal.getsignal(number) for number in BOTH] == handlers
    assert signal.set_wakeup_fd(wakeup) == -1
    assert len(os.listdir("/proc/self/fd")) == handles


def test_no_lock_is_left_taken() -> None:
    """What a handler that raises does, sooner or later: signals all the while a lock is used."""
    turn, done = threading.Condition(), threading.Event()

    def signals() -> None:
        while not done.wait(0.0001):
            os.kill(os.getpid(), signal.SIGTERM)

    with Ending() as ending:
        thread = threading.Thread(target=signals)
        thread.start()
        for _ in range(20_000):
            with turn:
                turn.notify_all()
        done.set()
        thread.join()
        assert turn.acquire(timeout=1)
        assert ending.reason == "SIGTERM"
