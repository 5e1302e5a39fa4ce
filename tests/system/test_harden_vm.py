"""`ringfence harden --as vm`: a stock kernel boots the result, and the service answers from it."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.command import ringfence
from tests.system.conftest import program
from tests.system.guests import examined, linux, values
from tests.system.hardening import NGINX, Done, fenced, static_server

pytestmark = pytest.mark.system

ASK = """
import http.client, json, os, sys
found = []
for path, headers in json.loads(sys.argv[2]):
    peer = http.client.HTTPConnection("127.0.0.1", int(os.environ["RINGFENCE_PORT"]), timeout=20)
    peer.request("GET", path, headers=headers)
    answer = peer.getresponse()
    found.append([answer.status, answer.read().decode("latin-1")])
with open(sys.argv[1] + ".part", "w") as file:
    json.dump(found, file)
os.rename(file.name, sys.argv[1])  # it is run again and again, and may be cut short
"""
END = """
import os, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{os.environ['RINGFENCE_PORT']}/end", timeout=5)
"""
PAGES: list[tuple[str, dict[str, str]]] = [
    ("/", {}), ("/none", {}), ("/", {"Range": "bytes=0-9"}), ("/", {"Accept-Encoding": "gzip"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def kernel() -> Path:
    (found,) = (linux() / "boot").glob("vmlinuz-*")
    return found


@pytest.fixture(scope="module")
def result(rootfs_tar: Path, kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vm") / "result"
    done = Done(str(rootfs_tar), "-o", str(folder), "--as", "vm", "--kernel", str(kernel),
                "--http", "http://localhost/", command=NGINX)  # fmt: skip
    assert done.code == 0, done.err
    assert "virtio_net" in done.out and f"Linux {kernel.name.removeprefix('vmlinuz-')}" in done.out
    return folder


def booted(
    folder: Path, kernel: Path, port: int, pages: list[tuple[str, dict[str, str]]], answers: Path
) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """The examination of a result's machine, and what it answered."""
    words = [sys.executable, "-c", ASK, str(answers), json.dumps(pages)]
    found = examined(
        kernel, "--initrd", folder / "vm.initrd", "--append",
        (folder / "vm.cmdline").read_text().strip(), "--port", port, "--boots", 1,
        "--exercise", shlex.join(words),
    )  # fmt: skip
    return found, [(status, body) for status, body in json.loads(answers.read_text())]


Booted = tuple[dict[str, Any], list[tuple[int, str]]]


