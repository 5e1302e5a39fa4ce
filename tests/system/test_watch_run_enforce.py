"""`ringfence watch run --enforce exec`: what runs, what does not, and when nobody decides.

Only ever on a tmpfs that the test makes, in a process group that a timer kills: no other file of
this machine is asked about.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ringfence.watch.live.allowed import LearnedFile
from ringfence.watch.live.marks import RENAMED
from ringfence.watch.live.ruling import LOADED, WRITTEN
from tests.command import ringfence
from tests.full_pipe import filled
from tests.system.watch_runs import Run, tmpfs

pytestmark = pytest.mark.system

LOADER = Path("/lib64/ld-linux-x86-64.so.2")
LIBRARY = Path("/lib/x86_64-linux-gnu/libz.so.1")
ON = ("--enforce", "exec")
DECIDER, STANDBY = "ringfence.watch.live.decider", "ringfence.watch.live.standby"


@pytest.fixture
def fence(tmp_path: Path) -> Iterator[Run]:
    """A tmpfs with a program, a script, a library and data, and its baseline."""
    with tmpfs(tmp_path / "target") as target:
        shutil.copy("/bin/true", target / "good")
        shutil.copy("/bin/true", target / "second")
        shutil.copy(LIBRARY, target / "good.so")
        (target / "script.sh").write_text("#!/bin/sh\nexit 0\n")
        (target / "script.sh").chmod(0o755)
        (target / "data").write_text("data")
        run = Run(tmp_path, target)
        run.watched.init()
        yield run


def outcome(*command: object) -> int:
    """The exit code of a command; 126 and more: it could not be executed."""
    quoted = ["sh", "-c", '"$@"', "sh", *map(str, command)]
    return subprocess.run(quoted, capture_output=True, timeout=20, check=False).returncode


def loads(library: Path) -> bool:
    """Whether dlopen(3) takes a library, in a process of its own."""
    code = f"import ctypes; ctypes.CDLL({str(library)!r})"
    return outcome(sys.executable, "-c", code) == 0


def plant(target: Path) -> None:
    """Foreign code, made while it is enforced: writing it is no offence yet."""
    (target / "evil").write_bytes(Path("/bin/true").read_bytes())
    (target / "evil").chmod(0o755)
    (target / "evil.so").write_bytes(LIBRARY.read_bytes())
    (target / "evil.sh").write_text("#!/bin/sh\nexit 0\n")


def test_what_the_baseline_has_runs_in_every_way(fence: Run) -> None:
    target = fence.target
    with fence.running(*ON, sign="enforce"):
        assert outcome(target / "good") == 0
        assert outcome(LOADER, target / "good") == 0
        assert outcome(target / "script.sh") == 0
        assert outcome("sh", target / "script.sh") == 0
        assert loads(target / "good.so")
        assert (target / "data").read_text() == "data"
        assert not fence.events("denial")
        assert fence.stop() == 0


def test_foreign_code_runs_in_none(fence: Run) -> None:
    target = fence.target
    with fence.running(*ON, sign="enforce"):
        plant(target)
        assert outcome(target / "evil") >= 126
        assert outcome(LOADER, target / "evil") != 0
        assert not loads(target / "evil.so")
        assert outcome("sh", target / "evil.sh") != 0
        os.link(target / "evil", target / "link")
        assert outcome(target / "link") >= 126
        (target / "evil").rename(target / "renamed")
        assert outcome(target / "renamed") >= 126
        found = fence.until_event("denial", "/evil", how="execute", why="not in the baseline")
        assert found.kind == "denial"
        assert found.detail["who"]["uid"] == 0
        fence.until_event("denial", "/evil.so", how="open")
        fence.until_event("denial", "/evil.sh", how="open")
        assert fence.stop() == 0
    assert outcome(target / "renamed") == 0, "it was enforcement alone that kept it"


def test_code_is_not_written_to_and_its_other_content_does_not_run(fence: Run) -> None:
    target = fence.target
    with fence.running(*ON, sign="enforce"):
        with pytest.raises(PermissionError):
            (target / "good").open("r+b")
        (target / "good").unlink()
        (target / "good").write_bytes(Path("/bin/false").read_bytes())
        (target / "good").chmod(0o755)
        assert outcome(target / "good") >= 126
        fence.until_event("denial", "/good", why="not the baseline's content")
        (target / "good").unlink()
        (target / "good").write_bytes(Path("/bin/true").read_bytes())
        (target / "good").chmod(0o755)
        assert outcome(target / "good") == 0, "the right content may come back"


def test_code_that_was_open_for_writing_before_does_not_run(fence: Run) -> None:
    with (fence.target / "good.so").open("r+b"), fence.running(*ON, sign="enforce"):
        assert not loads(fence.target / "good.so")
        fence.until_event("denial", "/good.so", why="somebody holds it open for writing")
    with fence.running(*ON, sign="enforce"):
        assert loads(fence.target / "good.so")


def test_what_may_become_code_yet_is_for_programs_and_not_for_the_loader(fence: Run) -> None:
    sly = fence.target / "sly"
    with fence.running(*ON, sign="enforce"):
        with sly.open("wb") as writer:
            writer.write(b"\0\0\0\0" + Path("/bin/true").read_bytes()[4:])
            writer.flush()
            assert outcome("cat", sly) == 0
            assert outcome(LOADER, sly) != 0
            fence.until_event("denial", "/sly", why=WRITTEN, how="open")
            assert not loads(sly)
        assert outcome(LOADER, sly) != 0, "it is no program"
        plant(fence.target)
        assert outcome(fence.target / "evil") >= 126
        fence.until_event("denial", "/evil")
        told = fence.events("denial", "/sly")
        assert len(told) == 2, "nobody could make it one any more"


def test_what_others_than_root_can_make_code_is_for_programs_and_not_for_the_loader(
    fence: Run,
) -> None:
    sly = fence.target / "sly"
    with fence.running(*ON, sign="enforce"):
        sly.write_bytes(b"\0\0\0\0" + Path("/bin/true").read_bytes()[4:])
        os.chown(sly, 65534, 65534)
        assert outcome("cat", sly) == 0
        assert outcome(LOADER, sly) != 0
        fence.until_event("denial", "/sly", why=LOADED, how="open")
        os.chown(fence.target / "good.so", 65534, 65534)
        assert loads(fence.target / "good.so"), "it is code of the baseline, whosever it is"
        assert not loads(sly)
        os.chown(sly, 0, 0)
        assert outcome(LOADER, sly) != 0, "it is no program"
        plant(fence.target)
        assert outcome(fence.target / "evil") >= 126
        fence.until_event("denial", "/evil")
        assert len(fence.events("denial", "/sly")) == 2, "nobody but root could make it one"


def test_a_deleted_file_does_not_run_by_its_descriptor(fence: Run) -> None:
    with fence.running(*ON, sign="enforce"):
        handle = os.open(fence.target / "good", os.O_RDONLY)
        try:
            (fence.target / "good").unlink()
            command = ["sh", "-c", f"/proc/self/fd/{handle}"]
            done = subprocess.run(command, pass_fds=[handle], capture_output=True, check=False)
        finally:
            os.close(handle)
        assert done.returncode >= 126


def test_what_is_said_not_to_be_covered_is_not(fence: Run) -> None:
    """docs/watch.md says so: this keeps it honest."""
    (fence.target / "plain").write_text("exit 7\n")
    with fence.running(*ON, sign="enforce"):
        assert outcome("sh", fence.target / "plain") == 7, "text without a sign of code"
        memory = os.memfd_create("m")
        os.write(memory, Path("/bin/true").read_bytes())
        command = ["sh", "-c", f"/proc/self/fd/{memory}"]
        done = subprocess.run(command, pass_fds=[memory], capture_output=True, check=False)
        os.close(memory)
        assert done.returncode == 0, "a file in memory alone"


def test_a_killed_decider_is_replaced_and_meanwhile_code_is_denied(fence: Run) -> None:
    plant(fence.target)
    with fence.running(*ON, sign="enforce"):
        (decider,) = fence.children(DECIDER)
        os.kill(decider, signal.SIGKILL)
        fence.until_event("enforce", str(fence.target), verdict="gone")
        fence.until_event("enforce", str(fence.target), verdict="ready")
        assert outcome(fence.target / "good") == 0
        assert outcome(fence.target / "evil") >= 126
        (again,) = fence.children(DECIDER)
        assert again != decider


@pytest.mark.parametrize("rule", ["deny", "allow"])
def test_while_the_decider_hangs_the_rule_decides_in_time(fence: Run, rule: str) -> None:
    plant(fence.target)
    with fence.running(*ON, "--when-gone", rule, "--patience", "0.5", sign="enforce"):
        (decider,) = fence.children(DECIDER)
        os.kill(decider, signal.SIGSTOP)
        began = time.monotonic()
        found = outcome(fence.target / "evil")
        assert time.monotonic() - began < 15
        assert (found == 0) is (rule == "allow")
        assert (fence.target / "data").read_text() == "data", "data may be opened whatever the rule"
        fence.until_event("enforce", str(fence.target), verdict="ready")
        assert outcome(fence.target / "evil") >= 126


@pytest.mark.parametrize(("rule", "runs"), [("deny", False), ("allow", True)])
def test_when_the_watcher_is_killed_the_rule_decides(fence: Run, rule: str, runs: bool) -> None:
    plant(fence.target)
    with fence.running(*ON, "--when-gone", rule, sign="enforce"):
        assert fence.process is not None
        os.kill(fence.process.pid, signal.SIGKILL)
        fence.process.wait()
        deadline = time.monotonic() + 5
        while runs and fence.children(STANDBY) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (outcome(fence.target / "evil") == 0) is runs
        assert outcome(fence.target / "good") == 0
    assert outcome(fence.target / "evil") == 0, "with all of them gone the kernel allows"


def test_a_standard_error_that_nobody_reads_holds_no_decision_up(fence: Run) -> None:
    plant(fence.target)
    unread, errors = os.pipe()
    filled(errors)
    with fence.running(*ON, "--when-gone", "deny", sign="enforce", errors=errors):
        assert fence.process is not None
        deciders = fence.children(DECIDER)
        os.kill(fence.process.pid, signal.SIGKILL)  # from now on denials are told there
        fence.process.wait()
        for _ in range(3):
            assert outcome(fence.target / "evil") != 0
            assert outcome(fence.target / "good") == 0
        assert fence.children(DECIDER) == deciders, "it was replaced, since it hung"
    os.close(unread)
    os.close(errors)


def test_no_name_and_no_word_ends_decider_or_standby(fence: Run) -> None:
    plant(fence.target)
    odd = os.fsencode(fence.target) + b"/odd \xff\xfe.so"
    Path(os.fsdecode(odd)).write_bytes(LIBRARY.read_bytes())
    with fence.running(*ON, sign="enforce"):
        (decider,), (standby,) = fence.children(DECIDER), fence.children(STANDBY)
        script = f"for i in 1 2 3 4 5 6; do {fence.target}/evil && exit 0; done; exit 1"
        assert outcome("sh", "-c", script, os.fsdecode(b"\xff")) == 1
        with pytest.raises(PermissionError):
            Path(os.fsdecode(odd)).read_bytes()
        found = fence.until_event("denial", "/evil", how="execute")
        assert found.detail["who"]["command"][:3] == ["sh", "-c", script]
        fence.until(lambda told: sum("odd" in item.subject for item in told) == 1)
        assert outcome(fence.target / "good") == 0
        assert (fence.children(DECIDER), fence.children(STANDBY)) == ([decider], [standby])
        assert fence.stop() == 0


def test_a_folder_of_any_depth_ends_nothing_and_is_told(fence: Run) -> None:
    plant(fence.target)
    deep = (
        "cd $1; d=$(printf 'd%.0s' $(seq 200)); for i in $(seq 25); do mkdir -p $d; cd ./$d; done"
    )
    with fence.running(*ON, sign="enforce"):
        script = f"{deep}; echo plain > data; cat data; cp /bin/true code; ./code"
        done = subprocess.run(["bash", "-c", script, "bash", str(fence.target)],
                              capture_output=True, timeout=20, check=False)  # fmt: skip
        assert (done.stdout, done.returncode >= 126) == (b"plain\n", True)
        assert outcome(fence.target / "evil") >= 126
        fence.until(lambda told: any(
            item.detail.get("event") == "denial" and item.subject.startswith("/ddd")
            and item.detail["why"] == "its path is longer than 4,095 bytes" for item in told
        ))  # fmt: skip
        fence.until(lambda told: any("below" in item.detail.get("did", ()) for item in told))
        assert fence.stop() == 0


def test_files_of_any_length_hold_no_decision_up(fence: Run) -> None:
    with fence.running(*ON, sign="enforce"):
        for number in range(40):
            endless = fence.target / f"endless{number}.so"
            endless.touch()
            os.truncate(endless, 1 << 40)
            with pytest.raises(PermissionError):
                endless.open("rb")
        began = time.monotonic()
        assert outcome(fence.target / "good") == 0
        assert time.monotonic() - began < 1
        fence.until_event("denial", "/endless39.so", why="not in the baseline")


@pytest.mark.parametrize(("rule", "runs"), [("deny", False), ("allow", True)])
def test_when_the_watcher_fails_the_rule_decides(fence: Run, rule: str, runs: bool) -> None:
    plant(fence.target)
    with fence.running(*ON, "--when-gone", rule, sign="enforce"):
        assert fence.process is not None
        (segment,) = fence.ledger.glob("segment-*")
        segment.unlink()  # a ledger that was tampered with
        (fence.target / "data").write_text("an event")
        assert fence.process.wait(20) == 2
        deadline = time.monotonic() + 5
        while runs and fence.children(STANDBY) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (outcome(fence.target / "evil") == 0) is runs
        assert outcome(fence.target / "good") == 0
        told = fence.output.read_text()
        assert ("decider and standby" in told and "go on until they are killed" in told) is not runs


def test_all_of_them_killed_nothing_waits_for_an_answer(fence: Run) -> None:
    plant(fence.target)
    with fence.running(*ON, sign="enforce"):
        fence.kill_all()
        assert fence.process is not None
        fence.process.wait()
        assert outcome(fence.target / "evil") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_before_it_is_ready_it_leaves_nobody_who_denies(
    fence: Run, number: signal.Signals
) -> None:
    plant(fence.target)
    for delay in (0.0, 0.2, 0.4):
        fence.process = process = started(fence)
        deadline = time.monotonic() + 20
        while not fence.children(STANDBY):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(number)
        assert process.wait(30) in (0, 130)
        assert nobody_is_left(process.pid)
        assert outcome(fence.target / "evil") == 0


def started(fence: Run) -> subprocess.Popen[bytes]:
    """Enforcement, without waiting for anything; killed in the end with all that it started."""
    command = [
        sys.executable, "-m", "ringfence", "watch", "run", fence.target, *ON,
        "--baseline", fence.watched.baseline, "--public-key", fence.watched.public,
        "--ledger", fence.ledger, "--key", fence.key,
    ]  # fmt: skip
    with fence.output.open("ab") as output:
        return subprocess.Popen(list(map(str, command)), stdout=output, stderr=output,
                                start_new_session=True)  # fmt: skip


def nobody_is_left(group: int) -> bool:
    """Whether a process group has ended, a moment after its first process."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    os.killpg(group, signal.SIGKILL)
    return False


