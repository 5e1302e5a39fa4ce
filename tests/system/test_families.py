"""What the report calls open or closed, against what the kernel really does when it is tried.

The attempts are made by a child that runs as nobody, and are harmless: descriptors and keys end
with it, and a semaphore set is removed by it.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringfence.collect.seccomp.tables import native_calls
from tests.command import ringfence
from tests.seccomp import child, install, native_refusing, refusing

pytestmark = pytest.mark.system

NOBODY = 65534
NEWNS, NEWUSER, NEWNET = 0x00020000, 0x10000000, 0x40000000
SOCKETS = {  # family id: domain, type, protocol, and whether it takes a user namespace
    "crypto-sockets": (38, 5, 0, False),
    "virtual-sockets": (40, 1, 0, False),
    "kcm": (41, 5, 0, False),
    "tipc": (30, 1, 0, False),
    "rds": (21, 5, 0, False),
    "smc": (43, 1, 0, False),
    "qrtr": (42, 2, 0, False),
    "can": (29, 3, 1, False),
    "bluetooth": (31, 3, 1, False),
    "sctp": (2, 1, 132, False),
    "packet-sockets": (17, 3, 0, True),
    "raw-sockets": (2, 3, 255, True),
    "xdp-sockets": (44, 3, 0, True),
    "af-key": (15, 3, 2, True),
}

ATTEMPT = """
import ctypes, os, sys
name, number, namespaces, *arguments = sys.argv[1:]
call = ctypes.CDLL(None, use_errno=True).syscall
call.restype = ctypes.c_long
def value(text):
    if text.startswith("text:"):
        return ctypes.c_char_p(text[5:].encode())
    if text.startswith("buffer:"):
        return ctypes.create_string_buffer(bytes.fromhex(text[7:]) + bytes(4096))
    return ctypes.c_long(int(text))
if int(namespaces) and call(272, ctypes.c_long(int(namespaces))) < 0:
    sys.exit(1)
made = call(int(number), *map(value, arguments))
if name == "system-v-ipc" and made >= 0:
    call(66, ctypes.c_long(made), 0, 0)  # semctl, IPC_RMID: a set outlives who made it
sys.exit(0 if made >= 0 else 1)
"""


def socket_attempts() -> dict[str, list[object]]:
    number = native_calls()["socket"]
    return {
        name: [number, (NEWUSER | NEWNET) if inside else 0, domain, kind, protocol]
        for name, (domain, kind, protocol, inside) in SOCKETS.items()
    }


def attempts() -> dict[str, list[object]]:
    """Family id -> system call number, namespaces to make first, arguments."""
    calls = native_calls()
    software_clock = "buffer:" + (1).to_bytes(4, "little").hex() + (112).to_bytes(4, "little").hex()
    # struct perf_event_attr: type 1, size 112, config 0, then flags with exclude_kernel at bit 5.
    flags = "00" * 32 + (1 << 5).to_bytes(8, "little").hex()
    return {
        **socket_attempts(),
        "io-uring": [calls["io_uring_setup"], 0, 1, "buffer:"],
        "keyrings": [calls["add_key"], 0, "text:user", "text:ringfence-test", "text:x", 1, -2],
        "perf-events": [calls["perf_event_open"], 0, software_clock + flags, 0, -1, -1, 0],
        "modify-ldt": [calls["modify_ldt"], 0, 0, "buffer:", 16],
        "system-v-ipc": [calls["semget"], 0, 0, 1, 0o600],
        "user-namespaces": [calls["getpid"], NEWUSER],
        "new-mount-api": [calls["fsopen"], NEWUSER | NEWNS, "text:tmpfs", 0],
        "overlayfs-in-userns": [calls["fsopen"], NEWUSER | NEWNS, "text:overlay", 0],
        "bpf": [calls["bpf"], 0, 0, "buffer:010000000400000004000000010000000000000000", 72],
        "kexec": [calls["kexec_load"], 0, 0, 0, 0, 0],
        "kernel-modules": [calls["init_module"], 0, "buffer:", 0, "text:"],
        "io-ports": [calls["iopl"], 0, 3],
    }


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def filtered() -> None:
    names = ("add_key", "request_key", "keyctl", "modify_ldt")
    install(native_refusing(*(native_calls()[name] for name in names)))
    become_nobody()


def succeeds(family: str, prepare: Callable[[], None]) -> bool:
    """Whether the attempt works in a process that `prepare` has put into its place."""
    words = [family, *map(str, attempts()[family])]
    # The interpreter may lie where nobody cannot reach it: so this one forks and runs the text.
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            sys.argv = ["attempt", *words]
            exec(compile(ATTEMPT, "attempt", "exec"), {"__name__": "attempt"})  # noqa: S102
        except SystemExit as end:
            os._exit(int(end.code or 0))
        finally:
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 1), (family, code)
    return code == 0


@pytest.fixture(params=[become_nobody, filtered], ids=["plain", "filtered"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[Callable[[], None], set[str]]]:
    """How the child stands, and the families that the report calls open for it."""
    with child(request.param) as pid:
        done = ringfence("measure", pid, "--format", "json", "--no-plan", "--from", "supply-chain")
    document = json.loads(done.out)
    yield request.param, {vector["id"] for vector in document["vectors"]}


def test_the_report_says_what_the_kernel_does(place: tuple[Callable[[], None], set[str]]) -> None:
    prepare, opened = place
    wrong = [
        f"{family}: tried {'open' if tried else 'closed'}, reported otherwise"
        for family in attempts()
        if (tried := succeeds(family, prepare)) != (family in opened)
    ]
    assert not wrong, wrong


def test_the_attempts_tell_open_from_closed() -> None:
    """Each kind of answer is there, or the comparison would prove nothing."""
    answers = {family: succeeds(family, become_nobody) for family in attempts()}
    assert any(answers.values())
    assert not all(answers.values())
    assert answers["keyrings"]
    assert not succeeds("keyrings", filtered)


def test_a_filter_that_forgets_the_architecture_is_gone_round() -> None:
    """i386's instruction reaches the same kernel: the report says so, and what lets it through."""

    def prepare() -> None:
        install(refusing(native_calls()["modify_ldt"]))

    with child(prepare) as pid:
        done = ringfence("measure", pid, "--format", "json", "--no-plan", "--from", "supply-chain")
    vectors = {vector["id"]: vector for vector in json.loads(done.out)["vectors"]}
    emulated = "CONFIG_IA32_EMULATION=y" in _kernel_configuration()
    assert ("modify-ldt" in vectors) == emulated
    if emulated:
        details = [item["detail"] for item in vectors["modify-ldt"]["evidence"]]
        assert any("let through as i386" in detail for detail in details), details


def _kernel_configuration() -> str:
    try:
        return gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    except OSError:
        pytest.skip("this kernel does not show its configuration")
