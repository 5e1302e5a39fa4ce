"""Guests and images that mean harm: a clear result within the limits, and nothing left behind."""

from __future__ import annotations

import os
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import ringfence
from tests.guests.build import kernel
from tests.system.conftest import program
from tests.system.guests import ask_on_serial, examined, values

pytestmark = pytest.mark.system

USERS = 0x71000000
"""From here on are the users that QEMU gets."""


def children(pid: int) -> list[int]:
    """The processes below one, all generations."""
    found: list[int] = []
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        direct = [int(word) for one in threads for word in (one / "children").read_text().split()]
    except OSError:
        return []
    for child in direct:
        found += [child, *children(child)]
    return found


@pytest.fixture(autouse=True)
def nothing_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Folders of examinations come here, and are gone afterwards, as are all processes."""
    tmp_path_factory.getbasetemp()  # made where it stays, before TMPDIR changes
    with tempfile.TemporaryDirectory(prefix="guests-") as name:  # a short one, for sockets
        folders = Path(name)
        folders.chmod(0o711)
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.setenv("TMPDIR", name)
        before = set(children(os.getpid()))
        yield folders
        monkeypatch.setattr("tempfile.tempdir", None)
        assert list(folders.iterdir()) == []
        assert set(children(os.getpid())) <= before


def test_a_folder_for_temporary_files_in_which_no_socket_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ("d" * 100)
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(place))
    assert examined(kernel("never"), "--boots", 2, "--memory", "64m")["boots"] == 2


def test_one_that_never_boots() -> None:
    found = examined(kernel("never"), "--boots", 2, "--memory", "64m")
    facts = values(found)
    assert (found["boots"], facts["paging"], facts["ring3_share"]) == (2, "off", None)
    assert facts["halted_share"] == 1


def test_one_that_floods_the_serial_line() -> None:
    """Nobody reads what it says; an exercise that waits for an answer is killed at the limit."""
    began = time.monotonic()
    found = examined(
        kernel("flood"), "--boots", 1, "--memory", "64m", "--time", 6,
        "--exercise", ask_on_serial("GET /", "200 hello"),
    )  # fmt: skip
    assert time.monotonic() - began < 20
    assert [gap["what"] for gap in found["unseen"]] == ["the settled guest", "the guest under load"]
    assert values(found)["ring0_share"] == 1
    serial = next(one for one in values(found)["devices"] if one["name"] == "serial")
    assert serial["serving"] > 0
    evidence = found["facts"]["devices"]["evidence"]["detail"]
    assert serial["serving"] <= 300_000 or "not all were counted" in evidence


def test_one_that_triple_faults() -> None:
    found = examined(kernel("triplefault"), "--memory", "64m")
    assert (found["boots"], found["ends"]) == (1, ["triple fault"])
    shown = ringfence("guest", kernel("triplefault"), "--accel", "tcg", "--memory", "64m")
    assert "the guest stopped by itself: triple fault" in shown.out
    assert not any("triple fault" in line for line in shown.err.splitlines())


def test_one_whose_page_tables_contain_themselves() -> None:
    found = examined(kernel("cyclic"), "--boots", 2, "--memory", "64m")
    facts = values(found)
    assert facts["page_zero_mapped"] is True
    assert facts["writable_executable_pages"] > 1 << 30


def test_one_that_maps_every_address_writable_and_executable() -> None:
    began = time.monotonic()
    found = examined(kernel("everywhere"), "--boots", 1, "--memory", "64m", "--time", 10)
    assert time.monotonic() - began < 15
    assert values(found)["writable_executable_pages"] == 512**4
    assert values(found)["tables_complete"] is True


def test_one_that_is_unpaged_nearly_all_the_time() -> None:
    found = examined(kernel("toggling"), "--boots", 1, "--memory", "64m")
    facts = values(found)
    assert facts["paging"].startswith("off")
    assert facts["writable_executable_pages"] == (64 << 20) // 4096
    assert "paging is off in" in found["facts"]["paging"]["evidence"]["detail"]


def test_a_sparse_disk_of_1_tib(tmp_path: Path) -> None:
    disk = tmp_path / "sparse"
    with disk.open("wb") as file:
        file.truncate(1 << 40)
    refused = ringfence("guest", disk)
    assert refused.code == 2
    assert "nothing that QEMU could start" in refused.err
    with disk.open("r+b") as file:
        file.write(b"\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa")
    found = examined(disk, "--boots", 1, "--disk", disk)
    assert found["kind"] == "raw disk"
    assert disk.stat().st_blocks < 100


@pytest.mark.parametrize("size", [20, 64, 200, 4096, 5000])
def test_a_kernel_cut_short(tmp_path: Path, size: int) -> None:
    cut = tmp_path / "cut.elf"
    cut.write_bytes(kernel("base").read_bytes()[:size])
    done = ringfence("guest", cut, "--accel", "tcg", "--boots", 1, "--time", 3)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1


def test_segments_that_reach_beyond_memory(tmp_path: Path) -> None:
    wide = bytearray(kernel("base").read_bytes())
    table = int.from_bytes(wide[32:40], "little")
    wide[table + 24 : table + 32] = (1 << 45).to_bytes(8, "little")
    wide[table + 40 : table + 48] = (1 << 44).to_bytes(8, "little")
    image = tmp_path / "wide.elf"
    image.write_bytes(wide)
    done = ringfence("guest", image, "--accel", "tcg", "--boots", 1, "--time", 3)
    assert done.code in (0, 2)
    assert "Traceback" not in done.err


def test_a_broken_qcow2(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    words = [program("qemu-img"), "create", "-q", "-f", "qcow2", str(disk), "10M"]
    subprocess.run(words, check=True)
    broken = bytearray(disk.read_bytes())
    broken[40:48] = b"\xff" * 8
    disk.write_bytes(broken)
    done = ringfence("guest", disk, "--accel", "tcg")
    assert done.code == 2
    assert "L1 table" in done.err and len(done.err.splitlines()) == 1


def test_a_qcow2_that_would_read_a_file_of_the_host(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    words = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", str(disk), "1M"]
    subprocess.run([program("qemu-img"), *words], check=True)
    for place in ((disk,), (kernel("base"), "--disk", disk)):
        done = ringfence("guest", *place)
        assert done.code == 2
        assert "refers to another file" in done.err


BACKING = {8: struct.pack(">QI", 120, 13), 112: bytes(8) + b"/no/such/file"}
DATA = {72: struct.pack(">Q", 4), 112: struct.pack(">II16sQ", 0x44415441, 13, b"/no/such/file", 0)}


@pytest.mark.parametrize("change", [BACKING, DATA])
def test_a_qcow2_that_comes_to_name_a_file_between_boots(
    change: dict[int, bytes], tmp_path: Path
) -> None:
    raw, disk = tmp_path / "raw", tmp_path / "disk.qcow2"
    raw.write_bytes((b"\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    convert = ["convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)]
    subprocess.run([program("qemu-img"), *convert], check=True)
    program_text = f"file = open({str(disk)!r}, 'r+b')\nfor at, data in {change!r}.items():\n"
    program_text += "    file.seek(at); file.write(data)"
    exercise = shlex.join([sys.executable, "-c", program_text])
    for place in ((disk,), (kernel("sleep"), "--disk", disk)):
        subprocess.run([program("qemu-img"), *convert], check=True)
        found = examined(*place, "--boots", 3, "--memory", "64m", "--exercise", exercise)
        assert found["boots"] == 3
        info = [program("qemu-img"), "info", str(disk)]
        opened = subprocess.run(info, check=False, capture_output=True, text=True)
        assert "/no/such/file" in opened.stdout + opened.stderr  # QEMU by itself believes it
        assert "refers to another file" in ringfence("guest", *place).err


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "nothing"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "device":
        place = Path("/dev/zero")
    done = ringfence("guest", place)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1


def test_what_an_exercise_leaves_behind_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    note.touch()
    for _ in range(5):  # on a busy machine the examination may end before the shell has written
        examined(
            kernel("sleep"), "--boots", 1, "--memory", "64m",
            "--exercise", f"sleep 300 & echo $! >{note}",
        )  # fmt: skip
        if note.read_text().strip():
            break
    pid = int(note.read_text())
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()


def started(*words: object) -> subprocess.Popen[bytes]:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "ringfence", "guest", *map(str, words), "--accel", "tcg"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def qemu_below(pid: int) -> int:
    """The QEMU that an examination has started, once it runs."""
    for _ in range(400):
        for child in children(pid):
            try:
                if os.readlink(f"/proc/{child}/exe").endswith("/qemu-system-x86_64"):
                    return child
            except OSError:
                pass
        time.sleep(0.02)
    raise AssertionError("QEMU was not started")


def test_what_encloses_qemu(nothing_left: Path) -> None:
    running = started(kernel("sleep"), "--boots", 1, "--port", 80)
    try:
        qemu = qemu_below(running.pid)
        # The filter is the last thing that it sets up.
        for _ in range(200):
            lines = Path(f"/proc/{qemu}/status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            if status["Seccomp"] == "2":
                break
            time.sleep(0.02)
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
        assert {int(word) >= USERS for word in status["Uid"].split()} == {True}
        assert status["Groups"].strip() == ""
        assert all(int(status[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapBnd"))
        limits = Path(f"/proc/{qemu}/limits").read_text()
        assert "unlimited" not in next(
            line for line in limits.splitlines() if line.startswith("Max address space")
        )
        listening = subprocess.run(
            [program("ss"), "-Hltnp"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        places = [line.split()[3] for line in listening if f"pid={qemu}," in line]
        assert len(places) == 1 and places[0].startswith("127.0.0.1:")
    finally:
        running.wait(timeout=60)
    assert running.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_our_own_sudden_end(nothing_left: Path, number: signal.Signals) -> None:
    running = started(kernel("never"), "--boots", 50, "--exercise", "sleep 300")
    qemu = qemu_below(running.pid)
    time.sleep(1)
    running.send_signal(number)
    running.wait(timeout=10)
    for _ in range(200):
        if not Path(f"/proc/{qemu}").exists() and not list(nothing_left.iterdir()):
            return
        time.sleep(0.02)
    raise AssertionError("QEMU, or its folder, is still there")
