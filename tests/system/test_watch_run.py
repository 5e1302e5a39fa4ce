"""`ringfence watch run`: every kind of change is told, with who did it; nothing told is lost."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.watch.live.marks import RENAMED
from tests.command import ringfence
from tests.system.conftest import program
from tests.system.watch_runs import PATIENCE, Run, tmpfs

pytestmark = pytest.mark.system


def fill(target: Path) -> None:
    """A small target."""
    for folder in ("etc", "bin", "log"):
        (target / folder).mkdir(parents=True)
    (target / "etc/conf").write_text("a")
    (target / "etc/other").write_text("other")
    (target / "bin/tool").write_bytes(Path("/bin/true").read_bytes())
    (target / "bin/tool").chmod(0o755)
    (target / "log/log").write_text("first\n")


@pytest.fixture(params=["folders", "file system"])
def watch(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """A target whose folders are marked, and one that is a file system of its own."""
    target = tmp_path / "target"
    if request.param == "folders":
        fill(target)
        yield prepared(tmp_path, target)
    else:
        with tmpfs(target):
            fill(target)
            yield prepared(tmp_path, target)


def prepared(place: Path, target: Path) -> Run:
    """With its baseline."""
    run = Run(place, target)
    run.watched.init("--rule", "/log/log=grows", "--rule", "/ignored/**=ignored")
    return run


def test_each_kind_of_change_is_told_with_what_it_made_of_the_file(watch: Run) -> None:
    target = watch.target
    with watch.running():
        (target / "etc/conf").write_text("b")
        changed = watch.until_event("change", "/etc/conf", verdict="changed")
        assert "sha256" in changed.detail["attributes"]
        # In the same record, or in the next where the write was read before the file was closed.
        closed = "close-after-write"
        watch.until(lambda told: any(
            item.subject == "/etc/conf" and closed in item.detail.get("did", ()) for item in told
        ))  # fmt: skip
        (target / "bin/tool").chmod(0o4755)
        mode = watch.until_event("change", "/bin/tool", verdict="changed")
        assert mode.detail["attributes"]["mode"] == ["0755", "4755"]
        assert mode.detail["severity"] == "critical"
        (target / "bin/tool").rename(target / "bin/moved")
        gone = watch.until_event("change", "/bin/tool", verdict="removed")
        assert (gone.detail["did"], gone.detail["other"]) == (["rename-from"], "/bin/moved")
        here = watch.until_event("change", "/bin/moved", verdict="added")
        assert (here.detail["did"], here.detail["other"]) == (["rename-to"], "/bin/tool")
        (target / "etc/other").unlink()
        watch.until_event("change", "/etc/other", verdict="removed", did=["delete"])
        os.truncate(target / "etc/conf", 0)
        watch.until(lambda told: any(i.detail.get("did") == ["write"] for i in told))
        os.symlink("conf", target / "etc/link")
        os.mkfifo(target / "etc/fifo")
        os.link(target / "etc/conf", target / "etc/hard")
        for name in ("link", "fifo", "hard"):
            watch.until_event("change", f"/etc/{name}", verdict="added")
        (target / "etc/conf").write_text("a")
        watch.until(lambda told: [i for i in told if i.subject == "/etc/conf"])
        assert watch.stop() == 0
    assert watch.events("stop")[0].detail["reason"] == "SIGTERM"


def test_a_file_put_back_is_told_as_the_same(watch: Run) -> None:
    with watch.running():
        (watch.target / "etc/conf").write_text("a")
        watch.until_event("change", "/etc/conf", verdict="same")


def test_who_did_it_is_told(watch: Run) -> None:
    code = "import sys, time; open(sys.argv[1], 'w').write('x'); time.sleep(30)"
    with watch.running():
        command = [sys.executable, "-c", code, str(watch.target / "etc/conf"), "--token=s3cret"]
        with subprocess.Popen(command) as who:
            found = watch.until_event("change", "/etc/conf").detail["who"]
            who.kill()
    assert found["pid"] == who.pid
    assert found["uid"] == 0
    assert os.path.realpath(found["executable"]) == os.path.realpath(sys.executable)
    assert found["command"][-1] == "--token=***"
    assert found["parent_pid"] == os.getpid()
    assert found["fsuid"] == 0
    assert "gone" not in found
    assert b"s3cret" not in b"".join(path.read_bytes() for path in watch.ledger.iterdir())


def test_a_program_executed_after_the_change_is_not_told_as_certain(watch: Run) -> None:
    command = 'echo evil > "$0"; exec sleep 30'
    with watch.running(), contextlib.ExitStack() as stack:
        for number in range(10):
            path = str(watch.target / f"etc/{number}")
            process = stack.enter_context(subprocess.Popen(["/bin/sh", "-c", command, path]))
            stack.callback(process.kill)
            watch.until_event("change", f"/etc/{number}", verdict="added")
        code = "import sys, time; time.sleep(1); open(sys.argv[1], 'w').close(); time.sleep(30)"
        words = [sys.executable, "-c", code, str(watch.target / "etc/calm")]
        process = stack.enter_context(subprocess.Popen(words))
        stack.callback(process.kill)
        calm = watch.until_event("change", "/etc/calm").detail["who"]
        watch.stop()
    assert "unsure" not in calm and "earlier" not in calm
    told = [item.detail["who"] for item in watch.events("change") if item.subject[5:].isdigit()]
    later = [who for who in told if os.path.basename(who.get("executable", "")) == "sleep"]
    assert later, told
    for who in later:
        assert who["unsure"][0].startswith("executable: "), who


def test_a_write_through_a_mapping_is_told_when_it_is_closed(watch: Run) -> None:
    with watch.running():
        with (watch.target / "etc/other").open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
            pages[0:1] = b"X"
            pages.flush()
        found = watch.until_event("change", "/etc/other", verdict="changed")
        assert found.detail["did"] == ["close-after-write"]
        assert list(found.detail["attributes"]) == ["sha256"]


def test_new_folders_are_watched_with_what_was_in_them_already(watch: Run) -> None:
    target = watch.target
    with watch.running():
        deep = target / "new/one/two"
        deep.mkdir(parents=True)
        (deep / "early").write_text("x")
        watch.until_event("change", "/new/one/two/early", verdict="added")
        (deep / "late").write_text("x")
        watch.until_event("change", "/new/one/two/late", verdict="added")
        (target / "new").rename(target / "renamed")
        (target / "renamed/one/two/later").write_text("x")
        watch.until_event("change", "/renamed/one/two/later", verdict="added")


def test_a_folder_that_is_called_deleted_is_watched_like_any_other(watch: Run) -> None:
    hiding = watch.target / "etc/x (deleted)"
    hiding.mkdir()
    with watch.running():
        (hiding / "file").write_text("x")
        watch.until_event("change", "/etc/x (deleted)/file", verdict="added")


def test_what_a_rule_permits_is_not_told_and_what_it_forbids_is(watch: Run) -> None:
    target = watch.target
    with watch.running():
        with (target / "log/log").open("a") as log:
            log.write("more\n")
        (target / "ignored").mkdir()
        (target / "ignored/file").write_text("x")
        (target / "etc/marker").write_text("x")
        watch.until_event("change", "/etc/marker")
        assert not watch.events("change", "/log/log")
        assert not watch.events("change", "/ignored/file")
        (target / "log/log").write_text("rewritten\n")
        watch.until_event("change", "/log/log", verdict="changed")


def test_names_of_any_bytes_are_told(watch: Run) -> None:
    name = b"new\nline\xff\xfe"
    with watch.running():
        Path(os.fsdecode(bytes(watch.target) + b"/etc/" + name)).write_text("x")
        watch.until(lambda told: any("subject_hex" in item.detail for item in told))
        found = next(item for item in watch.told() if "subject_hex" in item.detail)
        assert bytes.fromhex(found.detail["subject_hex"]) == b"/etc/" + name
        watch.stop(signal.SIGINT)
    for row in watch.output.read_bytes().splitlines():
        row.decode("ascii")


def test_a_mount_in_the_target_is_told(watch: Run) -> None:
    inside = watch.target / "etc"
    with watch.running():
        subprocess.run(["mount", "--bind", str(watch.target / "bin"), str(inside)], check=True)
        try:
            watch.until_event("change", "/etc", did=["mount"])
        finally:
            subprocess.run(["umount", str(inside)], check=True)
        watch.until_event("change", "/etc", did=["unmount"])


def test_mounts_on_top_and_those_that_were_gone_again_are_told(watch: Run) -> None:
    inside = str(watch.target / "etc")

    def count(did: str) -> int:
        return sum(item.detail["did"] == [did] for item in watch.events("change", "/etc"))

    def until(did: str, number: int) -> None:
        watch.until(lambda _: count(did) == number)

    with watch.running():
        assert watch.process is not None
        try:
            for number in (1, 2):
                subprocess.run(["mount", "-t", "tmpfs", "ringfence-test", inside], check=True)
                until("mount", number)
        finally:
            for number in (1, 2):
                subprocess.run(["umount", inside], check=True)
                until("unmount", number)
        assert not watch.events("mounts")
        watch.process.send_signal(signal.SIGSTOP)
        subprocess.run(["mount", "-t", "tmpfs", "ringfence-test", inside], check=True)
        subprocess.run(["umount", inside], check=True)
        watch.process.send_signal(signal.SIGCONT)
        told = watch.until_event("mounts", str(watch.target))
        assert "not seen" in told.detail["why"]
        assert (count("mount"), count("unmount")) == (2, 2)


def test_an_overflow_is_told_and_the_check_finds_what_it_lost(watch: Run) -> None:
    (watch.target / "etc/many").mkdir()
    with watch.running():
        assert watch.process is not None
        watch.process.send_signal(signal.SIGSTOP)
        limit = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())
        for number in range(limit + 1000):
            os.close(os.open(watch.target / f"etc/many/{number}", os.O_CREAT | os.O_WRONLY))
        watch.process.send_signal(signal.SIGCONT)
        watch.until_event("full-check", str(watch.target))
        assert watch.events("overflow")
        told = {i.subject for i in watch.told() if i.detail.get("event") in ("change", "found")}
        assert {f"/etc/many/{number}" for number in range(limit + 1000)} <= told
        assert watch.events("rescan")[0].detail["reason"] == "overflow"


def test_full_checks_tell_what_happened_before_and_say_what_they_are_for(watch: Run) -> None:
    (watch.target / "etc/conf").write_text("before the start")
    with watch.running("--full-every", "1", first=True):
        found = watch.until_event("found", "/etc/conf", verdict="changed")
        assert "(start)" in found.detail["by"]
        watch.until(lambda told: sum(i.detail.get("event") == "full-check" for i in told) >= 3)
        assert len(watch.events("found", "/etc/conf")) == 1, "the same finding is told once"
        assert "mapping" in watch.events("rescan")[0].detail["why"]


def test_killed_at_any_moment_nothing_that_was_printed_is_lost(watch: Run) -> None:
    for round_ in range(4):
        with watch.running():
            (watch.target / f"etc/{round_}").write_text("x")
            watch.until_event("change", f"/etc/{round_}")
            for number in range(200):
                (watch.target / f"etc/{round_}-{number}").write_text("x")
                if number == round_ * 60:
                    watch.kill_all()
    printed = [row for row in watch.output.read_text().splitlines() if " change " in row]
    told = {item.subject for item in watch.told()}
    assert printed
    for row in printed:
        assert any(f" {path} " in row for path in told), row
    public = watch.key.with_suffix(".pub")
    subprocess.run(["openssl", "pkey", "-in", str(watch.key), "-pubout", "-out", str(public)],
                   check=True)  # fmt: skip
    assert ringfence("watch", "log", watch.ledger, "--verify", "--public-key", public).code == 0


def test_a_reader_that_stalls_holds_up_neither_the_ledger_nor_the_end(watch: Run) -> None:
    """Standard output is a pipe that nobody reads, and full."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    try:
        with watch.running(output=write):
            os.close(write)
            for number in range(50):
                (watch.target / f"etc/new-{number}").write_text("a")
            watch.until_event("change", "/etc/new-49", verdict="added")
            assert watch.stop() == 0
    finally:
        os.close(read)
    assert len(watch.events("stop")) == 1


