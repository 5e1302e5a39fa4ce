"""Denials in audit lines, in the forms in which kernels, auditd and their docs write them."""

from __future__ import annotations

import pytest

from ringfence.watch.ledger.audit import Denial, denial, landlock_domain

SECCOMP = (
    "audit(1594067860.484:14536): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=29064 "
    'comm="http-echo" exe="/http-echo" sig=0 arch=c000003e syscall=51 compat=0 ip=0x46fe1f '
    "code=0x7ffc0000"
)  # Kubernetes' seccomp tutorial
APPARMOR = (
    'audit(1540469596.236:258): apparmor="DENIED" operation="open" '
    'profile="snap.hello-world.evil" name="/var/tmp/myevil.txt" pid=10835 comm="evil" '
    'requested_mask="wc" denied_mask="wc" fsuid=1000 ouid=1000'
)  # snapcraft's documentation of confinement
SELINUX = (
    'audit(1603393236.883:1279): avc:  denied  { read } for  pid=279289 comm="nginx" '
    'name="test.html" dev="sda3" ino=269128708 scontext=system_u:system_r:httpd_t:s0 '
    "tcontext=unconfined_u:object_r:admin_home_t:s0 tclass=file permissive=0"
)
# Documentation/admin-guide/LSM/landlock.rst
LANDLOCK = 'audit(1729738800.268:30): domain=1a6fdc66f blockers=scope.signal opid=1 ocomm="systemd"'
TYPES = {
    "seccomp": ("SECCOMP", "1326", SECCOMP),
    "apparmor": ("AVC", "1400", APPARMOR),
    "selinux": ("AVC", "1400", SELINUX),
    "landlock": ("LANDLOCK_ACCESS", "1423", LANDLOCK),
}
FORMS = (
    "type={name} msg={rest}",
    "audit: type={number} {rest}",
    "[369128.669452] audit: type={number} {rest}",
    "Jul  6 15:37:40 my-machine kernel: [369128.669452] audit: type={number} {rest}",
    "5,351,1694022745,-;audit: type={number} {rest}",
    'type={name} msg={rest}\x1dARCH=x86_64 SYSCALL=getpeername AUID="unset" pid=1\n',
)


def found(line: str) -> Denial:
    item = denial(line)
    assert item is not None, line
    return item


@pytest.mark.parametrize("by", TYPES)
def test_every_form_says_the_same(by: str) -> None:
    name, number, rest = TYPES[by]
    lines = [form.format(name=name, number=number, rest=rest) for form in FORMS]
    assert len({repr(found(line)) for line in lines}) == 1
    assert found(lines[0]).by == by


def test_seccomp() -> None:
    item = found(f"type=SECCOMP msg={SECCOMP}")
    assert (item.time, item.serial, item.pid) == (1594067860_484000, 14536, 29064)
    assert (item.program, item.detail["call"], item.detail["action"]) == (
        "/http-echo", "getsockname", "log"
    )  # fmt: skip
    assert not item.enforced
    killed = found(f"type=SECCOMP msg={SECCOMP}".replace("0x7ffc0000", "0x80000000"))
    assert (killed.enforced, killed.detail["action"]) == (True, "kill_process")
    refused = found(f"type=SECCOMP msg={SECCOMP}".replace("0x7ffc0000", "0x50001"))
    assert (refused.enforced, refused.detail["action"]) == (True, "errno")
    arm = found(f"type=SECCOMP msg={SECCOMP}".replace("c000003e", "40000028"))
    assert arm.detail["call"] == "51"


def test_apparmor() -> None:
    line = f"audit: type=1400 {APPARMOR}"
    item = found(line)
    assert (item.pid, item.program, item.enforced) == (10835, "evil", True)
    assert item.detail["name"] == "/var/tmp/myevil.txt"
    assert item.detail["profile"] == "snap.hello-world.evil"
    assert not found(line.replace("DENIED", "ALLOWED")).enforced
    loaded = line.replace("DENIED", "STATUS").replace("open", "profile_load")
    assert denial(loaded) is None


