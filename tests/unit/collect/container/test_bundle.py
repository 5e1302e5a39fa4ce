"""What a bundle's configuration says is what runc makes of it."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ringfence.collect.container.bundle import read_bundle
from ringfence.errors import InputError
from ringfence.knowledge.loader import load
from ringfence.model.evidence import Grade
from ringfence.model.process import Credentials, Process
from tests.command import ringfence

KNOWLEDGE = load()
ALL = ["CAP_SYS_ADMIN", "CAP_NET_RAW"]


def process(place: Path, text: str | None = None, **parts: Any) -> Process:
    """The process of a bundle; `parts` are those of its config.json."""
    (place / "root").mkdir(exist_ok=True)
    document = {"root": {"path": "root"}, **parts}
    (place / "config.json").write_text(text or json.dumps(document))
    (found,) = read_bundle(place, KNOWLEDGE).processes
    return found


def credentials(place: Path, uid: int, *, bound: bool = False, **sets: list[str]) -> Credentials:
    stated = {"user": {"uid": uid, "gid": uid}, "noNewPrivileges": bound, "capabilities": sets}
    found = process(place, process=stated).credentials.value
    assert found is not None
    return found


def test_root_has_its_bounding_set_once_its_program_is_executed(tmp_path: Path) -> None:
    """capabilities(7): P'(permitted) of user 0 is its inheritable and the bounding set."""
    assert credentials(tmp_path, 0, bounding=ALL).effective == set(ALL)
    assert credentials(tmp_path, 0, bounding=ALL, bound=True).effective == set()
    kept = credentials(tmp_path, 0, bounding=ALL, permitted=ALL[:1], bound=True)
    assert kept.effective == set(ALL[:1])
    assert credentials(tmp_path, 0, permitted=ALL, effective=ALL).effective == set()


def test_others_keep_what_is_ambient(tmp_path: Path) -> None:
    for ambient in ([], ALL[:1]):
        found = credentials(tmp_path, 1000, bounding=ALL, permitted=ALL, inheritable=ALL,
                            effective=ALL, ambient=ambient)  # fmt: skip
        assert found.effective == set(ambient)


@pytest.mark.parametrize(
    ("rows", "number", "maps_root"),
    [([], 5, False), ([(0, 0, 10)], 5, True), ([(0, 100_000, 10)], 100_005, False),
     ([(0, 100_000, 10), (500, 0, 1)], 100_005, True), ([(0, 100_000, 2)], 65534, False)],
)  # fmt: skip
def test_users_are_those_of_this_host(
    tmp_path: Path, rows: list[tuple[int, int, int]], number: int, maps_root: bool
) -> None:
    mapping = [dict(zip(("containerID", "hostID", "size"), row, strict=True)) for row in rows]
    linux = {"namespaces": [{"type": "user"}], "uidMappings": mapping, "gidMappings": mapping}
    stated = {"user": {"uid": 5, "gid": 5, "additionalGids": [5]}}
    found = process(tmp_path, linux=linux, process=stated).credentials.value
    assert found is not None
    assert (found.uid, found.gid, found.groups) == (number, number, (number,))
    assert found.root_mapped is maps_root


def test_of_two_options_that_are_opposites_the_later_counts(tmp_path: Path) -> None:
    rows = [
        {"destination": "/a", "source": "/", "options": ["bind", "ro", "rw", "noexec"]},
        {"destination": "/b", "source": "/", "options": ["bind", "rw", "ro", "exec"]},
    ]
    mounts = process(tmp_path, mounts=rows).mounts.value
    assert mounts is not None
    options = {item.path: item.options for item in mounts}
    assert options["/a"] == {"bind", "rw", "noexec"}
    assert options["/b"] == {"bind", "ro", "exec"}


def test_devices_that_the_runtime_makes_are_in_view(tmp_path: Path) -> None:
    device = {"path": "/dev/mem", "type": "c", "major": 1, "minor": 1, "fileMode": 0o666}
    found = process(tmp_path, linux={"devices": [device]}).paths
    (item,) = [one for one in found if one.path == "/dev/mem"]
    assert stat.S_ISCHR(item.mode) and item.mode & 0o7777 == 0o666
    without = process(tmp_path, linux={"devices": []}).paths
    assert not any(one.path == "/dev/mem" for one in without)


