"""Paths of the host that are mounted into a container: at, above and below those that matter."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from ringfence.collect.host.read import read_host
from ringfence.knowledge.loader import load
from ringfence.measure.conditions.registry import decide_condition
from ringfence.measure.conditions.scene import is_admin, scene
from ringfence.model.deployment import Condition
from ringfence.model.evidence import Seen
from ringfence.model.facts import Facts, Target
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Mount, Outside, Process
from tests.unit.measure.test_admin import NOT_SEEN, SAID, process

KNOWLEDGE = load()
RW, RO = frozenset({"rw"}), frozenset({"ro"})
HOST_MOUNTS = (
    Mount("/", "/", "ext4", "/dev/a", RW, "8:1"),
    Mount("/home", "/", "ext4", "/dev/b", RW, "8:2"),
    Mount("/run", "/", "tmpfs", "tmpfs", RW, "0:24"),
    Mount("/opt", "/export", "ext4", "/dev/c", RW, "8:3"),
)
HOST = msgspec.structs.replace(read_host(KNOWLEDGE, []), mounts=HOST_MOUNTS,
                               absent=frozenset({"/var/lib/docker", "/var/run"}))  # fmt: skip
OWN = Mount("/", "/", "overlay", "overlay", RW, "0:50")


def decided(condition: str, *mounts: Mount, container: bool = True, **facts: Any) -> Condition:
    one = msgspec.structs.replace(process(), mounts=Seen(mounts, SAID), **facts)
    target = Target("process", "test")
    found = Facts(target, processes=(one,), host=HOST, container=container)
    return decide_condition(condition, scene(found, KNOWLEDGE), Level.USER)


def opened(*mounts: Mount, readable: bool = False) -> set[str]:
    """The host paths of the knowledge base that are mounted in."""
    end = ".readable" if readable else ""
    return {
        name for name in KNOWLEDGE.mounts
        if decided(f"mount:{name}{end}", *mounts).state is State.OPEN
    }  # fmt: skip


def at(device: str, root: str, path: str = "/v", options: frozenset[str] = RW) -> Mount:
    return Mount(path, root, "ext4", "source", options, device)


@pytest.mark.parametrize(
    ("device", "root", "expected"),
    [
        ("8:1", "/etc", {"host-etc"}),
        ("8:1", "/etc/cron.d", {"host-etc"}),
        ("8:1", "/etc/systemd/system", {"host-etc"}),
        ("8:1", "/etc/shadow", {"host-etc"}),
        ("8:1", "/var", {"host-etc", "host-var-log", "host-engine-data"}),
        ("8:1", "/var/spool", {"host-etc"}),
        ("8:1", "/var/lib", {"host-engine-data"}),
        ("8:1", "/var/lib/docker", {"host-engine-data"}),
        ("8:1", "/var/log/pods", {"host-var-log"}),
        ("8:1", "/usr/local/bin", {"host-usr"}),
        ("8:1", "/", {"host-root", "host-etc", "host-home", "host-var-log", "host-usr",
                      "host-engine-data"}),
        ("8:2", "/", {"host-home"}),
        ("8:2", "/me", {"host-home"}),
        ("8:2", "/me/.ssh", {"host-home"}),
        ("0:24", "/", {"host-run"}),
        ("0:24", "/systemd/system", {"host-run"}),
        ("8:3", "/export", {"host-usr"}),
        ("8:3", "/export/x/bin", {"host-usr"}),
    ],
)  # fmt: skip
def test_what_leads_to_the_host(device: str, root: str, expected: set[str]) -> None:
    assert opened(OWN, at(device, root)) == expected
    assert opened(OWN, at(device, root, options=RO)) == set()
    assert opened(OWN, at(device, root, options=RO), readable=True) == expected


@pytest.mark.parametrize(
    ("device", "root"),
    [
        ("8:1", "/srv/data"), ("8:1", "/etcetera"), ("8:1", "/var/www"),
        ("8:1", "/etc/resolv.conf"), ("8:1", "/etc/hosts"), ("8:1", "/etc/ssl/certs/ca.pem"),
        ("8:1", "/var/lib/docker/containers/1f/hosts"),
        ("8:1", "/var/lib/docker/volumes/v/_data"),
        ("8:1", "/var/lib/kubelet/pods/1/volumes/x"), ("8:2", "/me/project"),
        ("0:24", "/containers/storage/hosts"), ("8:3", "/exported"), ("8:3", "/export/x/data"),
        ("8:9", "/etc"), ("8:9", "/"), ("0:99", "/"),
    ],
)  # fmt: skip
def test_what_is_the_services_own(device: str, root: str) -> None:
    assert opened(OWN, at(device, root), readable=True) == set()


def test_the_root_directory_of_the_host_itself() -> None:
    """A namespace of its own whose root is the host's: a mount of the same, at /."""
    assert {"host-root", "host-etc", "host-usr"} <= opened(at("8:1", "/", "/"))
    assert opened(at("8:1", "/var/lib/containers/storage/vfs/dir/1", "/")) == set()
    assert opened(at("8:1", "/opt/jail", "/"), at("8:1", "/etc", "/etc")) == {"host-etc"}