def test_learning_whose_file_cannot_be_written_ends_all_the_same(
    fence: Run, tmp_path: Path
) -> None:
    place = tmp_path / "learning"
    place.mkdir()
    plant(fence.target)
    with fence.running("--learn", place / "learned.json", sign="enforce"):
        shutil.rmtree(place)
        assert outcome(fence.target / "evil") == 0
        fence.until_event("learned", "/evil")
        assert fence.stop() == 2
        assert fence.process is not None and nobody_is_left(fence.process.pid)
    assert "learned.json: cannot be written" in fence.output.read_text()


def test_learning_denies_nothing_and_later_only_what_was_learned_runs(
    fence: Run, tmp_path: Path
) -> None:
    learned = tmp_path / "learned.json"
    plant(fence.target)
    with fence.running("--learn", learned, sign="enforce"):
        assert outcome(fence.target / "good") == 0
        assert outcome(fence.target / "evil") == 0
        fence.until_event("learned", "/evil", why="not in the baseline as it is: would be denied")
        assert fence.stop() == 0
    files = msgspec.json.decode(learned.read_bytes(), type=LearnedFile).files
    assert {(item.path, item.known) for item in files} == {("/good", True), ("/evil", False)}
    with fence.running(*ON, "--learned", learned, sign="enforce"):
        assert outcome(fence.target / "good") == 0
        assert outcome(fence.target / "second") >= 126
        assert outcome(fence.target / "evil") >= 126


