"""Files worth having: modes, owners, mounts, device cgroups, Landlock domains, sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ringfence.run import kernel
from tests.system import acts
from tests.system.conditions import (
    ANOTHER,
    NODEV,
    PR_SET_DUMPABLE,
    RDONLY,
    SOMEBODY,
    Step,
    bound,
    call,
    landlock,
    nothing_writable,
    refused,
    run,
    spaces,
    tmpfs,
    user,
    user_space,
    without,
    written,
)
from tests.system.probing import (
    CLOSED,
    INJECT,
    JOIN,
    OPEN,
    Case,
    attempt,
    check,
    standing,
)

pytestmark = pytest.mark.system

EPERM = "seccomp (errno 1, operation not permitted)"
PRIVATE = (spaces("mnt"),)
READ_FILE, WRITE_FILE = 1 << 2, 1 << 1


def _placed(path: str, mode: int, owner: int = 0) -> tuple[Step, ...]:
    """A file of this mode and owner, on an empty file system over its folder."""
    folder = os.path.dirname(path)
    above = run("mkdir", "-p", folder)
    return (*PRIVATE, tmpfs(_top(folder), data="mode=755"), above, written(path, "x", mode, owner))


def _top(folder: str) -> str:
    """The nearest folder above that this machine has: a mount point."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


READ = (
    ("file.shadow", "/etc/shadow"), ("file.ssh-host-keys", "/etc/ssh/ssh_host_rsa_key"),
    ("file.ssh-user-keys", "/root/.ssh/id_ed25519"), ("file.mounted-secrets", "/run/secrets/token"),
    ("file.service-account-token", "/run/secrets/kubernetes.io/serviceaccount/token"),
    ("file.kubelet-config", "/etc/kubernetes/kubelet.conf"),
    ("file.docker-config", "/root/.docker/config.json"),
    ("file.cloud-credentials", "/root/.aws/credentials"),
    ("file.cluster-admin-config", "/etc/kubernetes/admin.conf"),
    ("file.log-directory", "/var/log/auth.log"),
)  # fmt: skip
WRITE = (
    ("file.passwd-file", "/etc/passwd"), ("file.sudoers", "/etc/sudoers"),
    ("file.ssh-authorized-keys", "/root/.ssh/authorized_keys"),
    ("file.ld-so-preload", "/etc/ld.so.preload"),
    ("file.unit-files", "/etc/systemd/system/a.service"),
    ("file.cron-files", "/etc/cron.d/job"), ("file.service-programs", "/usr/local/bin/served"),
    ("file.login-scripts", "/etc/profile"),
    ("file.engine-configuration", "/etc/docker/daemon.json"),
)  # fmt: skip
FOLDERS = (
    ("file.cron-directory", "/etc/cron.d"), ("file.unit-directory", "/etc/systemd/system"),
    ("file.etc-directory", "/etc"), ("file.program-directory", "/usr/local/bin"),
    ("file.library-directory", "/usr/lib"), ("file.root-home", "/root"),
    ("file.own-configuration", "/etc"), ("file.static-pods", "/etc/kubernetes/manifests"),
)  # fmt: skip


@pytest.mark.parametrize(("probe", "path"), READ)
def test_a_secret_by_its_mode(probe: str, path: str) -> None:
    act = partial(acts.opened, path, os.O_RDONLY)
    check(Case(probe, (*_placed(path, 0o604), user(SOMEBODY)),
               (*_placed(path, 0o600), user(SOMEBODY)), "file mode", act))  # fmt: skip


@pytest.mark.parametrize(("probe", "path"), READ[:3])
def test_a_secret_that_is_not_there(probe: str, path: str) -> None:
    absent: tuple[Step, ...] = (*_placed(path, 0o604), partial(os.unlink, path))
    check(
        Case(
            probe,
            _placed(path, 0o600),
            absent,
            "missing file",
            partial(acts.opened, path, os.O_RDONLY),
        )
    )