@pytest.fixture(scope="module")
def machine(result: Path, kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Booted:
    return booted(result, kernel, 80, PAGES, tmp_path_factory.mktemp("answers") / "answers")


def test_nginx_answers_from_the_machine_what_it_answers_in_the_fence(
    result: Path, machine: Booted
) -> None:
    found, answers = machine
    with fenced(result, 80) as service:
        expected = [service.ask(path, **{name.replace("-", "_"): value
                                         for name, value in headers.items()})
                    for path, headers in PAGES]  # fmt: skip
    assert [status for status, _ in answers] == [200, 404, 206, 200]
    assert [(status, body.encode("latin-1")) for status, body in answers] == expected
    assert (found["ends"], found["unseen"]) == ([], [])
    facts = values(found)
    assert facts["ring3_share"] > 0
    assert [facts[name] for name in ("wp", "nx", "smep", "smap")] == [True] * 4
    assert facts["writable_executable_pages"] == 0
    network = next(one for one in facts["devices"] if one["name"] == "virtio-net")
    assert network["driver_ok"] is True and network["serving"] > 0


def test_it_is_compared_with_what_it_was_made_from(
    result: Path, machine: Booted, tmp_path: Path
) -> None:
    found, _ = machine
    (tmp_path / "g.json").write_text(json.dumps(found))
    done = ringfence("compare", result / "image.oci.tar", tmp_path / "g.json", "--targets-only",
                     "--no-plan", "--format", "json")  # fmt: skip
    assert done.code == 0, done.err
    image, guest = json.loads(done.out)["measurements"]
    assert (image["target"]["kind"], guest["target"]["kind"]) == ("image", "examined")
    assert [point["id"] for point in image["entry_points"]] == [
        point["id"] for point in guest["entry_points"]
    ]
    assert image["evidence_coverage"]["probed"] == 0 < guest["evidence_coverage"]["probed"]
    states = {item["id"]: item for line in guest["deployment"]["boundaries"]
              for item in line["mechanisms"]}  # fmt: skip
    for name in ("application-in-ring-3", "smep", "smap"):
        assert states[name]["state"] == "on"
        assert states[name]["evidence"][0]["grade"] == "probed"


def test_the_archive_holds_the_image_and_the_kernel_reads_it_as_cpio_does(result: Path) -> None:
    expanded = subprocess.run(
        ["gzip", "-dc", str(result / "vm.initrd")], capture_output=True, check=True
    ).stdout
    listed = subprocess.run(
        [program("cpio"), "-tv", "--quiet", "--numeric-uid-gid"], input=expanded,
        capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    rows = {row.split()[-1]: row.split() for row in listed.splitlines() if " -> " not in row}
    kept = {file["path"] for file in json.loads((result / "report.json").read_text())["files"]}
    links = {row.split(" -> ")[0].split()[-1] for row in listed.splitlines() if " -> " in row}
    own = {path for path in rows if path.startswith(".ringfence")}
    assert kept <= rows.keys() | links
    assert {".ringfence/init", ".ringfence/filter", ".ringfence/virtio_net.ko"} <= own
    assert not [path for path in rows if "s" in rows[path][0] or path.endswith("/sh")]
    assert rows["var/lib/nginx"][:4] == ["drwxr-x---", "2", "33", "33"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).with_name("state.c").read_text()
    return static_server(tmp_path_factory.mktemp("server") / "root", source)


@contextmanager
def plain(server: Path) -> Iterator[str]:
    """The same program as root on this host: what it says of itself there."""
    process = subprocess.Popen([server / "bin/server"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(250):
            try:
                peer = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
                peer.request("GET", "/state")
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        yield peer.getresponse().read().decode()
    finally:
        process.kill()
        process.wait()
        for path in ("/new", "/dev/new"):
            Path(path).unlink(missing_ok=True)


def tries(page: str) -> dict[str, str]:
    """What was tried, and done or why not."""
    return dict(re.findall(r"^([^\t:\n]+)\t(.+)$", page, re.M))


@pytest.fixture(scope="module")
def own(server: Path, kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "result"
    done = Done(str(server), "-o", str(folder), "--as", "vm", "--kernel", str(kernel), "--user",
                "1234:1235", "--writable", "/var/place", "--env", "SECRET=none",
                "--http", "http://localhost:8080/", command=("/bin/server",))  # fmt: skip
    assert done.code == 0, done.err
    return folder


def test_inside_it_is_nobody(own: Path, kernel: Path, tmp_path: Path) -> None:
    _, answers = booted(own, kernel, 8080, [("/state", {})], tmp_path / "answers")
    ((status, page),) = answers
    assert status == 200
    fields = dict(re.findall(r"^(\w+):[ \t]*(.*)$", page, re.M))
    assert fields["Uid"].split() == ["1234"] * 4 and fields["Gid"].split() == ["1235"] * 4
    assert fields["Groups"] == ""
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0" * 16
    }
    assert (fields["NoNewPrivs"], fields["Seccomp"], fields["PPid"]) == ("1", "2", "1")
    assert "\nfenced\n1\nsetuid" in page, "its host has a name, modules are no longer loaded"
    mounts = dict(re.findall(r"^\d+ \d+ \d+:\d+ \S+ (\S+) (\S+)", page, re.M))
    for place in ("/", "/dev", "/sys", "/proc/sys", "/proc/irq", "/sys/firmware"):
        assert mounts[place].split(",")[0] == "ro", place
    assert mounts["/var/place"].startswith("rw,nosuid,nodev,noexec")
    assert tries(page) == {
        "setuid(0)": "Operation not permitted",
        "socket(AF_PACKET)": "Operation not permitted",
        "kill(1, 0)": "Operation not permitted",
        "find /.ringfence": "No such file or directory",
        "find /proc/1/status": "No such file or directory",
        "write /bin/server": "Permission denied",
        "write /new": "Read-only file system",
        "write /var/place/new": "done",
        "write /dev/new": "Read-only file system",
        "write /dev/console": "Permission denied",
        "write /dev/null": "done",
        "write /dev/stdout": "done",
        "write /proc/sys/kernel/hostname": "Permission denied",
        "read /proc/kcore": "nothing there",
        "execute what was written": "Permission denied",
    }


def test_when_the_service_ends_the_machine_does(own: Path, kernel: Path) -> None:
    found = examined(
        kernel, "--initrd", own / "vm.initrd", "--append", (own / "vm.cmdline").read_text().strip(),
        "--port", 8080, "--boots", 1, "--exercise", shlex.join([sys.executable, "-c", END]),
    )  # fmt: skip
    assert found["ends"] == ["guest-shutdown"]


def test_as_root_on_this_host_the_same_tries_succeed(server: Path) -> None:
    with plain(server) as page:
        found = tries(page)
    for what in ("setuid(0)", "socket(AF_PACKET)", "kill(1, 0)", "find /proc/1/status",
                 "write /new", "write /dev/new", "write /proc/sys/kernel/hostname"):  # fmt: skip
        assert found[what] == "done", what


def test_without_a_compiler_or_a_kernel_it_says_so(
    server: Path, kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(server), "-o", str(tmp_path / "x"), "--as", "vm"]
    done = Done(*words, command=("/bin/server",))
    assert done.code == 2 and "--kernel" in done.err
    done = Done(*words, "--kernel", str(server / "bin/server"), command=("/bin/server",))
    assert done.code == 2 and "no Linux boot image" in done.err
    done = Done(*words, "--kernel", str(kernel), "--modules", str(server),
                command=("/bin/server",))  # fmt: skip
    assert done.code == 2 and "has no modules of" in done.err
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("runc", "strace", "nft"):
        (bare / name).symlink_to(program(name))
    monkeypatch.setenv("PATH", str(bare))
    done = Done(*words, "--kernel", str(kernel), command=("/bin/server",))
    assert done.code == 3 and "musl-tools" in done.err
    assert not (tmp_path / "x").exists()