def test_selinux() -> None:
    line = f"type=AVC msg={SELINUX}"
    item = found(line)
    assert (item.pid, item.program, item.enforced) == (279289, "nginx", True)
    assert item.detail["rights"] == "read"
    assert item.detail["tcontext"] == "unconfined_u:object_r:admin_home_t:s0"
    assert not found(line.replace("permissive=0", "permissive=1")).enforced
    assert denial(line.replace("denied", "granted")) is None
    two = found(line.replace("{ read }", "{ read open }"))
    assert two.detail["rights"] == "read open"


def test_landlock() -> None:
    item = found(f"type=LANDLOCK_ACCESS msg={LANDLOCK}")
    assert (item.pid, item.detail["blockers"]) == (None, "scope.signal")
    assert item.detail["ocomm"] == "systemd"
    domain = ('type=LANDLOCK_DOMAIN msg=audit(1729738800.268:30): domain=1a6fdc66f '
              'status=allocated mode=enforcing pid=286 uid=0 exe="/root/sandboxer"')  # fmt: skip
    assert denial(domain) is None


def test_names_in_hexadecimal() -> None:
    """The kernel writes them so when they hold blanks, quotes or control characters."""
    name = b'/tmp/two words" pid=1'.hex().upper()
    item = found(f"audit: type=1400 {APPARMOR}".replace('"/var/tmp/myevil.txt"', name))
    assert item.detail["name"] == '/tmp/two words" pid=1'
    assert item.pid == 10835


def test_a_process_cannot_forge_a_line_of_the_kernel() -> None:
    """Facility 1 (user) is what the kernel gives to writers of /dev/kmsg."""
    line = "{},352,1694323524,-;audit: type=1326 " + SECCOMP
    assert denial(line.format(5))
    assert denial(line.format(12)) is None


def test_what_a_message_of_the_kernel_repeats_is_not_the_kernels_word() -> None:
    """A process has it say things of facility 0 that hold a name of its choice."""
    line = "5,352,1694323524,-;{}audit: type=1326 " + SECCOMP
    assert denial(line.format(""))
    for words in ("name kernel: ", "[ 1.5] ", "x kernel: [1.5] "):
        assert denial(line.format(words)) is None, words


def test_the_domain_that_a_denial_of_landlock_names() -> None:
    rest = ("audit(1729738800.268:30): domain=1a6fdc66f status=allocated mode=enforcing pid=286 "
            'uid=0 exe="/root/sandboxer"')  # fmt: skip
    assert landlock_domain(f"audit: type=1424 {rest}") == ("1a6fdc66f", 286)
    assert landlock_domain(f"12,1,1,-;audit: type=1424 {rest}") is None
    assert landlock_domain(f"audit: type=1423 {LANDLOCK}") is None
    freed = "audit: type=1424 audit(1729738800.268:31): domain=1a6fdc66f status=deallocated"
    assert landlock_domain(freed) is None


def test_its_record() -> None:
    kind, subject, detail = found(f"type=SECCOMP msg={SECCOMP}").entry()
    assert (kind, subject) == ("denial", "/http-echo")
    assert detail["audit"] == "1594067860.484:14536"
    assert (detail["by"], detail["enforced"], detail["pid"]) == ("seccomp", False, 29064)


@pytest.mark.parametrize(
    "line",
    [
        "", "audit: type=1326", "audit: type=1326 audit(1.000:1): ", "type=SYSCALL msg=" + SECCOMP,
        "usb 1-1: audit: type=1326 " + SECCOMP, "type=AVC msg=audit(1.000:1): avc:  denied  {",
        "type=SECCOMP msg=audit(1.000:1): arch=zz syscall=1 code=0x0", "type=" * 3000,
        "5,1,1,-;" * 1000, "[" * 5000, 'audit: type=1300 ' + SECCOMP,
    ],
)  # fmt: skip
def test_other_lines_are_no_denials(line: str) -> None:
    assert denial(line) is None