@pytest.mark.parametrize(("probe", "path"), WRITE)
def test_a_file_of_the_systems(probe: str, path: str) -> None:
    """By its mode; by its owner; by a read-only mount over it, for root itself."""
    act = partial(acts.opened, path, os.O_WRONLY)
    owned = (*_placed(path, 0o644, SOMEBODY), user(SOMEBODY))
    check(Case(probe, owned, (*_placed(path, 0o644, ANOTHER), user(SOMEBODY)), "file mode", act))
    fixed = (*_placed(path, 0o666), nothing_writable)
    check(Case(probe, _placed(path, 0o600), fixed, "read-only mount", act))


def _made(folder: str) -> None:
    path = f"{folder}/.made-by-the-test"
    acts.opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.unlink(path)


@pytest.mark.parametrize(("probe", "path"), FOLDERS)
def test_a_folder_of_the_systems(probe: str, path: str) -> None:
    over = partial(_over, path)
    act = partial(_made, path)
    opened = (*over(0o777), user(SOMEBODY))
    check(Case(probe, opened, (*over(0o755), user(SOMEBODY)), "file mode", act))
    fixed = (*over(0o755), nothing_writable)
    check(Case(probe, over(0o755), fixed, "read-only mount", act))


def _over(path: str, mode: int) -> tuple[Step, ...]:
    """The folder with this mode, and what it holds still there."""
    if os.path.isdir(path):
        return (*PRIVATE, _covered(path, mode))
    return (*PRIVATE, tmpfs(_top(path), data="mode=755"), run("mkdir", "-p", path),
            partial(os.chmod, path, mode))  # fmt: skip


def _covered(path: str, mode: int) -> Step:
    """An overlay of this mode over a folder, so that what runs finds its files."""

    def step() -> None:
        kernel.mount("tmpfs", "/mnt", "tmpfs", 0, "mode=755")
        for name in ("upper", "work"):
            os.mkdir(f"/mnt/{name}")
        os.chmod("/mnt/upper", mode)
        kernel.mount("overlay", path, "overlay", 0,
                     f"lowerdir={path},upperdir=/mnt/upper,workdir=/mnt/work")  # fmt: skip
        os.chmod(path, mode)

    return step


def test_the_root_folder() -> None:
    with_root = (
        *PRIVATE,
        tmpfs("/mnt", data="mode=777"),
        partial(os.chroot, "/mnt"),
        partial(os.chdir, "/"),
    )
    check(
        Case(
            "file.root-folder",
            (*with_root, user(SOMEBODY)),
            (*with_root, partial(os.chmod, "/", 0o755), user(SOMEBODY)),
            "file mode",
            partial(_made, ""),
        )
    )


def test_the_journal() -> None:
    path = "/run/log/journal"
    logs = (
        *PRIVATE,
        tmpfs("/var/log", data="mode=755"),
        tmpfs("/run", data="mode=755"),
        run("mkdir", "-p", path),
    )
    check(
        Case(
            "file.journal-directory",
            (*logs, user(SOMEBODY)),
            (*logs, partial(os.chmod, path, 0o750), user(SOMEBODY)),
            "file mode",
            partial(os.listdir, path),
        )
    )


# --- its own -------------------------------------------------------------------------------------

PROGRAM = os.path.realpath("/proc/self/exe")


def test_its_own_program() -> None:
    """Its own program is busy, so that who might write it is told ETXTBSY instead of a refusal."""
    fixed = (*PRIVATE, bound(PROGRAM, PROGRAM, RDONLY))
    check(
        Case("file.own-program", PRIVATE, fixed, "read-only mount"),
        Case("file.own-program", (), (user(SOMEBODY),), "file mode"),
    )


def test_its_own_libraries() -> None:
    check(
        Case("file.own-libraries", (), (user(SOMEBODY),), "file mode"),
        Case("file.own-libraries", (), (*PRIVATE, nothing_writable), "read-only mount"),
    )


# --- settings of the kernel's --------------------------------------------------------------------

