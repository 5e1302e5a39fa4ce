"""Moving over from AIDE, with the real program beside us on the same change."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ringfence.watch.baseline.aide.attributes import BITS
from tests.command import Outcome
from tests.system.conftest import program
from tests.watching import Watched, paths

pytestmark = pytest.mark.system
ALL = "p+ftype+i+l+n+u+g+s+m+acl+xattrs+selinux+caps+sha256"
"""Without ctime: AIDE keeps whole seconds, and these tests are quicker than that."""


class Aide:
    """AIDE on a tree, with `rules` and a database of its own."""

    def __init__(self, place: Path, rules: str, *, packed: bool = False) -> None:
        self.configuration = place / "aide.conf"
        self.database = place / "aide.db"
        self.configuration.write_text(
            f"database_in=file:{self.database}\ndatabase_out=file:{self.database}\n"
            f"gzip_dbout={'yes' if packed else 'no'}\n{rules}\n"
        )
        subprocess.run(
            [program("aide"), "-c", str(self.configuration), "--init"],
            check=True, capture_output=True,
        )  # fmt: skip

    def check(self) -> dict[str, set[str]]:
        """What `aide --check` finds: paths added, removed, changed."""
        done = subprocess.run(
            [program("aide"), "-c", str(self.configuration), "--check"],
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode < 8, done.stderr
        found: dict[str, set[str]] = {"added": set(), "removed": set(), "changed": set()}
        for sign, path in re.findall(r"^[fdlpscb](.).{16}\s*: (/.*)$", done.stdout.decode(), re.M):
            word = {"+": "added", "-": "removed"}.get(sign, "changed")
            found[word].add(path)
        return found


def ours(watched: Watched) -> dict[str, set[str]]:
    report = watched.report()
    return {word: set(paths(report[word])) for word in ("added", "removed", "changed")}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "var" / "log").mkdir(parents=True)
    (root / "bin" / "tool").write_bytes(b"\x7fELF tool")
    (root / "bin" / "tool").chmod(0o755)
    (root / "bin" / "with space").write_text("x")
    (root / "bin" / "a\\b").write_text("x")
    (root / "link").symlink_to("bin")
    (root / "var" / "log" / "syslog").write_text("one\n")
    (root / "var" / "cache").write_text("x")
    os.mkfifo(root / "fifo")
    os.setxattr(root / "bin" / "tool", "user.note", b"kept")
    subprocess.run([program("setfacl"), "-m", "u:daemon:r", str(root / "link")], check=True)
    for path in (root, *root.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)
    return root


def relinked(path: Path) -> None:
    path.unlink()
    path.symlink_to("var")


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda root: None,
    "content": lambda root: (root / "bin" / "tool").write_bytes(b"\x7fELF TOOL"),
    "mode": lambda root: (root / "bin" / "tool").chmod(0o4755),
    "owner": lambda root: os.chown(root / "bin" / "tool", 7, 7),
    "xattr": lambda root: os.setxattr(root / "bin" / "tool", "user.note", b"other"),
    "acl": lambda root: subprocess.run(
        ["setfacl", "-m", "u:daemon:rw", str(root / "bin" / "tool")], check=True
    ),
    "capability": lambda root: subprocess.run(
        [program("setcap"), "cap_net_raw+ep", str(root / "bin" / "tool")], check=True
    ),
    "added": lambda root: (root / "bin" / "new\nname").write_text("x"),
    "removed": lambda root: (root / "bin" / "with space").unlink(),
    "link": lambda root: relinked(root / "link"),
    "hard link": lambda root: os.link(root / "bin" / "tool", root / "again"),
    "touched": lambda root: os.utime(root / "fifo"),
    "log grows": lambda root: (root / "var" / "log" / "syslog").write_text("one\ntwo\n"),
    "log shrinks": lambda root: (root / "var" / "log" / "syslog").write_text("o"),
    "log rewritten": lambda root: (root / "var" / "log" / "syslog").write_text("ONE\ntwo\n"),
    "ignored": lambda root: (root / "var" / "cache").write_text("other"),
}
RULES = (
    "Full = " + ALL + "\nLog = p+ftype+l+u+g+n+sha256+s+growing\n"
    "@@define LOGS var/log\n"
    "@@if defined LOGS\n{root}/@@{{LOGS}}/[[:alpha:]]+$ f Log\n@@endif\n"
    "!{root}/var/cache$\n{root}(/|$) Full\n"
)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("source", ["both", "configuration"])
def test_both_find_the_same(tree: Path, tmp_path: Path, name: str, source: str) -> None:
    aide = Aide(tmp_path, RULES.format(root=tree), packed=source == "both")
    watched = Watched(tmp_path, "host")
    words = ["--from-aide", aide.configuration]
    watched.init(*words, *(["--from-aide", aide.database] if source == "both" else []))
    assert ours(watched) == aide.check() == {"added": set(), "removed": set(), "changed": set()}
    CHANGES[name](tree)
    theirs = aide.check()
    found = ours(watched)
    # AIDE prints a newline in a name as \012.
    found["added"] = {path.replace("\n", "\\012") for path in found["added"]}
    assert found == theirs
    silent = name in ("nothing", "log grows", "ignored")
    assert bool(theirs["added"] | theirs["removed"] | theirs["changed"]) is not silent


def test_ctime_is_taken_over(tree: Path, tmp_path: Path) -> None:
    aide = Aide(tmp_path, f"{tree}/bin/ c+sha256")
    watched = Watched(tmp_path, "host")
    watched.init("--from-aide", aide.database)
    time.sleep(1.1)
    (tree / "bin" / "tool").chmod(0o700)
    (tree / "bin" / "tool").chmod(0o755)
    assert ours(watched) == aide.check()
    (changed,) = watched.report()["changed"]
    assert list(changed["attributes"]) == ["ctime"]


def test_a_database_alone_is_a_baseline(tree: Path, tmp_path: Path) -> None:
    aide = Aide(tmp_path, f"{tree}(/|$) {ALL}", packed=True)
    watched = Watched(tmp_path, "host")
    watched.init("--from-aide", aide.database)
    assert ours(watched) == {"added": set(), "removed": set(), "changed": set()}
    (tree / "bin" / "tool").write_bytes(b"\x7fELF TOOL")
    (tree / "bin" / "new").write_text("x")
    assert ours(watched) == aide.check()
    report = watched.report()
    assert report["notes"] == ["taken over from AIDE's aide.db"]


@pytest.mark.parametrize(("expression", "name"), [
    ("p", "mode"), ("u", "owner"), ("g", "group"), ("s", "size"), ("m", "mtime"), ("c", "ctime"),
    ("i", "inode"), ("n", "links"), ("l", "target"), ("acl", "acl"), ("xattrs", "xattrs"),
    ("ftype", "type"), ("S", "S"), ("growing", "growing"),
])  # fmt: skip
def test_the_bits_are_those_that_aide_writes(
    tree: Path, tmp_path: Path, expression: str, name: str
) -> None:
    # A symlink keeps `l`, a file everything else.
    path = tree / "link" if expression == "l" else tree / "bin" / "tool"
    aide = Aide(tmp_path, f"{path}$ {expression}")
    lines = aide.database.read_text().splitlines()
    fields = next(line for line in lines if line.startswith("@@db_spec")).split()[1:]
    row = dict(zip(fields, lines[-2].split(" "), strict=True))
    assert int(row["attr"]) == 1 | 1 << BITS[name]


def test_debians_own_configuration_is_read(tmp_path: Path, tree: Path) -> None:
    """The groups that Debian's aide.conf defines, on a tree of ours."""
    groups = (
        "Checksums = H\nOwnerMode = p+u+g+ftype\nSize = s+b\nInodeData = OwnerMode+n+i+Size+l+X\n"
        "StaticFile = m+c+Checksums\nFull = InodeData+StaticFile\nVarTime = InodeData+Checksums\n"
        "VarFile = OwnerMode+n+l+X\nVarDir = OwnerMode+n+i+X\nLog = OwnerMode+n+growing+s+X\n"
        f"{tree}/var/log/syslog$ f Log\n{tree}$ d VarDir\n{tree}/bin Full\n"
    )
    aide = Aide(tmp_path, groups)
    watched = Watched(tmp_path, "host")
    done = watched.init("--from-aide", aide.configuration)
    assert "e2fsattrs" in done.err
    (tree / "bin" / "tool").write_bytes(b"\x7fELF TOOL")
    (tree / "fifo").unlink()
    with (tree / "var" / "log" / "syslog").open("a") as log:
        log.write("two\n")
    found, theirs = ours(watched), aide.check()
    assert found == theirs
    assert found["changed"] == {str(tree / "bin" / "tool")}


def refused(place: Path, text: str) -> Outcome:
    from tests.command import ringfence

    path = place / "odd"
    path.write_text(text)
    watched = Watched(place, "host")
    return ringfence("watch", "init", "host", "-o", watched.baseline, "--key", watched.key,
                     "--from-aide", path)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "/etc NoSuchGroup", "/et[c R", "nonsense", "@@if odd thing\n/etc R", "@@endif",
        "@@begin_db\n@@db_spec name\n", "@@begin_db\n@@db_spec name perm attr\n/a 100644\n",
        "@@begin_db\n@@db_spec name perm attr\n/a 100644 5\n", "@@begin_db\n", "/nowhere R",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    done = refused(tmp_path, text)
    assert done.code == 2
    assert not (tmp_path / "baseline").exists()
