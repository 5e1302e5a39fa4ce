"""`ringfence run`: what it refuses is named, with the option that gives it; nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from ringfence.cli.run import LEAST_PIDS
from ringfence.run.result import Options, ready
from tests.command import ringfence
from tests.full_pipe import filled
from tests.system.conftest import program
from tests.system.hardening import RINGFENCE, Done, fenced, static_server
from tests.system.test_ledger_audit import REFUSED

pytestmark = pytest.mark.system

# What it does beyond the first page is not in the exercise, and no string of it says the path.
SERVER = r"""
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
static volatile sig_atomic_t ended;
static void end(int number) { (void)number; ended = 1; }
static int act(const char *path) {
  char file[] = "/srv/x"; file[5] = path[2];
  if (path[1] == 'f') return open(file, O_RDONLY);
  if (path[1] == 'w') return open(file, O_WRONLY | O_CREAT, 0600);
  if (path[1] == 's') return socket(38, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (path[1] == 'l') return listen(3, 8);
  if (path[1] == 'r') {
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) || setrlimit(RLIMIT_NOFILE, &limit) ? -1 : 0;
  }
  if (path[1] == 'p') return prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
  return open("/srv/index", O_RDONLY);
}
int main(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080)};
  struct sigaction handler = {.sa_handler = end};
  int one = 1, door = socket(AF_INET, SOCK_STREAM, 0);
  sigaction(SIGTERM, &handler, 0);
  prctl(PR_SET_NAME, "server", 0, 0, 0);
  setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(door, (void *)&at, sizeof at) || listen(door, 16)) return 1;
  while (!ended) {
    char asked[1024], page[64];
    int peer = accept(door, 0, 0);
    if (peer < 0) continue;
    ssize_t got = read(peer, asked, sizeof asked - 1);
    asked[got > 0 ? got : 0] = 0;
    char *path = strtok(strchr(asked, ' ') ? strchr(asked, ' ') + 1 : asked, " ");
    int result = act(path ? path : "/");
    int size = sprintf(page, "%s", result < 0 ? "refused" : "done");
    dprintf(peer, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, page);
    if (result > 2) close(result);
    close(peer);
  }
  return 0;
}
"""
FRONT = ("--http", "http://localhost:8080/")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = static_server(tmp_path_factory.mktemp("tree") / "tree", SERVER)
    (place / "srv").mkdir()
    for name in ("index", "k"):
        (place / "srv" / name).write_text("page\n")
    return place


def hardened(tree: Path, result: Path, *words: str) -> Path:
    done = Done(str(tree), "-o", str(result), *FRONT, *words, command=("/bin/server",))
    assert done.code == 0, done.err
    return result


@pytest.fixture(scope="module")
def result(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hardened(tree, tmp_path_factory.mktemp("result") / "result")


def test_refused_arguments_are_named(result: Path) -> None:
    with fenced(result, 8080) as service:
        assert service.ask("/s")[1] == service.ask("/p")[1] == b"refused"
        code, _, err = service.stop()
    assert code == 0
    assert "--allow 'socket[AF_ALG,SOCK_SEQPACKET]'" in err


def test_a_standard_error_that_takes_nothing_holds_no_service_up(result: Path) -> None:
    unread, stalled = os.pipe()
    filled(stalled)
    full = os.open("/dev/full", os.O_WRONLY)
    for errors in (full, stalled):
        with fenced(result, 8080, errors=errors) as service:
            for _ in range(2):
                assert service.ask("/s")[1] == service.ask("/p")[1] == b"refused"
            assert service.ask("/")[1] == b"done"
            assert service.stop()[0] == 0
    for handle in (unread, stalled, full):
        os.close(handle)


def test_what_is_named_helps(tree: Path, tmp_path: Path) -> None:
    result = hardened(tree, tmp_path / "result", "--allow", "socket[AF_ALG,SOCK_SEQPACKET]",
                      "--allow", "prctl[0x1b]", "--keep", "/srv/k",
                      "--writable", "/srv/new")  # fmt: skip
    with fenced(result, 8080) as service:
        assert service.ask("/p")[1] == service.ask("/fk")[1] == b"done"
        service.ask("/s")
        _, _, err = service.stop()
    assert "refused" not in err


def test_arguments_that_no_filter_looks_at(tree: Path, tmp_path: Path) -> None:
    done = Done(str(tree), "-o", str(tmp_path / "result"), "--allow", "kill[9]",
                command=("/bin/server",))  # fmt: skip
    assert done.code == 2 and "arguments of kill are not looked at; --allow kill" in done.err


def test_a_traced_run_names_files(result: Path) -> None:
    with fenced(result, 8080, "--trace") as service:
        assert {service.ask(path)[1] for path in ("/fk", "/fz", "/wn", "/s", "/p")} == {b"refused"}
        code, _, err = service.stop()
    assert code == 0, err
    assert "looked for /srv/k, which was left out: ringfence harden ... --keep /srv/k" in err
    assert "could not write /srv/n (EROFS): ringfence harden ... --writable /srv" in err
    assert "refused socket(AF_ALG, SOCK_SEQPACKET" in err and "refused prctl" in err
    assert "/srv/z" not in err  # was never there


def ended(pid: int) -> bool:
    """Gone, or dead and only waited for by whoever adopted it."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def listed(pid: int) -> bool:
    """Whether runc knows a container that this process of ours has made."""
    names = subprocess.run([program("runc"), "list", "-q"], capture_output=True, text=True)
    return f"ringfence-{pid}-" in names.stdout


