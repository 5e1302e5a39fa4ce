"""nginx of a Debian root file system: hardened once, then looked at from all sides."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from ringfence.collect.files.programs import class_of
from ringfence.collect.process import procfs
from ringfence.collect.seccomp.live import read_live
from ringfence.harden.keep.kept import UNWANTED
from ringfence.harden.policy.languages import LANGUAGES
from ringfence.harden.record import Report
from tests.command import ringfence
from tests.system.conftest import free_port, program
from tests.system.hardening import NGINX, RINGFENCE, Done, fenced, report

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def result(rootfs_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harden") / "result"
    done = Done(str(rootfs_tar), "-o", str(folder), "--phases", "--http", "http://localhost/",
                command=NGINX)  # fmt: skip
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def found(result: Path) -> Report:
    return report(result)


def test_the_limits_of_the_issue(found: Report) -> None:
    after = found.counts.after
    assert after.bytes <= 10 << 20
    assert after.files <= 100
    assert after.system_calls <= 100
    assert (after.system_calls_serving or 999) <= 70
    assert (after.setuid, after.shells, after.capabilities) == (0, 0, 0)


def test_it_is_measured_before_and_after(found: Report) -> None:
    assert found.after.surface.total < found.before.surface.total / 5
    before, after = found.before.zero_days_to_admin, found.after.zero_days_to_admin
    assert (before.system or 0) <= (after.system or 9)
    assert (before.machine or 0) <= (after.machine or 9)
    assert found.counts.before.files > 5000


def test_everything_was_asked_again_and_more(found: Report) -> None:
    assert all(item.expected == item.seen for item in found.retest)
    beyond = [item.request for item in found.retest if not item.exercised]
    assert any("Range" in text for text in beyond) and any("HEAD" in text for text in beyond)
    assert any("SIGHUP" in item.request for item in found.retest)


def test_the_image_holds_nothing_writable_or_privileged(result: Path, found: Report) -> None:
    with tarfile.open(result / "image.oci.tar") as archive:
        manifest = json.load(archive.extractfile("manifest.json"))[0]  # type: ignore[arg-type]
        config = json.load(archive.extractfile(manifest["Config"]))["config"]  # type: ignore[arg-type]
        layer = archive.extractfile(manifest["Layers"][0])
        assert layer is not None
        with tarfile.open(fileobj=layer) as files:
            members = files.getmembers()
    declared = {path.strip("/") for path in config["Volumes"]}
    for member in members:
        assert not member.mode & 0o7000, member.name
        inside = any(member.name == p or member.name.startswith(f"{p}/") for p in declared)
        assert (member.uid == 0 and not member.mode & 0o022) or inside or member.issym(), (
            member.name
        )
    assert not [m.name for m in members if m.isfile() and class_of(m.name) in UNWANTED]
    assert config["User"] == found.user == "33:33"
    assert config["ExposedPorts"] == {"80/tcp": {}}


def test_engines_and_scanners_read_it(result: Path) -> None:
    done = subprocess.run(
        [program("skopeo"), "inspect", f"oci-archive:{result}/image.oci.tar"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(json.loads(done.stdout)["Layers"]) == 1
    subprocess.run(
        [program("skopeo"), "inspect", f"docker-archive:{result}/image.oci.tar"],
        capture_output=True, check=True,
    )  # fmt: skip


def test_the_bill_names_exactly_the_packages_of_the_entries(result: Path, found: Report) -> None:
    bill = json.loads((result / "sbom.cdx.json").read_text())
    named = {item["name"] for item in bill["components"]}
    entries = {Path(file.path).name for file in found.files if "dpkg/status.d/" in file.path}
    assert named == entries
    assert {"nginx", "libc6", "libssl3"} <= named and "bash" not in named


def test_policies_are_taken_by_the_tools_of_their_languages(result: Path, tmp_path: Path) -> None:
    policies = result / "policy"
    assert {path.name for path in policies.iterdir()} == set(LANGUAGES)
    subprocess.run([program("apparmor_parser"), "-QKT", policies / "apparmor"], check=True)
    subprocess.run([program("nft"), "-c", "-f", policies / "nftables.nft"], check=True)
    base = Path(__file__).parents[1] / "guests/mac/base.cil"
    subprocess.run(
        [program("secilc"), "-o", tmp_path / "policy", "-f", tmp_path / "contexts", base,
         policies / "selinux.cil"],
        check=True,
    )  # fmt: skip
    assert (
        "/usr/sbin/nginx\t--\tsystem_u:object_r:nginx_exec_t:s0"
        in (policies / "selinux.contexts").read_text()
    )


def test_the_reason_of_a_file(result: Path) -> None:
    done = Done("-o", str(result), "--why", "/usr/sbin/nginx")
    assert done.out == "/usr/sbin/nginx: the service's program\n"
    refused = Done("-o", str(result), "--why", "/bin/bash")
    assert refused.code == 2 and "--keep /bin/bash" in refused.err


def test_inside_the_fence_it_does_the_whole_job(result: Path) -> None:
    with fenced(result, 80) as service:
        status, page = service.ask("/")
        assert status == 200 and b"nginx" in page
        assert service.ask("/none")[0] == 404
        assert service.ask("/", Range="bytes=0-3") == (206, page[:4])
        assert gzip.decompress(service.ask("/", Accept_Encoding="gzip")[1]) == page
        service.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert service.ask("/") == (200, page)
        code, out, err = service.stop()
    assert code == 0, err
    assert '"GET /none HTTP/1.1" 404' in out
    assert "refused" not in err


def test_inside_the_fence_there_is_a_fence(result: Path) -> None:
    with fenced(result, 80) as service:
        pid = service.pid()
        time.sleep(0.3)
        status = procfs.fields(procfs.read(pid, "status").decode())
        assert status["CapBnd"] == status["CapEff"] == "0" * 16
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp_filters"] == "2", "the serving phase has a filter of its own"
        uid = int(status["Uid"].split()[0])
        assert uid > 65536, "the user is not one of this host"
        calls = read_live(pid, ()).calls
        assert calls["execve"].actions == ("notify",), "refused by whoever is told of it"
        measured = json.loads(ringfence("measure", pid, "--format", "json", "--no-plan").out)
        shut = {vector["id"]: vector for vector in measured["closed"]}
        assert "answers, and refuses" in json.dumps(shut["io-uring"]["evidence"])
        for kind in ("mnt", "net", "pid", "user", "ipc", "uts"):
            own = Path(f"/proc/self/ns/{kind}").readlink()
            assert Path(f"/proc/{pid}/ns/{kind}").readlink() != own
        rules = subprocess.run(
            ["nsenter", "-t", str(pid), "-n", program("nft"), "list", "ruleset"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert rules.count("policy drop") == 3


def test_the_same_input_gives_the_same_image(
    rootfs_tar: Path, found: Report, tmp_path: Path
) -> None:
    done = Done(str(rootfs_tar), "-o", str(tmp_path / "again"), "--phases", "--http",
                "http://localhost/", command=NGINX)  # fmt: skip
    assert done.code == 0, done.err
    assert report(tmp_path / "again").digest == found.digest


def test_a_call_that_the_policy_lacks_is_named(result: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(result), str(copy)], check=True)
    path = copy / "policy" / "seccomp.json"
    document = json.loads(path.read_text())
    document["syscalls"][0]["names"].remove("epoll_create")
    path.write_text(json.dumps(document))
    process = subprocess.Popen(
        [RINGFENCE, "run", str(copy), "-p", f"{free_port()}:80"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    process.terminate()
    process.communicate(timeout=30)
    assert "refused epoll_create to process" in line and "--allow 'epoll_create'" in line