SETTINGS = (
    ("file.core-pattern", "/proc/sys/kernel/core_pattern"),
    ("file.proc-sys-kernel-hostname", "/proc/sys/kernel/hostname"),
    ("file.proc-sys-kernel-randomize-va-space", "/proc/sys/kernel/randomize_va_space"),
    ("file.proc-sys-net-ipv4-ip-forward", "/proc/sys/net/ipv4/ip_forward"),
    ("file.proc-sys-vm-overcommit-memory", "/proc/sys/vm/overcommit_memory"),
    ("file.proc-sys-fs-suid-dumpable", "/proc/sys/fs/suid_dumpable"),
    ("file.sys-kernel-mm-transparent-hugepage-enabled",
     "/sys/kernel/mm/transparent_hugepage/enabled"),
    ("file.sys-power-state", "/sys/power/state"),
)  # fmt: skip


@pytest.mark.parametrize(("probe", "path"), SETTINGS)
def test_settings(probe: str, path: str) -> None:
    """For root, and for a user; with the part of /proc or /sys read-only, as engines mount it."""
    act = partial(acts.opened, path, os.O_WRONLY)
    check(Case(probe, (), (user(SOMEBODY),), "file mode", act))
    top = "/".join(path.split("/")[:3])
    check(Case(probe, PRIVATE, (*PRIVATE, bound(top, top, RDONLY)), "read-only mount", act))


def test_its_own_settings() -> None:
    """/proc/self is one's own; whatever changed its user, it may ask for its files back."""
    path = "/proc/self/oom_score_adj"
    for probe in ("file.proc-self-oom-score-adj", "file.proc-self-loginuid"):
        dull = (user(SOMEBODY), partial(_dumpable, 0))
        check(Case(probe, dull, (*PRIVATE, bound("/proc", "/proc", RDONLY), user(SOMEBODY)),
                   "read-only mount"))  # fmt: skip
    with standing(user(SOMEBODY), partial(_dumpable, 0),
                  act=partial(_asked_back, path)) as there:  # fmt: skip
        assert there.errno == 0


def _asked_back(path: str) -> None:
    _dumpable(1)
    acts.opened(path, os.O_WRONLY)


def _dumpable(value: int) -> None:
    call("prctl", PR_SET_DUMPABLE, value, 0, 0, 0)


# --- devices -------------------------------------------------------------------------------------

DEVICES = (("file.dev-kmsg", "/dev/kmsg", os.O_RDONLY), ("file.dev-fuse", "/dev/fuse", os.O_RDWR),
           ("file.dev-tun", "/dev/net/tun", os.O_RDWR), ("file.dev-kvm", "/dev/kvm", os.O_RDWR),
           ("file.dev-userfaultfd", "/dev/userfaultfd", os.O_RDWR))  # fmt: skip
PRESENT = tuple(row for row in DEVICES if os.path.exists(row[1]))


@pytest.mark.parametrize(("probe", "path", "flags"), PRESENT)
def test_a_device_on_a_mount_without_devices(probe: str, path: str, flags: int) -> None:
    act = partial(acts.opened, path, flags)
    nodev = (*PRIVATE, bound(path, path, NODEV))
    check(Case(probe, (*PRIVATE, bound(path, path)), nodev, "mount (nodev)", act))


@pytest.fixture
def devices() -> Iterator[Path]:
    """A device cgroup (version 1) of a test's own that permits the null device, as engines set
    theirs up: all denied, some allowed."""
    place = Path("/sys/fs/cgroup/devices") / f"ringfence-test-{os.getpid()}"
    if not place.parent.is_dir():
        pytest.skip("no device cgroup of version 1 here")
    place.mkdir()
    (place / "devices.deny").write_text("a")
    (place / "devices.allow").write_text("c 1:3 rwm")
    yield place
    place.rmdir()


@pytest.mark.parametrize(("probe", "path", "flags"), PRESENT)
def test_a_device_that_a_cgroup_refuses(devices: Path, probe: str, path: str, flags: int) -> None:
    number = os.stat(path).st_rdev
    rule = f"c {os.major(number)}:{os.minor(number)} rwm"
    inside = partial(_joins, devices)
    act = partial(acts.opened, path, flags)
    check(Case(probe, (written(str(devices / "devices.allow"), rule), inside),
               (written(str(devices / "devices.deny"), rule), inside), "device cgroup",
               act))  # fmt: skip