def test_killed_it_leaves_nothing(result: Path) -> None:
    with fenced(result, 8080) as service:
        pid = service.pid()
        mounts = Path(f"/proc/{pid}/mountinfo").read_text()
        service.process.kill()
        service.process.communicate()
        for _ in range(500):
            if ended(pid) and not listed(service.process.pid):
                break
            time.sleep(0.01)
    assert mounts
    assert ended(pid) and not listed(service.process.pid)


def test_the_ledger_keeps_what_was_done_and_refused(tree: Path, tmp_path: Path) -> None:
    """harden, probe, run and a refusal, in one ledger that verifies."""
    for words in ("genpkey -algorithm ed25519 -out k.key", "pkey -in k.key -pubout -out k.pub"):
        subprocess.run([program("openssl"), *words.split()], cwd=tmp_path, check=True)
    kept = ("--ledger", str(tmp_path / "ledger"), "--key", str(tmp_path / "k.key"))
    result = hardened(tree, tmp_path / "result", *kept)
    assert ringfence("probe", result, *kept).code == 0
    with fenced(result, 8080, *kept) as service:
        service.ask("/s")
        assert service.stop()[0] == 0
    shown = ringfence("watch", "log", tmp_path / "ledger", "--format", "json")
    rows = [json.loads(line) for line in shown.out.splitlines()]
    kinds = [row["kind"] for row in rows if row["kind"] != "ledger"]
    assert kinds == ["policy", "probe", "run", "denial", "run"]
    by_kind = {row["kind"]: row["detail"] for row in rows}
    assert by_kind["denial"]["call"] == "socket[AF_ALG,SOCK_SEQPACKET]"
    assert by_kind["run"] == {"event": "ended", "status": 0}
    assert "accept" in by_kind["policy"]["calls"]
    verified = ringfence("watch", "log", tmp_path / "ledger", "--verify",
                         "--public-key", tmp_path / "k.pub")  # fmt: skip
    assert verified.code == 0, verified.out + verified.err


def test_the_ledger_keeps_what_the_kernel_killed_in_it_and_not_beside_it(
    result: Path, tmp_path: Path
) -> None:
    """Not by the fence's own filter: that one's refusals are told by its listener."""
    if os.uname().machine != "x86_64" or not Path("/proc/self/loginuid").exists():
        pytest.skip("the numbers of the filter are those of x86-64, and it takes an audit")
    subprocess.run([program("openssl"), *"genpkey -algorithm ed25519 -out k.key".split()],
                   cwd=tmp_path, check=True)  # fmt: skip
    kept = ("--ledger", str(tmp_path / "ledger"), "--key", str(tmp_path / "k.key"))
    killed = [sys.executable, "-c", REFUSED, "80000000", "0"]
    with fenced(result, 8080, *kept) as service:
        assert service.ask("/")[1] == b"done"
        subprocess.run(killed, check=False)
        subprocess.run([program("nsenter"), "-t", str(service.pid()), "-p", *killed], check=False)
        assert service.stop()[0] == 0
    shown = ringfence("watch", "log", tmp_path / "ledger", "--format", "json", "--kind", "denial")
    (row,) = map(json.loads, shown.out.splitlines())
    assert (row["detail"]["source"], row["detail"]["call"]) == ("kernel audit", "getppid")


def test_a_ledger_without_a_key(result: Path) -> None:
    done = ringfence("run", result, "--ledger", "/nowhere")
    assert done.code == 2 and "--ledger and --key belong together" in done.err