def test_what_the_host_does_not_have_cannot_be_in_a_folder_above_it() -> None:
    """/var/lib/docker is not there; the other engines' folders are."""
    entry = KNOWLEDGE.mounts["host-engine-data"]
    host = msgspec.structs.replace(HOST, absent=frozenset(entry.paths))
    one = msgspec.structs.replace(process(), mounts=Seen((OWN, at("8:1", "/var")), SAID))
    for surrounding, expected in ((HOST, State.OPEN), (host, State.CLOSED)):
        facts = Facts(Target("process", "t"), processes=(one,), host=surrounding, container=True)
        found = decide_condition("mount:host-engine-data", scene(facts, KNOWLEDGE), Level.USER)
        assert found.state is expected


def test_what_another_mount_hides_is_not_mounted_in() -> None:
    host = at("8:1", "/", "/v")
    assert "host-var-log" in opened(OWN, host)
    assert "host-var-log" not in opened(OWN, host, at("0:99", "/", "/v/var/log"))
    assert "host-var-log" in opened(OWN, host, at("0:99", "/", "/v/var/logs"))
    assert opened(OWN, msgspec.structs.replace(host, hidden=True)) == set()
    over_root = msgspec.structs.replace(at("8:1", "/", "/"), hidden=True)
    assert "host-root" in opened(OWN, over_root)  # entered by `/..`


ADMIN = frozenset({"CAP_SYS_ADMIN", "CAP_SYS_CHROOT"})


def reached(condition: str, *mounts: Mount, has: Process, **facts: Any) -> State:
    one = msgspec.structs.replace(has, mounts=Seen(mounts, SAID), **facts)
    found = Facts(Target("process", "t"), processes=(one,), host=HOST, container=True)
    level = Level.USER if is_admin(one, True) is False else Level.ADMIN
    return decide_condition(condition, scene(found, KNOWLEDGE), level).state


@pytest.mark.parametrize(
    "covered",
    [
        (msgspec.structs.replace(at("8:1", "/", "/v"), hidden=True, number=7),),
        (msgspec.structs.replace(at("8:1", "/etc/cron.d", "/v"), hidden=True, number=7),),
        (msgspec.structs.replace(at("8:1", "/etc", "/v"), number=7), at("0:99", "/", "/v")),
    ],
    ids=["all of it", "a part of /etc", "at one point"],
)
def test_what_another_mount_hides_is_reached_by_whoever_holds_it_or_may_unmount(
    covered: tuple[Mount, ...],
) -> None:
    def state(has: Process, **facts: Any) -> State:
        return reached("mount:host-etc", OWN, *covered, has=has, **facts)

    assert state(process()) is State.CLOSED
    assert state(process(), outside=(Outside("/proc/10/fd/3", False, (7,)),)) is State.OPEN
    assert state(process(), outside=(Outside("/proc/10/fd/3", False, (8,)),)) is State.CLOSED
    assert state(process(effective=frozenset({"CAP_SETUID"}))) is State.CLOSED
    assert state(process(effective=ADMIN)) is State.OPEN
    assert state(process(own=True, effective=ADMIN)) is State.OPEN
    assert state(process(), credentials=NOT_SEEN) is State.UNKNOWN


