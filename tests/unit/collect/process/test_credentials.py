"""Threads of a process may differ in who they are: the most privileged one counts."""

from __future__ import annotations

import subprocess
import sys

from ringfence.collect.process import procfs
from ringfence.collect.process.credentials import (
    CAPABILITIES,
    credentials,
    no_new_privileges,
    thread_statuses,
)

FULL, NONE = f"{(1 << len(CAPABILITIES)) - 1:016x}", "0" * 16


def status(ids: str, effective: str, permitted: str = "", bound: str = "1") -> dict[str, str]:
    return {
        "Uid": ids, "Gid": ids, "Groups": "", "NoNewPrivs": bound, "CapEff": effective,
        "CapPrm": permitted or effective, "CapInh": NONE, "CapBnd": FULL, "CapAmb": NONE,
    }  # fmt: skip


NOBODY = status("65534 65534 65534 65534", NONE)
ROOT = status("0 0 0 0", FULL, bound="0")


def test_a_thread_that_stayed_root_makes_the_process_root() -> None:
    found = credentials(10, {10: NOBODY, 11: ROOT, 12: NOBODY})
    assert (found.uid, found.gid, found.root) == (0, 0, True)
    assert found.uids == {0, 65534}
    assert found.groups == (65534,)
    assert "CAP_SYS_ADMIN" in found.effective
    assert found.evidence.source == "/proc/10/task/11/status"
    assert "thread 11 has more privileges than the first one" in found.evidence.detail


def test_capabilities_of_threads_add_up() -> None:
    threads = {10: status("5 5 5 5", f"{1:016x}"), 11: status("5 5 5 5", f"{2:016x}")}
    found = credentials(10, threads)
    assert found.effective == {"CAP_CHOWN", "CAP_DAC_OVERRIDE"}
    assert found.evidence.source == "/proc/10/status"


def test_threads_alike_are_told_by_the_first() -> None:
    found = credentials(10, {10: NOBODY, 11: NOBODY})
    assert (found.uid, found.root, found.groups) == (65534, False, ())
    assert found.evidence.source == "/proc/10/status"
    assert found.evidence.detail == f"Uid 65534, CapEff {NONE}"


def test_an_id_that_can_be_taken_back_is_kept_and_shown() -> None:
    found = credentials(10, {10: status("1234 1234 0 1234", NONE, FULL)})
    assert (found.uid, found.root) == (1234, True)
    assert "CAP_SYS_ADMIN" in found.usable
    assert found.evidence.detail == f"Uid 1234 1234 0 1234, CapEff {NONE}, CapPrm {FULL}"


def test_no_new_privileges_holds_where_all_threads_have_it() -> None:
    assert no_new_privileges(10, {10: NOBODY, 11: NOBODY}).value is True
    seen = no_new_privileges(10, {10: NOBODY, 11: ROOT})
    assert seen.value is False
    assert seen.evidence.source == "/proc/10/task/11/status"
    assert "thread 11" in seen.evidence.detail
    assert no_new_privileges(10, {10: NOBODY, 11: {"Uid": "0"}}).value is None


def test_every_living_thread_is_read() -> None:
    """A bit that the first thread alone has set does not hold for the process."""
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        first = procfs.fields(procfs.read(process.pid, "status").decode())
        threads = thread_statuses(process.pid, first)
    finally:
        process.kill()
        process.communicate()
    assert len(threads) == 2
    assert next(iter(threads)) == process.pid
    assert first["NoNewPrivs"] == "1"
    assert no_new_privileges(process.pid, threads).value is False
