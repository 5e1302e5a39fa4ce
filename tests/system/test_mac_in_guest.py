"""AppArmor, SELinux and IMA of a stock Debian kernel around a hardened nginx, in a guest.

Each policy is the generated one; the kernel is asked to load it, to refuse what it does not allow
and to say so, and the service does its whole job under it. Without a policy the same acts succeed.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guests.mac.labels import labels
from tests.guests.mac.machine import HERE, HIDDEN, Guest, booted, members, overlay
from tests.system.conftest import program
from tests.system.guests import linux
from tests.system.hardening import NGINX, Done

pytestmark = pytest.mark.system

DOMAIN = "system_u:system_r:nginx_t:s0"
ACTS = {
    "read a file that is not its own", "write its configuration", "make a device", "mount",
    "make a file beside its program", "packet socket", "become another user",
    "execute a program that is not its own",
}  # fmt: skip
REFUSED = {"Permission denied", "Operation not permitted"}
OURS = (
    ("/.ringfence/init", "init_exec_t"), ("/mac", "default_t"), ("/mac/confine", "init_exec_t"),
    ("/mac/secret", "default_t"), ("/var/www/html/secret.html", "default_t"),
)  # fmt: skip
"""Files that are laid over the image, and types that its labels know nothing of."""
IMA = b"measure func=BPRM_CHECK mask=MAY_EXEC\n"


@pytest.fixture(scope="module")
def result(rootfs_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mac") / "result"
    (kernel,) = (linux() / "boot").glob("vmlinuz-*")
    done = Done(str(rootfs_tar), "-o", str(folder), "--as", "vm", "--kernel", str(kernel),
                "--http", "http://localhost/", command=NGINX)  # fmt: skip
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def free(result: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    over = overlay(result / "vm.initrd", "", "", b"", {})
    with booted(result, over, "apparmor=0 rf_mac=none", tmp_path_factory.mktemp("none")) as guest:
        yield guest


@pytest.fixture(scope="module")
def apparmor(result: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    folder = tmp_path_factory.mktemp("apparmor")
    words = [program("apparmor_parser"), "-QKT", "-M", "/etc/apparmor.d/abi/3.0", "--ofile"]
    subprocess.run([*words, folder / "policy", result / "policy/apparmor"], check=True)
    policy = (folder / "policy").read_bytes()
    over = overlay(result / "vm.initrd", "exec nginx", "nginx", policy, {})
    line = "apparmor=1 security=apparmor rf_mac=apparmor"
    with booted(result, over, line, folder) as guest:
        yield guest


@pytest.fixture(scope="module")
def selinux(result: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    folder = tmp_path_factory.mktemp("selinux")
    subprocess.run(
        [program("secilc"), "-c", "33", "-o", folder / "policy", "-f", "/dev/null",
         HERE / "base.cil", result / "policy/selinux.cil"], check=True,
    )  # fmt: skip
    paths = [(f"/{path}".replace("/.", "/", path == "."), mode)
             for path, mode, _ in members(result / "vm.initrd")
             if path not in ("proc", "sys") and not path.startswith(".ringfence")]  # fmt: skip
    named = labels((result / "policy/selinux.contexts").read_text(), paths, "")
    assert all(named.values()), "every file of the image has a label"
    named |= {path: f"system_u:object_r:{kind}:s0" for path, kind in OURS}
    policy = (folder / "policy").read_bytes()
    over = overlay(result / "vm.initrd", DOMAIN, DOMAIN, policy, named)
    line = "security=selinux selinux=1 enforcing=1 rf_mac=selinux"
    with booted(result, over, line, folder) as guest:
        yield guest


def acts(guest: Guest) -> dict[str, str]:
    """What was tried, and how it ended."""
    return dict(re.findall(r"^act (.*): (.*)$", guest.console, re.M))


def denials(guest: Guest) -> list[str]:
    """The kernel's own words for what it refused."""
    return [line for line in guest.console.splitlines()
            if 'apparmor="DENIED"' in line or "avc:  denied" in line]  # fmt: skip


def does_its_whole_job(guest: Guest) -> None:
    status, page = guest.ask("/")
    assert status == 200 and b"Welcome to nginx" in page
    assert guest.ask("/none")[0] == 404
    assert guest.ask("/", Range="bytes=3-9") == (206, page[3:10])
    assert gzip.decompress(guest.ask("/", **{"Accept-Encoding": "gzip"})[1]) == page
    console = guest.until_said('"GET / HTTP/1.1" 206 7')
    assert '"GET /none HTTP/1.1" 404' in console, "its log leaves by its standard output"


def test_without_a_policy_everything_succeeds(free: Guest) -> None:
    does_its_whole_job(free)
    assert free.ask("/secret.html") == (200, HIDDEN.encode())
    found = acts(free)
    # A program that is executed says nothing any more.
    assert set(found) >= ACTS - {"execute a program that is not its own"}
    assert set(found.values()) == {"done"}
    assert denials(free) == []
    assert "Kernel is locked down from securityfs" in free.console, "as our init has it done"


@pytest.mark.parametrize("mac", ["apparmor", "selinux"])
def test_the_policy_lets_it_do_its_job_and_nothing_else(
    mac: str, request: pytest.FixtureRequest
) -> None:
    guest: Guest = request.getfixturevalue(mac)
    does_its_whole_job(guest)
    found = acts(guest)
    assert {name for name, how in found.items() if how in REFUSED} == ACTS
    assert {name for name, how in found.items() if how == "done"} == {
        "read its configuration", "write where it may",
    }  # fmt: skip
    before = denials(guest)
    assert len(before) >= len(ACTS), "each is logged"
    assert not [line for line in before if 'comm="nginx"' in line], "its own work is not in the way"
    assert guest.ask("/secret.html")[0] in (403, 404)
    guest.until_said("secret.html")
    (mine, *_) = [line for line in denials(guest) if 'comm="nginx"' in line]
    assert "/var/www/html/secret.html" in mine


def test_the_acts_are_told_by_name(apparmor: Guest, selinux: Guest) -> None:
    told = "\n".join(denials(apparmor))
    for word in ('name="/mac/secret"', 'name="/etc/nginx/nginx.conf"', 'capname="mknod"',
                 'operation="mount"', 'family="packet"', 'operation="exec"'):  # fmt: skip
        assert word in told, word
    told = "\n".join(denials(selinux))
    for word in ("tclass=packet_socket", "{ mounton }", "{ mknod }", "{ setuid }"):
        assert word in told, word
    assert "permissive=1" not in told
    assert "not defined in policy" not in selinux.console, "the base has all that the kernel knows"


def test_ima_measures_the_program_of_the_image(result: Path, tmp_path: Path) -> None:
    over = overlay(result / "vm.initrd", "", "", IMA, {})
    with booted(result, over, "rf_mac=ima", tmp_path) as guest:
        does_its_whole_job(guest)
        console = guest.until_said("/usr/sbin/nginx")
    rows = re.findall(r"measured 10 \S+ ima-sig sha256:(\w+) (\S+)", console)
    found = {path: digest for digest, path in rows}
    (nginx,) = (body for path, _, body in members(result / "vm.initrd")
                if path == "usr/sbin/nginx")  # fmt: skip
    assert found["/usr/sbin/nginx"] == hashlib.sha256(nginx).hexdigest()
    others = {Path(path).name for path in found}
    assert others == {"boot_aggregate", "init", "confine", "nginx", "ld-linux-x86-64.so.2"} & others
