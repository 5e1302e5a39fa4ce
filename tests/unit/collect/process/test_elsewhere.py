"""Paths of the host under the names that a workload's own mounts give them."""

from __future__ import annotations

import pytest

from ringfence.collect.process.elsewhere import elsewhere
from ringfence.knowledge.records import PathEntry
from ringfence.model.process import Mount


def entry(*globs: str) -> PathEntry:
    return PathEntry(id="x", title="X", sources=(), globs=globs, kind="file", access="read")


def mount(path: str, root: str = "/", device: str = "8:1", *, hidden: bool = False) -> Mount:
    return Mount(path, root, "ext4", "disk", frozenset({"rw"}), device, hidden)


HOST = (mount("/"), mount("/run", "/", "0:25"), mount("/data", "/srv", "8:2"))
OWN = mount("/", "/", "0:99")


def names(mounts: tuple[Mount, ...], *globs: str, host: tuple[Mount, ...] = HOST) -> list[str]:
    return [glob for one in elsewhere((entry(*globs),), (OWN, *mounts), host)
            for glob in one.globs]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "glob", "name"),
    [(mount("/host"), "/etc/shadow", "/host/etc/shadow"),
     (mount("/host"), "/etc/cron.d/*", "/host/etc/cron.d/*"),
     (mount("/jobs", "/etc/cron.d"), "/etc/cron.d/*", "/jobs/*"),
     (mount("/jobs", "/etc/cron.d"), "/etc/cron.d", "/jobs"),
     (mount("/keys", "/home/bob/.ssh"), "/home/*/.ssh/id_rsa", "/keys/id_rsa"),
     (mount("/sock/docker.sock", "/docker.sock", "0:25"), "/run/docker.sock", "/sock/docker.sock"),
     (mount("/disk", "/", "8:2"), "/data/x", "/disk/srv/x")],
)  # fmt: skip
def test_a_mount_gives_another_name(one: Mount, glob: str, name: str) -> None:
    assert names((one,), glob) == [name]


@pytest.mark.parametrize(
    ("one", "glob"),
    [(mount("/host"), "/run/docker.sock"),  # an empty folder there: another file system covers it
     (mount("/app", "/srv/app"), "/etc/shadow"),
     (mount("/host", "/", "8:7"), "/etc/shadow"),
     (mount("/host", hidden=True), "/etc/shadow"),
     (mount("/etc", "/etc"), "/etc/shadow"),  # where it is on the host, too
     (mount("/host", "/", ""), "/etc/shadow")],
)  # fmt: skip
def test_no_other_name(one: Mount, glob: str) -> None:
    assert names((one,), glob) == []
