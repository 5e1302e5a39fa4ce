"""What the image holds: nothing writable, nothing set-user-ID, secrets for the service's group."""

from __future__ import annotations

from pathlib import Path

from ringfence.harden.keep.kept import Kept
from ringfence.harden.layout import Changes, accounts, changes, entries
from ringfence.harden.observe.trace import Trace, Use
from ringfence.harden.service import Identity
from ringfence.run.fence import Writable
from tests.unit.harden.trees import planted

WHO = Identity(33, 44)
NOTHING = Changes((), {}, ())


def wrote(*paths: str, call: str = "openat", error: str = "") -> Trace:
    return Trace(uses={Use(path, call, error, True): None for path in paths})


def test_modes_and_owners(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"bin/su*": "", "etc/key": "", "etc/open": "", "etc/odd": ""})
    (tmp_path / "bin/su").chmod(0o4755)
    (tmp_path / "etc/key").chmod(0o600)
    (tmp_path / "etc/odd").chmod(0o666)
    kept = Kept(tree)
    for path in ("bin/su", "etc/key", "etc/open", "etc/odd"):
        kept.add(path, "test")
    found = {entry.path: entry for entry in entries(kept, WHO, NOTHING, {})}
    assert (found["bin/su"].mode, found["bin/su"].uid) == (0o755, 0)
    assert (found["etc/key"].mode, found["etc/key"].uid, found["etc/key"].gid) == (0o640, 0, 44)
    assert (found["etc/open"].mode, found["etc/open"].gid) == (0o644, 0)
    assert found["etc/odd"].mode == 0o644
    assert all(not entry.mode & 0o022 for entry in found.values() if entry.kind != "link")


def test_writes_become_folders_logs_or_refusals(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"run/x": "", "var/lib/db/a": "", "etc/x": ""}, {"var/run": "../run"})
    found = changes(
        tree,
        wrote("/var/run/web.pid", "/var/lib/db/b", "/var/log/web/access.log",
              "/var/log/web/error.log", "/etc/web.state", "/dev/null", "/proc/self/attr",
              "/usr/lib/python3/__pycache__/a.pyc", "/dev/shm/seg"),
    )  # fmt: skip
    assert found.writable == (
        Writable("dev/shm"), Writable("run"), Writable("var/lib/db", state=True),
    )  # fmt: skip
    assert found.logs == {"var/log/web/access.log": "stdout", "var/log/web/error.log": "stderr"}
    assert found.refused == ("etc/web.state",)
    assert found.links == ("var/run",)


def test_writable_folders_below_others_come_with_them(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"run/keep": ""})
    found = changes(tree, wrote("/run/a.pid", "/run/db/lock"))
    assert [item.path for item in found.writable] == ["run"]
    assert found.inner == ("run/db",)
    made = {entry.path: entry for entry in entries(Kept(tree), WHO, found, {})}
    assert (made["run"].uid, made["run/db"].uid) == (33, 33)


def test_a_permission_error_asks_for_a_folder_and_another_error_does_not(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"srv/x": ""})
    assert changes(tree, wrote("/srv/data/new", error="EROFS")).writable
    assert not changes(tree, wrote("/srv/data/new", error="ELOOP")).writable


def test_accounts_hold_root_and_the_service_alone(tmp_path: Path) -> None:
    tree = planted(
        tmp_path,
        {"etc/passwd": "root:x:0:0::/:/bin/sh\nweb:x:33:44::/srv:\nme:x:1000:1000::/home/me:\n",
         "etc/group": "root:x:0:\nme:x:1000:\n"},
    )  # fmt: skip
    kept = Kept(tree)
    kept.add("etc/passwd", "")
    kept.add("etc/group", "")
    found = accounts(tree, WHO, kept)
    assert b"web:x:33" in found["etc/passwd"] and b"me:" not in found["etc/passwd"]
    assert found["etc/group"] == b"root:x:0:\nservice:x:44:\n"