def test_an_altered_baseline_is_not_run_with(watch: Run) -> None:
    data = bytearray(watch.watched.baseline.read_bytes())
    data[len(data) // 2] ^= 1
    watch.watched.baseline.write_bytes(data)
    done = ringfence("watch", "run", watch.target, "--baseline", watch.watched.baseline,
                     "--public-key", watch.watched.public)  # fmt: skip
    assert done.code == 2
    assert "altered" in done.err


def test_without_the_privilege_it_says_what_is_missing(watch: Run) -> None:
    done = subprocess.run(
        [program("setpriv"), "--bounding-set", "-sys_admin", sys.executable, "-m", "ringfence",
         "watch", "run", watch.target, "--baseline", watch.watched.baseline,
         "--public-key", watch.watched.public],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "CAP_SYS_ADMIN" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_ends_with_its_targets_root_and_says_so(tmp_path: Path) -> None:
    target = tmp_path / "target"
    fill(target)
    watch = prepared(tmp_path, target)
    with watch.running():
        (target / "etc/conf").write_text("b")
        target.rename(tmp_path / "old")
        target.mkdir()
        assert watch.process is not None
        assert watch.process.wait(PATIENCE) == 2
    root = watch.events("root")[0]
    assert (root.subject, root.detail["why"]) == (str(target), RENAMED)
    assert watch.events("change", "/etc/conf")
    assert watch.events("change", "/")[0].detail["who"]["pid"] == os.getpid()
    assert watch.events("stop")[0].detail["reason"] == RENAMED
    assert "start again when it is in its place" in watch.output.read_text()