def test_a_full_check_reads_foreign_code(fence: Run) -> None:
    plant(fence.target)
    with fence.running(*ON, first=True, sign="enforce"):
        found = fence.until_event("found", "/evil", verdict="added")
        assert "sha256" in found.detail["attributes"]


def test_it_is_refused_where_it_would_reach_beyond_the_target(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "file").write_text("x")
    run = Run(tmp_path, target)
    run.watched.init()
    for words in ([target], ["--kind", "process", str(os.getpid())]):
        done = ringfence("watch", "run", *words, "--baseline", run.watched.baseline,
                         "--public-key", run.watched.public, *ON)  # fmt: skip
        assert done.code == 2, done
        assert "mount" in done.err


@pytest.mark.parametrize("before", [(), ("unshare", "--mount", "--propagation", "slave")])
def test_a_run_in_mounts_of_its_own_says_whom_it_does_not_reach(
    before: tuple[str, ...], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    shutil.copy("/bin/true", target / "good")
    subprocess.run(["mount", "--bind", target, target], check=True)
    try:
        run = Run(tmp_path, target)
        run.watched.init()
        with run.running(*ON, sign="enforce", before=before):
            plant(target)
            assert (outcome(target / "evil") == 0) is bool(before)
            (on,) = [item for item in run.told() if item.detail.get("verdict") == "on"]
            assert ("mount namespace of its own" in str(on.detail.get("why"))) is bool(before)
            assert run.stop() == 0
    finally:
        subprocess.run(["umount", "-l", target], check=True)


@pytest.mark.parametrize("root", [".", "sub"])
def test_the_target_as_a_later_namespaces_root_runs_the_same_programs(
    root: str, fence: Run
) -> None:
    place = fence.target / root
    (place / "old").mkdir(parents=True)
    shutil.copy("/bin/busybox", place / "busybox")
    fence.watched.init()
    script = f"mount --bind {place} {place}; cd {place}; pivot_root . old; exec /$0 true"
    enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with fence.running(*ON, sign="enforce"):
        assert outcome(*enter, "busybox") == 0
        shutil.copy("/bin/busybox", place / "foreign")
        assert outcome(*enter, "foreign") != 0
        path = "/" + str((place / "foreign").relative_to(fence.target))
        fence.until_event("denial", path, how="execute", why="not in the baseline")


def test_a_process_in_mounts_of_its_own_is_enforced_there_alone(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "root") as root:
        for folder in ("bin", "lib64", "lib", "tmp", "proc"):
            (root / folder).mkdir()
        busybox = shutil.which("busybox")
        if busybox is None:
            pytest.skip("busybox is not installed")
        shutil.copy(busybox, root / "bin/busybox")
        script = (
            f"mount --bind {root} {root}; cd {root}; mkdir old; pivot_root . old; "
            "umount -l /old; exec /bin/busybox sleep 600"
        )
        with subprocess.Popen(["unshare", "-m", "/bin/sh", "-c", script]) as inside:
            try:
                _enforced_inside(tmp_path, root, inside.pid)
            finally:
                inside.kill()


def _enforced_inside(place: Path, root: Path, pid: int) -> None:
    deadline = time.monotonic() + 10
    while not os.readlink(f"/proc/{pid}/exe").endswith("/busybox"):
        assert time.monotonic() < deadline, "it did not get there"
        time.sleep(0.05)
    run = Run(place, Path(str(pid)))
    run.watched.init("--kind", "process")
    enter = ["nsenter", "-t", str(pid), "-m", "-r", "/bin/busybox"]
    with run.running("--kind", "process", *ON, sign="enforce"):
        assert outcome(*enter, "true") == 0
        assert outcome(*enter, "cp", "/bin/busybox", "/tmp/true") == 0
        assert outcome(*enter, "sh", "-c", "/tmp/true") != 0
        run.until_event("denial", "/tmp/true", how="execute")
        assert outcome("/bin/true") == 0, "the host is not asked about"


def test_a_file_that_takes_too_long_is_denied_and_decided_the_next_time(fence: Run) -> None:
    big = fence.target / "big.so"
    big.touch()
    os.truncate(big, 1000 << 20)  # nothing but a hole: a second of digesting, no memory
    fence.watched.init()
    with fence.running(*ON, "--patience", "0.2", sign="enforce"):
        with pytest.raises(PermissionError):
            big.open("rb")
        fence.until_event("denial", "/big.so", why="reading it took longer than --patience")
        deadline = time.monotonic() + 20
        while outcome("head", "-c", "1", big) != 0:
            assert time.monotonic() < deadline, "it was never decided"
        assert not fence.events("enforce")[1:], "the decider was well all the time"


@pytest.mark.parametrize(("rule", "runs"), [("deny", False), ("allow", True)])
def test_when_the_standby_is_killed_the_decider_goes_on_or_ends(
    fence: Run, rule: str, runs: bool
) -> None:
    plant(fence.target)
    with fence.running(*ON, "--when-gone", rule, sign="enforce"):
        (standby,) = fence.children(STANDBY)
        os.kill(standby, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while runs and fence.children(DECIDER) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (outcome(fence.target / "evil") == 0) is runs
        assert outcome(fence.target / "good") == 0
        if not runs:
            fence.until_event("enforce", str(fence.target), verdict="lost")
            assert fence.stop() == 0
            assert outcome(fence.target / "evil") == 0, "stopped, nothing is enforced any more"


def test_a_root_that_is_not_at_its_path_is_told_and_enforced_on(tmp_path: Path) -> None:
    above, away = tmp_path / "above", tmp_path / "away"
    above.mkdir()
    with tmpfs(above / "target") as target:
        shutil.copy("/bin/true", target / "good")
        run = Run(tmp_path, target)
        run.watched.init()
        with run.running(*ON, sign="enforce"):
            plant(target)
            above.rename(away)
            try:
                run.until_event("root", str(target), why=RENAMED)
                run.until(lambda told: any(i.detail.get("reason") == "root" for i in told))
                assert outcome(away / "target/evil") >= 126
            finally:
                away.rename(above)
            assert outcome(target / "good") == 0
            assert outcome(target / "evil") >= 126
            assert run.stop() == 0
        assert len(run.events("root")) == 1