def test_what_the_second_filter_refuses_is_told_and_what_the_first_did_still_is(
    tree: Path, tmp_path: Path
) -> None:
    """Its limits it may set as at the start; a socket does not begin to listen again."""
    result = hardened(tree, tmp_path / "result", "--phases")
    with fenced(result, 8080) as service:
        deadline = time.monotonic() + 20
        while service.ask("/l")[1] != b"refused":
            assert time.monotonic() < deadline, "the second filter is there some time"
        assert service.ask("/s")[1] == service.ask("/p")[1] == b"refused"
        assert service.ask("/r")[1] == service.ask("/")[1] == b"done"
        code, _, err = service.stop()
    assert code == 0
    assert "refused listen " in err and "--allow 'listen'" in err
    assert "refused socket[AF_ALG,SOCK_SEQPACKET]" in err
    assert "prlimit64" not in err and "keeps the first filter" not in err


def test_a_traced_service_gets_its_second_filter_and_is_traced_again(
    tree: Path, tmp_path: Path
) -> None:
    def status(pid: int) -> dict[str, str]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    result = hardened(tree, tmp_path / "result", "--phases")
    with fenced(result, 8080, "--trace") as service:
        deadline = time.monotonic() + 20
        while (found := status(service.pid()))["Seccomp_filters"] != "2" or (
            found["TracerPid"] == "0"
        ):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        assert service.ask("/")[1] == b"done"
        code, _, err = service.stop()
    assert code == 0
    assert "keeps the first filter" not in err


def test_the_image_alone_can_be_probed_also_with_another_command(result: Path) -> None:
    image = result / "image.oci.tar"
    for words in ((), ("--", "/bin/server")):
        done = ringfence("probe", image, "--format", "json", *words)
        assert done.code == 0, done.err
        target = json.loads(done.out)["target"]
        assert (target["kind"], target["program"]) == ("image", "server")
    done = ringfence("probe", image, "--", "/bin/nothing")
    assert done.code != 0 and "/bin/nothing" in done.err


def test_a_check_of_what_runs_knows_the_image_s_owners(result: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    made = ringfence("watch", "init", result / "image.oci.tar", "-o", tmp_path / "baseline",
                     "--generate-key", key)  # fmt: skip
    assert made.code == 0, made.err

    def changed(pid: int) -> dict[str, Any]:
        done = ringfence("watch", "check", pid, "--baseline", tmp_path / "baseline",
                         "--public-key", f"{key}.pub", "--format", "json")  # fmt: skip
        found = json.loads(done.out)
        assert not found["added"] and not found["removed"]
        return {item["path"]: item["attributes"] for item in found["changed"]}

    with fenced(result, 8080) as service:
        mounted = changed(service.pid())
        assert set(mounted) <= {"/dev", "/proc", "/sys"}
        program_there = ready(result, Options()).fence.root / "bin/server"
        before = program_there.stat()
        os.chown(program_there, before.st_uid + 5, before.st_gid)
        try:
            found = changed(service.pid())
        finally:
            os.chown(program_there, before.st_uid, before.st_gid)
            program_there.chmod(before.st_mode)
    assert set(found) == {*mounted, "/bin/server"}
    assert found["/bin/server"]["owner"] == [0, 5]


def test_podman_is_an_engine(result: Path) -> None:
    program("podman")
    with fenced(result, 8080, "--engine", "podman") as service:
        assert service.ask("/")[1] == b"done"
        assert service.ask("/s")[1] == b"refused"
        code, _, err = service.stop()
    assert code == 0, err
    names = [program("podman"), "ps", "--all", "--format", "{{.Names}}"]
    assert "ringfence-" not in subprocess.run(names, capture_output=True, text=True).stdout


def test_the_least_processes_are_enough(result: Path) -> None:
    with fenced(result, 8080, "--pids", str(LEAST_PIDS), "--engine", "runc") as service:
        assert service.ask("/")[1] == b"done"
        assert service.stop()[0] == 0


def test_an_engine_that_does_not_work_is_passed_over(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "runc"
    broken.write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
    broken.chmod(0o755)
    (tmp_path / "crun").symlink_to(program("runc"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with fenced(result, 8080) as service:
        assert service.ask("/")[1] == b"done"
        code, _, err = service.stop(signal.SIGTERM)
    assert code == 0 and "runc: it is broken: trying crun" in err


def test_a_folder_for_temporary_files_in_which_no_socket_fits(
    result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="d" * 100) as place:
        Path(place).chmod(0o711)
        monkeypatch.setenv("TMPDIR", place)
        with fenced(result, 8080) as service:
            assert service.ask("/")[1] == b"done"


def test_an_unknown_engine(result: Path) -> None:
    done = subprocess.run(
        [str(RINGFENCE), "run", str(result), "--engine", "lxc"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "lxc is no engine" in done.stderr
