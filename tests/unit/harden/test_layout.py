"""What the image holds: nothing writable, nothing set-user-ID, secrets for the service's group."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.observed import keep_observed
from ringfence.harden.layout import (
    Changes,
    accounts,
    changes,
    entries,
    left_behind,
    opens_output,
    own_homes,
)
from ringfence.harden.observe.trace import Trace, Use
from ringfence.harden.service import Identity
from ringfence.harden.tree import Tree
from ringfence.run.fence import Writable
from tests.unit.harden.trees import planted

WHO = Identity(33, 44)
NOTHING = Changes((), {}, {})


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
    assert found.refused == {"etc/web.state": "openat"}
    assert found.links == ("var/run",)


@pytest.mark.parametrize(
    ("path", "by_name"),
    [
        ("/dev/stdout", True),
        ("/proc/self/fd/2", True),
        ("/proc/7/fd/1", True),
        ("/var/log/web/linked.log", True),  # as in the images of Docker's library
        ("/proc/self/fd/7", False),
        ("/dev/null", False),
        ("/run/stdout", False),
    ],
)
def test_output_that_is_opened_by_name_is_seen(tmp_path: Path, path: str, by_name: bool) -> None:
    tree = planted(tmp_path, {"run/x": ""}, {"var/log/web/linked.log": "/dev/stderr",
                                             "dev/stderr": "/proc/self/fd/2"})  # fmt: skip
    assert opens_output(tree, wrote(path), NOTHING) is by_name
    assert not opens_output(tree, wrote(path, call="stat"), NOTHING)


def test_logs_of_its_own_are_output_that_is_opened_by_name(tmp_path: Path) -> None:
    trace = wrote("/var/log/web/access.log")
    tree = planted(tmp_path, {"run/x": ""})
    assert opens_output(tree, Trace(), changes(tree, trace))
    assert not opens_output(tree, Trace(), changes(tree, wrote("/run/web.pid")))


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


@pytest.mark.parametrize(
    ("path", "writable"),
    [
        ("home/x.tmp", ""), ("home/me/counter", ""), ("root/x", ""), ("srv/x", ""), ("opt/x", ""),
        ("var/lib/srv.db", ""), ("home/me/app/counter", "home/me/app"), ("data/x", "data"),
        ("var/lib/redis/dump.rdb", "var/lib/redis"), ("srv/app/data/x", "srv/app/data"),
    ],
)  # fmt: skip
def test_folders_of_many_are_not_writable_for_one_file(
    path: str, writable: str, tmp_path: Path
) -> None:
    found = changes(planted(tmp_path, {}), wrote(f"/{path}"))
    assert [item.path for item in found.writable] == ([writable] if writable else [])
    assert tuple(found.refused) == (() if writable else (path,))
    named = changes(planted(tmp_path / "2", {}), wrote(f"/{path}"), [path.rpartition("/")[0]])
    assert [item.path for item in named.writable] == [path.rpartition("/")[0]]
    assert named.refused == {}


def test_a_folder_that_the_service_makes_among_others_is_its_own(tmp_path: Path) -> None:
    tree = planted(tmp_path, {})
    assert changes(tree, wrote("/var/lib/own", call="mkdir")).writable == (
        Writable("var/lib/own", state=True),
    )
    closed = changes(tree, wrote("/var/lib/other", call="mkdir", error="EROFS"))
    assert (closed.writable, closed.refused) == ((), {"var/lib/other": "mkdir"})
    person = changes(tree, wrote("/home/me", call="mkdir"))
    assert (person.writable, person.refused) == ((), {"home/me": "mkdir"})


@pytest.mark.parametrize("path", ["srv/up", "home", "usr/share"])
def test_a_folder_that_is_there_already_is_kept_and_not_written(path: str, tmp_path: Path) -> None:
    tree = planted(tmp_path, {f"{path}/x": ""})
    there = wrote(f"/{path}", call="mkdir", error="EEXIST")
    found = changes(tree, there)
    assert (found.writable, found.refused) == ((), {})
    kept = Kept(tree)
    keep_observed(kept, there)
    assert list(kept.reasons) == [path]
    other = Kept(tree)
    keep_observed(other, wrote(f"/{path}", call="mkdir", error="EROFS"))
    assert not other.reasons


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_the_home_of_the_services_user_is_its_own(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"home/app/x": "", "home/me/x": "", "srv/x": "", "home/a/in/x": ""},
                   {"var/home": "../home"})  # fmt: skip
    for path in ("home/app", "srv", "home/a/in", "home"):
        os.chown(tmp_path / path, 33, 33)
    places = ("/var/home/app", "/home/me", "/srv", "", "/home/a/in", "/home", "/home/none")
    homes = own_homes(tree, WHO, places)
    assert homes == ("home/app",)
    assert (
        own_homes(tree, Identity(34, 34), places) == own_homes(tree, Identity(0, 0), places) == ()
    )
    trace = wrote("/home/app/db", "/home/me/db")
    found = changes(tree, trace, homes=homes)
    assert found.writable == (Writable("home/app", state=True),)
    assert found.refused == {"home/me/db": "openat"}
    assert changes(tree, trace).writable == ()


@pytest.mark.parametrize(
    ("folder", "links", "real"),
    [
        ("/srv/d/app", {"srv/d": "../data/x"}, "data/x/app"),
        ("/var/run/app", {"var/run": "/run"}, "run/app"),
        ("/opt/app", {"opt/app": "app-1"}, "opt/app-1"),
        ("/a/in", {"a": "b", "b": "/c"}, "c/in"),
        ("/srv/new/in", {}, "srv/new/in"),
        ("/", {}, "bin"),
    ],
)
def test_a_working_directory_behind_links_is_where_they_lead(
    folder: str, links: dict[str, str], real: str, tmp_path: Path
) -> None:
    tree = planted(tmp_path, {f"{real}/x": ""}, links)
    kept = Kept(tree)
    kept.add(f"{real}/x", "test")
    found = {item.path: item for item in entries(kept, WHO, NOTHING, {}, folder)}
    assert found[real].kind == "folder"
    assert {path: item.target for path, item in found.items() if item.kind == "link"} == links
    assert not [path for path in found if any(path.startswith(f"{link}/") for link in links)]


def test_a_working_directory_in_a_circle_of_links_is_none(tmp_path: Path) -> None:
    tree = planted(tmp_path, {}, {"a": "b", "b": "a"})
    assert {item.path for item in entries(Kept(tree), WHO, NOTHING, {"a/x": b""}, "/a/in")} == {
        "dev", "proc", "sys",
    }  # fmt: skip


def test_what_is_written_anew_comes_to_where_links_lead(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"usr/state/x": ""}, {"var": "usr"})
    found = {item.path: item for item in
             entries(Kept(tree), WHO, NOTHING, {"var/state/y": b"1", "etc/z": b"2"})}  # fmt: skip
    assert found["var"].target == "usr" and "var/state" not in found and "var/state/y" not in found
    assert (found["usr/state/y"].content, found["etc/z"].content) == (b"1", b"2")


def copies(tree: Tree, folder: str, who: Identity, opened: tuple[str, ...] = ()) -> set[str]:
    """Files of a writable folder that the image gets."""
    kept = Kept(tree)
    keep_observed(kept, Trace(uses={Use(f"/{path}", "openat", "", False): None for path in opened}))
    written = Changes((Writable(folder, state=True),), {}, {})
    return {item.path for item in entries(kept, who, written, {}) if item.kind == "file"}


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_state_is_what_was_opened_and_what_belongs_to_the_service(tmp_path: Path) -> None:
    names = {"own": (33, 0o600), "public": (0, 0o644), "owners": (7, 0o644), "key": (0, 0o600),
             "group": (7, 0o640), "other": (1000, 0o644), "closed/public": (0, 0o644)}  # fmt: skip
    tree = planted(tmp_path, {f"srv/app/{name}": "x" for name in names})
    for name, (uid, mode) in names.items():
        os.chown(tmp_path / "srv/app" / name, uid, uid)
        (tmp_path / "srv/app" / name).chmod(mode)
    os.chown(tmp_path / "srv/app", 7, 7)
    (tmp_path / "srv/app/closed").chmod(0o700)
    found = copies(tree, "srv/app", WHO)
    assert found == {f"srv/app/{name}" for name in ("own", "public", "owners")}
    assert copies(tree, "srv/app", WHO, ("srv/app/key",)) == found | {"srv/app/key"}
    assert copies(tree, "srv/app", Identity(0, 0)) == found - {"srv/app/own"}


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_persons_keys_stay_where_they_are(tmp_path: Path) -> None:
    """Also where the whole folder is to be writable, and the service to run as that user."""
    tree = planted(tmp_path, {"home/me/.ssh/id_rsa": "key", "home/me/open": "", "home/me/a/x": ""})
    for path in ("home/me/.ssh/id_rsa", "home/me/open", "home/me/a/x", "home/me/a", "home/me"):
        os.chown(tmp_path / path, 33, 33)
    (tmp_path / "home/me/.ssh/id_rsa").chmod(0o600)
    assert copies(tree, "home/me", WHO) == set()
    assert copies(tree, "home/me", WHO, ("home/me/open",)) == {"home/me/open"}
    assert copies(tree, "home/me/a", WHO) == {"home/me/a/x"}


def given(root: Path, files: dict[str, tuple[int, int]]) -> Tree:
    """A tree whose files (path -> owner and mode) lie in folders of WHO's that are closed."""
    tree = planted(root, dict.fromkeys(files, "x"))
    for path, (uid, mode) in files.items():
        os.chown(root / path, uid, uid)
        (root / path).chmod(mode)
        for above in list((root / path).relative_to(root).parents)[:-2]:
            os.chown(root / above, 33, 33)
            (root / above).chmod(0o750)
    return tree


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_state_in_a_home_is_the_services_and_keys_beside_it_are_not(tmp_path: Path) -> None:
    tree = given(tmp_path, {
        "home/app/state/tmpl": (33, 0o640), "home/app/state/.netrc": (33, 0o600),
        "home/app/state/other": (34, 0o640), "home/app/.ssh/id_rsa": (33, 0o600),
        "home/app/beside": (33, 0o640), "home/app/.cache/x/key": (33, 0o600),
    })  # fmt: skip

    def image(found: Changes) -> set[str]:
        return {item.path for item in entries(Kept(tree), WHO, found, {}) if item.kind == "file"}

    state, cache = wrote("/home/app/state/n"), wrote("/home/app/.cache/x/n")
    assert image(changes(tree, state)) == {"home/app/state/tmpl"}
    assert image(changes(tree, cache)) == set()
    # A person's home, on this host: nothing that was not named.
    assert image(changes(tree, state, people=True)) == set()
    named = changes(tree, Trace(), ["home/app/state"], people=True)
    assert image(named) == {"home/app/state/tmpl"}
    # The whole home: its own, or somebody's.
    both = {"home/app/state/tmpl", "home/app/beside"}
    assert image(changes(tree, wrote("/home/app/n"), homes=("home/app",))) == both
    assert image(changes(tree, Trace(), ["home/app"])) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_what_is_left_behind_of_state_is_counted(tmp_path: Path) -> None:
    tree = given(tmp_path, {"home/app/state/own": (33, 0o640), "home/app/state/a": (34, 0o640),
                            "home/app/state/b": (34, 0o600), "run/x/c": (34, 0o600)})  # fmt: skip
    found = changes(tree, wrote("/home/app/state/n", "/run/x/n"))
    kept = Kept(tree)
    assert left_behind(kept, found, entries(kept, WHO, found, {})) == {"home/app/state": 2}
    kept.add("home/app/state/a", "asked for")
    kept.dropped = ("home/app/state/b",)
    assert left_behind(kept, found, entries(kept, WHO, found, {})) == {}


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