def _joins(group: Path) -> None:
    (group / "cgroup.procs").write_text("0")


def test_disks() -> None:
    """A node of one's own that leads to an empty loop device, so that no disk is touched."""
    for probe, flags in (("file.block-devices", os.O_RDWR), ("file.disks-readable", os.O_RDONLY)):
        made = (*PRIVATE, tmpfs("/dev", data="mode=755"), run("mknod", "/dev/sdq", "b", "7", "3"))
        path = "/dev/sdq"
        act = partial(acts.opened, path, flags)
        free = (*made, partial(os.chmod, path, 0o666), user(SOMEBODY))
        less = 0o644 if flags == os.O_RDWR else 0o600
        check(Case(probe, free, (*made, partial(os.chmod, path, less), user(SOMEBODY)),
                   "file mode", act))  # fmt: skip


# --- what else may refuse ------------------------------------------------------------------------


def test_a_filter_on_both_ways_to_open() -> None:
    """openat alone is not enough: open(2) is tried, too, as an attacker would."""
    act = partial(acts.opened, "/etc/shadow", os.O_RDONLY)
    check(
        Case("file.shadow", (refused("openat"),), (refused("openat", "open"),), EPERM, None),
        Case("file.shadow", (), (refused("openat", "open"),), EPERM, act),
    )


def test_a_user_who_is_root_only_in_its_namespace() -> None:
    """All capabilities, over files of users that it does not know."""
    own = (
        user_space(f"0 {SOMEBODY} 1"),
        partial(os.setresgid, 0, 0, 0),
        partial(os.setresuid, 0, 0, 0),
    )
    check(
        Case(
            "file.shadow",
            (),
            own,
            "user namespace",
            partial(acts.opened, "/etc/shadow", os.O_RDONLY),
        )
    )


def test_root_without_its_way_past_modes() -> None:
    """User 0 owns most, and is refused what is another's once it may not pass over modes."""
    path = "/root/.ssh/id_ed25519"
    both = without("CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH")
    check(Case("file.ssh-user-keys", (*_placed(path, 0o600), both),
               (*_placed(path, 0o600, ANOTHER), both), "file mode",
               partial(acts.opened, path, os.O_RDONLY)))  # fmt: skip


@pytest.mark.parametrize(
    ("probe", "path", "right", "flags"),
    [("file.shadow", "/etc/shadow", READ_FILE, os.O_RDONLY),
     ("file.passwd-file", "/etc/passwd", WRITE_FILE, os.O_WRONLY),
     ("file.core-pattern", "/proc/sys/kernel/core_pattern", WRITE_FILE, os.O_WRONLY)],
)  # fmt: skip
def test_a_landlock_domain(probe: str, path: str, right: int, flags: int) -> None:
    """Seen by inject, which stands in the domain; join does not see it, and says so."""
    act = partial(acts.opened, path, flags)
    check(Case(probe, (), (partial(landlock, right),), "Landlock", act, INJECT))
    with standing(partial(landlock, right)) as there:
        assert attempt(there.pid, probe, stance=JOIN)[probe].seen == OPEN


DOMAIN = partial(landlock, (1 << 16) - 1, 3, 3)
"""Everything that Linux 6.2 knows of files, TCP, abstract sockets and signals."""


@pytest.mark.parametrize(
    "probe",
    ["file.root-folder", "file.own-libraries", "file.proc-sys-kernel-hostname", "namespace.mount",
     "file.sys-kernel-mm-transparent-hugepage-enabled", "capability.kill", "namespace.pivot-root",
     "kernel.posix-message-queues", "capability.net-bind-service"],
)  # fmt: skip
def test_what_a_landlock_domain_refuses_to_root(probe: str) -> None:
    """What would also be a mode's or the kernel's answer: a process beside it does not get it."""
    opened = (spaces("net"), run("ip", "link", "set", "lo", "up"), spaces("mnt"))
    check(Case(probe, opened, (*opened, DOMAIN), "Landlock", None, INJECT))


