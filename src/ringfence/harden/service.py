"""What is started: the words of the command, and all that an image's configuration says of it."""

from __future__ import annotations

import re

import msgspec

from ringfence.errors import InputError
from ringfence.harden.tree import PROGRAM_PATH, Tree
from ringfence.run.fence import ID_COUNT


class Service(msgspec.Struct, frozen=True):
    """A command as it is started. `user` as configured (`33`, `www-data`, `33:33`, '' = root).

    `ports` are the declared ones as `80/tcp`; `environment` are NAME=value words.
    """

    command: tuple[str, ...]
    environment: tuple[str, ...] = ()
    folder: str = "/"
    user: str = ""
    ports: tuple[str, ...] = ()
    signal: str = "SIGTERM"

    def variable(self, name: str) -> str:
        """The value of an environment variable, '' where it is not set."""
        for word in self.environment:
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
        return ""

    def search(self) -> tuple[str, ...]:
        """Folders of PATH, relative to the root."""
        path = self.variable("PATH")
        return tuple(part.strip("/") for part in path.split(":") if part) or PROGRAM_PATH


class Identity(msgspec.Struct, frozen=True):
    """A numeric user and group, and the further groups that the tree gives this user."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


ROOT = Identity(0, 0)
LARGEST_ID = 2**32 - 2
"""Of users and groups: one more is what system calls take for "no change"."""
_ID = re.compile("[0-9]{1,9}")


def program_of(service: Service, tree: Tree) -> str:
    """The path of the service's program. Raises InputError when the tree has none."""
    name = service.command[0]
    where = name if "/" not in name or name.startswith("/") else f"{service.folder}/{name}"
    found = tree.program(where, service.search())
    if found is None:
        raise InputError(
            "no such program in the tree",
            where=name,
            remedy="give the service's command after --, with its full path",
        )
    return found


def identity(user: str, tree: Tree) -> Identity:
    """The numbers behind `user[:group]`, by the tree's own passwd and group files.

    Raises InputError for a name that they do not have, or a number that is none of the kernel's.
    """
    name, _, group = user.partition(":")
    if not name:
        return ROOT
    row = _row(tree, "etc/passwd", name)
    uid = int(row[2]) if row else _number(name, "user in the tree's /etc/passwd")
    if not group:
        return Identity(uid, int(row[3]) if row else uid, _groups(tree, row[0]) if row else ())
    found = _row(tree, "etc/group", group)
    return Identity(
        uid, int(found[2]) if found else _number(group, "group in the tree's /etc/group")
    )


def home_of(who: Identity, tree: Tree) -> str:
    """The home of a user by the tree's passwd(5), '' where it names none."""
    row = _row(tree, "etc/passwd", str(who.uid))
    return row[5] if row and len(row) > 5 else ""


def check_fenced(who: Identity, where: str) -> None:
    """Raises InputError for a user or group that a fence's user namespace does not have."""
    if max(who.uid, who.gid) >= ID_COUNT:
        raise InputError(
            f"user {who.uid}, group {who.gid}: a fence has numbers below {ID_COUNT} only",
            where=where, remedy="name another with --user",
        )  # fmt: skip


def _number(text: str, kind: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InputError(f"no such {kind}", where=text)
    if len(text) > 10 or int(text) > LARGEST_ID:
        raise InputError(f"is larger than {LARGEST_ID}", where=text[:80])
    return int(text)


def _groups(tree: Tree, name: str) -> tuple[int, ...]:
    """Groups that list a user as a member (group(5))."""
    rows = [line.split(":") for line in
            tree.read("etc/group").decode("utf-8", "replace").splitlines()]  # fmt: skip
    found = [row[2] for row in rows if len(row) == 4 and name in row[3].split(",")]
    return tuple(int(text) for text in found if _ID.fullmatch(text))


def _row(tree: Tree, file: str, wanted: str) -> list[str] | None:
    """The row of passwd(5) or group(5) with this name or number."""
    for line in tree.read(file).decode("utf-8", "replace").splitlines():
        row = line.split(":")
        if len(row) > 3 and wanted in (row[0], row[2]) and _ID.fullmatch(row[2]):
            return row if file.endswith("group") or _ID.fullmatch(row[3]) else None
    return None