@pytest.mark.parametrize("condition", ["mount:host-root", "path:docker-socket"])
def test_another_mount_namespace_is_a_way_out_for_whoever_may_enter_it(condition: str) -> None:
    def state(has: Process, host: bool, **facts: Any) -> State:
        held = Outside("/proc/10/fd/3", host, namespace=True)
        return reached(condition, OWN, has=has, outside=(held,), **facts)

    entered = State.OPEN if condition == "mount:host-root" else State.UNKNOWN
    assert state(process(effective=ADMIN), True) is entered
    assert state(process(effective=ADMIN), False) is State.UNKNOWN
    assert state(process(own=True, effective=ADMIN), True) is State.CLOSED
    assert state(process(own=True, effective=ADMIN), False) is State.UNKNOWN
    assert state(process(own=None, effective=ADMIN), True) is State.UNKNOWN
    assert state(process(effective=frozenset({"CAP_SYS_ADMIN"})), True) is State.CLOSED
    assert state(process(), True) is State.CLOSED
    assert state(process(), True, credentials=NOT_SEEN) is State.UNKNOWN


def test_what_may_be_unmounted_hides_files_that_were_not_looked_for() -> None:
    hidden = msgspec.structs.replace(at("0:99", "/", "/v"), hidden=True)
    for mount, has, expected in (
        (hidden, process(effective=ADMIN), State.UNKNOWN),
        (hidden, process(), State.CLOSED),
        (msgspec.structs.replace(hidden, fstype="autofs"), process(effective=ADMIN), State.CLOSED),
        (at("0:99", "/", "/v"), process(effective=ADMIN), State.CLOSED),
    ):
        assert reached("path:docker-socket", OWN, mount, has=has) is expected


def test_a_mount_that_a_configuration_describes_names_its_source() -> None:
    def bind(source: str) -> Mount:
        return Mount("/x", source, "bind", source, RW)

    assert opened(OWN, bind("/etc/cron.d")) == {"host-etc"}
    assert opened(OWN, bind("/var/run")) == {"host-run"}
    assert opened(OWN, bind("/srv")) == opened(OWN, bind("")) == set()
    assert opened(OWN, Mount("/etc", "/", "tmpfs", "tmpfs", RW)) == set()


def test_evidence_names_the_file_system_and_what_of_it_is_shown() -> None:
    (evidence,) = decided("mount:host-etc", OWN, at("8:1", "/etc/cron.d")).evidence
    assert evidence.detail == (
        "/etc/cron.d of the host at /v, writable (/etc/cron.d of device 8:1)"
    )


def test_outside_of_a_container_nothing_is_mounted_in() -> None:
    assert decided("mount:host-etc", at("8:1", "/", "/"), container=False).state is State.CLOSED


def test_without_the_hosts_own_mounts_nothing_is_claimed() -> None:
    one = msgspec.structs.replace(process(), mounts=Seen((OWN, at("8:1", "/srv")), SAID))
    for mounts, expected in ((HOST_MOUNTS, State.CLOSED), ((), State.UNKNOWN)):
        host = msgspec.structs.replace(HOST, mounts=mounts)
        facts = Facts(Target("process", "t"), processes=(one,), host=host, container=True)
        found = decide_condition("mount:host-etc", scene(facts, KNOWLEDGE), Level.USER)
        assert found.state is expected


@pytest.mark.parametrize("name", ["host-root", "host-etc", "host-run", "host-etc.readable"])
def test_a_directory_outside_its_root_leads_to_the_host(name: str) -> None:
    def state(**facts: Any) -> State:
        return decided(f"mount:{name}", OWN, **facts).state

    assert state() is State.CLOSED
    assert state(outside=(Outside("/proc/10/fd/3", host=True),)) is State.OPEN
    assert state(outside=(Outside("/proc/10/cwd", host=False),)) is State.UNKNOWN
    assert state(outside_seen=False) is State.UNKNOWN


def test_paths_that_this_host_has_not_are_told() -> None:
    found = read_host(KNOWLEDGE, []).absent
    assert ("/var/run" in found) == (os.path.islink("/var/run") or not os.path.isdir("/var/run"))
    assert not {"/", "/etc", "/usr"} & found