@pytest.mark.skipif(not os.path.exists("/dev/kvm"), reason="no such device here")
def test_a_device_under_another_name_is_known_by_its_number(tmp_path: Path) -> None:
    number = os.stat("/dev/kvm").st_rdev
    device = {"path": "/data/x", "type": "c", "major": os.major(number), "minor": os.minor(number)}
    found = process(tmp_path, linux={"devices": [device]}).paths
    assert "/data/x" in {item.path for item in found}


@pytest.mark.parametrize(
    "text",
    ['{"root": {"path": "root"}, "process": {"noNewPrivileges": true, "NoNewPrivileges": false}}',
     '{"root": {"path": "root"}, "process": {}, "process": {}}',
     '{"root": {"path": "root", "PATH": "/"}}',
     '{"root": {"path": "root"}, "mounts": [], "mount\u017f": []}',
     '{"root": {"path": "root"}, "linux": {"maskedPaths": [], "mas\u212aedPaths": []}}'],
)  # fmt: skip
def test_what_engines_take_for_one_field_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="twice in one object"):
        process(tmp_path, text)


def test_fields_are_found_in_any_case_and_labels_keep_theirs(tmp_path: Path) -> None:
    long_s = '{"root": {"path": "root"}, "proce\u017fs": {"noNewPrivilege\u017f": true}}'
    assert process(tmp_path, long_s).no_new_privileges.value is True
    text = (
        '{"Root": {"Path": "root"}, "annotations": {"a": "1", "A": "2"}, "PROCESS": {"User": '
        '{"UID": 7}, "nonewprivileges": true}}'
    )
    found = process(tmp_path, text)
    assert found.credentials.value is not None and found.credentials.value.uid == 7
    assert found.no_new_privileges.value is True


