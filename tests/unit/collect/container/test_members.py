"""Which processes belong to a container, by its PID namespace or its cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.collect.container import members
from ringfence.collect.process import procfs
from ringfence.errors import InputError

OWN, HOSTS = 7, 1
FIRST, CHILD, STARTED, BELOW, OTHER, PARENT = 10, 11, 20, 21, 30, 5


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[int, str]]:
    """PID namespace and cgroup of each process; FIRST has a child, and so has STARTED."""
    found = {
        PARENT: (HOSTS, "/system.slice/engine"),
        FIRST: (OWN, "/c/one"),
        CHILD: (OWN, "/c/one"),
        STARTED: (OWN, "/c/one/later"),
        BELOW: (HOSTS, "/elsewhere"),
        OTHER: (HOSTS, "/c/one-more"),
    }

    def read(pid: int, name: str) -> bytes:
        if name == "cgroup":
            return f"0::{found.get(pid, (HOSTS, '/user.slice'))[1]}\n".encode()
        assert name == "status"
        return b"NSpid:\t10\t1\n" if found[FIRST][0] == OWN else b"NSpid:\t10\n"

    monkeypatch.setattr(procfs, "read", read)
    monkeypatch.setattr(procfs, "pids", lambda: list(found))
    monkeypatch.setattr(procfs, "living", lambda pid: pid)
    monkeypatch.setattr(procfs, "stat", lambda pid: ["S", str(PARENT)])
    monkeypatch.setattr(procfs, "below", lambda pid: {BELOW} if pid == STARTED else set())
    monkeypatch.setattr(members, "descendants", lambda pid: [FIRST, CHILD])
    monkeypatch.setattr(
        members, "inode_of", lambda pid, kind: HOSTS if pid == "self" else found[pid][0]
    )
    return found


def test_by_its_pid_namespace(system: dict[int, tuple[int, str]]) -> None:
    system[STARTED] = (OWN, "/moved")
    look, unseen = members.membership(FIRST)
    assert (look(), unseen) == ([FIRST, CHILD, STARTED, BELOW], ())


def test_by_its_cgroup_where_the_namespace_is_the_hosts(
    system: dict[int, tuple[int, str]],
) -> None:
    system.update({pid: (HOSTS, system[pid][1]) for pid in system})
    look, unseen = members.membership(FIRST)
    assert (look(), unseen) == ([FIRST, CHILD, STARTED, BELOW], ())


@pytest.mark.parametrize("cgroup", ["/", "/system.slice/engine", "/user.slice"])
def test_without_either_it_is_told(system: dict[int, tuple[int, str]], cgroup: str) -> None:
    system.update({pid: (HOSTS, system[pid][1]) for pid in system})
    system[FIRST] = (HOSTS, cgroup)
    look, (told,) = members.membership(FIRST)
    assert look() == [FIRST, CHILD]
    assert told.what == "processes that an engine started in the container later"


def test_what_is_gone_is_said(tmp_path: Path) -> None:
    look, _ = members.membership(procfs.MOST_BYTES)
    with pytest.raises(InputError, match="no such process"):
        look()