def test_what_is_closed_beside_a_landlock_domain_keeps_its_layer() -> None:
    """A mode, and a capability that it does not hold: closed without the domain, too."""
    within: tuple[Step, ...] = (user(SOMEBODY), DOMAIN)
    with standing(*within) as there:
        shown = attempt(there.pid, "file.root-folder", "capability.mknod", stance=INJECT)
    assert {one.seen for one in shown.values()} == {CLOSED}
    assert "Landlock" not in {one.by for one in shown.values()}


# --- engine sockets ------------------------------------------------------------------------------

SOCKETS = (
    ("file.docker-socket", "/run/docker.sock"), ("file.podman-socket", "/run/podman/podman.sock"),
    ("file.containerd-socket", "/run/containerd/containerd.sock"),
    ("file.crio-socket", "/run/crio/crio.sock"),
    ("file.cri-dockerd-socket", "/run/cri-dockerd.sock"),
    ("file.kubelet-pod-resources", "/var/lib/kubelet/pod-resources/kubelet.sock"),
    ("file.libvirt-socket", "/run/libvirt/libvirt-sock"),
    ("file.lxd-socket", "/var/lib/incus/unix.socket"),
    ("file.systemd-private-socket", "/run/systemd/private"),
    ("file.system-bus", "/run/dbus/system_bus_socket"),
    ("file.rootless-engine-socket", "/run/user/1000/docker.sock"),
)  # fmt: skip


def _listens(path: str, *, mode: int = 0o666, stale: bool = False) -> tuple[Step, ...]:
    """A Unix socket that somebody listens on, or that somebody has left behind."""

    def step() -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle = socket.socket(socket.AF_UNIX)
        handle.bind(path)
        os.chmod(path, mode)
        if stale:
            handle.close()
        else:
            handle.listen()
            os.dup(handle.detach())

    return (*PRIVATE, tmpfs("/run", data="mode=755"), tmpfs("/var/lib", data="mode=755"), step)


def _reached(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as handle:
        handle.connect(path)


@pytest.mark.parametrize(("probe", "path"), SOCKETS)
def test_an_engines_socket(probe: str, path: str) -> None:
    act = partial(_reached, path)
    opened = (*_listens(path), user(SOMEBODY))
    check(
        Case(probe, opened, (*_listens(path, mode=0o600), user(SOMEBODY)), "file mode", act),
        Case(probe, opened, (*_listens(path, stale=True), user(SOMEBODY)), "nobody listens", act),
    )


def test_an_engines_socket_that_is_not_there_or_that_a_filter_keeps() -> None:
    probe, path = SOCKETS[0]
    act = partial(_reached, path)
    check(
        Case(probe, _listens(path), (*PRIVATE, tmpfs("/run")), "missing file", act),
        Case(probe, _listens(path), (*_listens(path), refused("connect")), EPERM, act),
    )


# --- the host's files under other names ----------------------------------------------------------


def _bare(*steps: Step) -> tuple[Step, ...]:
    """A root folder in which nothing of the host's has its own name; /mnt is in it as /host."""
    return (*PRIVATE, tmpfs("/srv", data="mode=755"), partial(os.mkdir, "/srv/host"), *steps,
            partial(os.chroot, "/srv"), partial(os.chdir, "/"))  # fmt: skip


def test_a_file_of_the_host_that_a_mount_shows() -> None:
    """By a mount of all of the host's root, and by one of the folder alone."""
    for source, path in (("/", "/host/etc/passwd"), ("/etc", "/host/passwd")):
        act = partial(acts.opened, path, os.O_WRONLY)
        shown = bound(source, "/srv/host")
        check(Case("file.passwd-file", _bare(shown), _bare(), "missing file", act),
              Case("file.passwd-file", _bare(shown), (*_bare(shown), user(SOMEBODY)),
                   "file mode", act))  # fmt: skip


def test_an_engines_socket_by_another_name() -> None:
    place = "/run/docker.sock"
    if os.path.lexists(place):
        pytest.skip("an engine runs here")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        try:
            server.listen()
            made = partial(Path("/srv/host/engine").touch)
            check(Case("file.docker-socket", _bare(made, bound(place, "/srv/host/engine")),
                       _bare(made), "missing file"))  # fmt: skip
        finally:
            os.unlink(place)