@pytest.mark.parametrize(
    ("parts", "said"),
    [({"process": "x"}, "process is not an object"), ({"linux": 5}, "linux is not an object"),
     ({"mounts": {}}, "mounts is not a list"),
     ({"linux": {"namespaces": "all"}}, "linux.namespaces is not a list"),
     ({"mounts": [{}] * 5000}, "more than 4096 mounts")],
)  # fmt: skip
def test_a_part_of_another_type_is_refused(
    tmp_path: Path, parts: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        process(tmp_path, **parts)


def measured(place: Path, *rows: dict[str, Any]) -> dict[str, str]:
    """The states of conditions of a bundle with these mounts, by their formula."""
    (place / "root").mkdir(exist_ok=True)
    user = {"user": {"uid": 0, "gid": 0}, "args": ["/bin/x"]}
    document = {"root": {"path": "root"}, "process": user, "mounts": rows}
    (place / "config.json").write_text(json.dumps(document))
    answer = ringfence("measure", place, "--as-file", "--kind", "bundle")
    assert answer.code == 0, answer.err
    return {
        row["id"]: row.get("state", "several") for row in tomllib.loads(answer.out)["condition"]
    }


def bound(source: str, at: str, *options: str) -> dict[str, Any]:
    return {"destination": at, "source": source, "type": "bind", "options": ["rbind", *options]}


@pytest.mark.parametrize("source", ["/", "/etc/..", "../../../../../../../..", "link", "/./"])
def test_what_is_bound_is_what_its_path_leads_to(tmp_path: Path, source: str) -> None:
    (tmp_path / "link").symlink_to("/")
    assert measured(tmp_path, bound(source, "/host"))["mount:host-root"] == "open"
    (tmp_path / "own").mkdir()
    assert measured(tmp_path, bound("own", "/host"))["mount:host-root"] == "closed"


@pytest.mark.parametrize(
    ("source", "at", "name"),
    [("/etc/", "/x", "mount:host-etc"), ("/proc", "/x", "mount:host-proc"),
     ("/proc", "/proc", "mount:host-proc"), ("/sys", "/x", "mount:host-sys"),
     ("/dev", "/x", "mount:host-dev"), ("/etc/cron.d", "/x", "mount:host-etc"),
     ("/etc/shadow", "/data/s", "path:shadow"),
     ("/var/run/docker.sock", "/x.sock", "path:docker-socket"),
     ("/run/docker.sock", "/run/docker.sock", "path:docker-socket")],
)  # fmt: skip
def test_paths_of_the_host_are_known_under_any_name(
    tmp_path: Path, source: str, at: str, name: str
) -> None:
    with_it, without = measured(tmp_path, bound(source, at)), measured(tmp_path)
    assert (with_it.get(name), without.get(name)) == ("open", "closed")


def test_a_proc_of_its_own_is_not_the_hosts(tmp_path: Path) -> None:
    row = {"destination": "/proc", "source": "proc", "type": "proc"}
    assert measured(tmp_path, row)["mount:host-proc"] == "closed"


def test_setuid_programs_of_what_is_bound_are_found(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "su").touch(mode=0o755)
    without = measured(tmp_path, bound(str(own), "/data"))
    (own / "su").chmod(0o4755)
    with_it = measured(tmp_path, bound(str(own), "/data"))
    nosuid = measured(tmp_path, bound(str(own), "/data", "nosuid"))
    gone = measured(tmp_path, bound(str(tmp_path / "nothing"), "/data"))
    assert [found["file:setuid"] for found in (without, with_it, nosuid, gone)] == [
        "closed", "open", "closed", "unknown"]  # fmt: skip


DENY_ALL = {"allow": False, "access": "rwm"}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (None, ("a *:* rwm",)),
        ([DENY_ALL], ()),
        ([{**DENY_ALL, "type": "a"}], ()),
        ([{"allow": False, "access": "rw"}], ("a *:* rwm",)),
        ([{"allow": False, "type": "c", "access": "rwm"}], ("a *:* rwm",)),
        ([DENY_ALL, {"allow": True}], ("a *:* rwm",)),
        ([{"allow": True, "type": "b"}, DENY_ALL], ()),
        ([DENY_ALL, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}],
         ("c 1:3 r",)),
        ([DENY_ALL, {"allow": True, "type": "b", "major": -1}], ("b *:* rwm",)),
    ],
)  # fmt: skip
def test_device_rules_are_what_the_cgroup_will_let_through(
    tmp_path: Path, rules: list[dict[str, Any]] | None, expected: tuple[str, ...]
) -> None:
    resources = {} if rules is None else {"devices": rules}
    held = process(tmp_path, linux={"resources": resources}).limits.value
    assert held is not None
    assert held.devices.value == expected
    assert held.devices.evidence.grade is Grade.DECLARED


def test_in_a_user_namespace_device_rules_may_be_passed_over(tmp_path: Path) -> None:
    linux = {"resources": {"devices": [DENY_ALL]}, "namespaces": [{"type": "user"}]}
    held = process(tmp_path, linux=linux).limits.value
    assert held is not None
    assert held.devices.value is None


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [({"type": "pid"}, ()), ({"type": "pid", "path": "/proc/1/ns/pid"}, None),
     ({"type": "ipc"}, None)],
)  # fmt: skip
def test_in_its_own_pid_namespace_there_is_no_other_program(
    tmp_path: Path, namespace: dict[str, str], expected: tuple[()] | None
) -> None:
    found = process(tmp_path, linux={"namespaces": [namespace]})
    assert found.neighbours.value == expected


def test_sudo_rules_are_those_of_its_root_file_system(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/sudoers").write_text("#7 ALL=ALL\n")

    def rules(**parts: Any) -> Any:
        process(tmp_path, **parts)
        found = read_bundle(tmp_path, KNOWLEDGE).sudo
        assert found is not None
        return found.value

    assert rules().uids == {7}
    volume = {"destination": "/etc", "type": "tmpfs", "source": "tmpfs"}
    assert rules(mounts=[volume]) is None
    assert rules(mounts=[{**volume, "destination": "/tmp"}]).uids == {7}
