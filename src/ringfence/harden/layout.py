"""What the image will hold: every path with owner, mode and content. Pure but for reading modes.

Files belong to root and are not writable for the service's user; what only root could read is
readable for the service's group, and for nobody else. Set-user-ID bits and devices do not exist.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping

import msgspec

from ringfence.errors import InputError
from ringfence.harden.keep.kept import Kept
from ringfence.harden.observe.trace import Trace, Use
from ringfence.harden.service import Identity
from ringfence.harden.tree import NOWHERE, Tree
from ringfence.run.fence import Writable

LOGS = re.compile(r"var/log/.+|.+\.log")
_OUTPUT = re.compile(r"dev/(?:stdout|stderr|fd/[12])|proc/[^/]+/fd/[12]")
"""proc(5): names of a process's own standard output and error."""
_ERRORS = re.compile(r"err", re.IGNORECASE)
_STATE = re.compile(r"(?:var/lib|srv|home|data|opt)(?:/|\Z)")
CONTENT = ("open", "openat", "creat", "rename", "renameat", "renameat2", "link", "linkat")
"""Calls that put content into a folder, where others make folders and change owners."""
_FORBIDDEN = re.compile(
    r"(?:|bin|boot|etc|lib\d*|sbin|usr|var)\Z|(?:proc|sys|dev|bin|lib\d*|sbin|usr)(?:/|\Z)"
)
"""Folders of the system: never made writable as a whole."""
_BROAD = re.compile(r"home(?:/[^/]*)?\Z|(?:media|mnt|opt|root|srv|var/lib)\Z")
"""Folders of many services or of a person: not made writable as a whole for one file in them."""
_HOME = re.compile(r"home/[^/]+")
_OF_MANY = re.compile(rf"{_BROAD.pattern}|data\Z")
"""Where --writable names one of these, it is not taken for the service's own."""
_PEOPLE = re.compile(r"(?:home|root)/")
_HIDDEN = re.compile(r"(?:^|/)\.")
"""In a home: keys, passwords, histories (~/.ssh, ~/.netrc)."""


class Entry(msgspec.Struct, frozen=True):
    """One path of the image. `content` wins over `source`, a path of the tree; folders and links
    have neither."""

    path: str
    kind: str
    mode: int
    uid: int = 0
    gid: int = 0
    target: str = ""
    source: str = ""
    content: bytes | None = None


class Changes(msgspec.Struct, frozen=True):
    """What the service writes: folders, log files (path -> stdout or stderr), and places it wrote
    or tried to that stay as they are (path -> the call). `inner` are folders below writable ones
    that it expects, `links` symlinks on the way to what it writes (/var/run), `own` folders in
    whose files of its user are its own also below /home and /root."""

    writable: tuple[Writable, ...]
    logs: dict[str, str]
    refused: dict[str, str]
    inner: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()


def opens_output(tree: Tree, trace: Trace, written: Changes) -> bool:
    """Whether the service opens its standard output or error by a name, be it a log of its own that
    is a link to that in the image (`Changes.logs`)."""
    paths = {use.path for use in trace.uses if use.call in CONTENT}
    return bool(written.logs) or any(
        _OUTPUT.fullmatch(place) for path in paths for place in _names(tree, path)
    )


def _names(tree: Tree, path: str) -> tuple[str, ...]:
    """A path, the links that it leads over, and where it ends."""
    real, crossed = tree.resolve(path)
    return (path.strip("/"), *crossed, real)


def own_homes(tree: Tree, who: Identity, places: Iterable[str]) -> tuple[str, ...]:
    """Those of `places` (its home by passwd(5), its working directory) that are folders /home/NAME
    and belong to the service's user: it has them for itself."""
    real = dict.fromkeys(tree.resolve(place)[0] for place in places)
    return tuple(path for path in real if who.uid and _HOME.fullmatch(path)
                 and tree.is_folder(path) and _owner(tree, path) == who.uid)  # fmt: skip


def _owner(tree: Tree, path: str) -> int | None:
    status = tree.status(path)
    return None if status is None else status.st_uid


def changes(
    tree: Tree,
    trace: Trace,
    declared: Iterable[str] = (),
    homes: tuple[str, ...] = (),
    *,
    people: bool = False,
) -> Changes:
    """What a traced run wrote or tried to, as folders to declare. `declared` are the user's,
    `homes` those that are the service's own; with `people`, what is below others is a person's.
    Raises InputError for a declared one that leads nowhere."""
    folders: dict[str, bool] = {}
    logs: dict[str, str] = {}
    refused: dict[str, str] = {}
    links: dict[str, None] = {}
    for place in declared:
        path, crossed = tree.resolve(place)
        if path == NOWHERE:
            raise InputError("links that lead in a circle", where=f"--writable {place}")
        folders[path] = True
        links.update(dict.fromkeys(crossed))
    named = frozenset(folders)
    for use in trace.uses:
        if not use.writes or use.error not in ("", "EEXIST", "EACCES", "EROFS", "EPERM", "ENOENT"):
            continue
        path, crossed = tree.resolve(use.path)
        links.update(dict.fromkeys(crossed))
        if path.startswith("dev/shm/"):
            folders["dev/shm"] = False
        elif path.partition("/")[0] in ("dev", "proc", "sys") or path in ("", NOWHERE):
            continue
        elif LOGS.fullmatch(path) and use.call in ("open", "openat", "creat"):
            logs[path] = "stderr" if _ERRORS.search(path.rpartition("/")[2]) else "stdout"
        elif LOGS.fullmatch(path):
            continue  # its owner and mode are the image's matter
        else:
            _written(folders, refused, path, use, homes)
    kept = {path: state for path, state in folders.items()
            if not any(path.startswith(f"{other}/") for other in folders)}  # fmt: skip
    return Changes(
        tuple(sorted(Writable(path, state) for path, state in kept.items())),
        logs,
        {path: call for path, call in refused.items() if not _within(path, kept)},
        tuple(sorted(folders.keys() - kept.keys())),
        tuple(sorted(links)),
        frozenset(path for path in folders if path in homes or not (
            _OF_MANY.match(path) or (people and path not in named))),
    )  # fmt: skip


def _written(
    folders: dict[str, bool],
    refused: dict[str, str],
    path: str,
    use: Use,
    homes: tuple[str, ...],
) -> None:
    folder = path.rpartition("/")[0]
    if folder.endswith("__pycache__") or path.endswith("__pycache__"):
        return  # byte code: writable, it would be a place to hide in, and Python goes on without
    if _BROAD.match(folder) and use.call.startswith("mkdir") and not use.error:
        folder = path  # what it made for itself is its own
    if _FORBIDDEN.match(folder) or (_BROAD.match(folder) and folder not in homes):
        if use.error != "EEXIST":  # which leaves all as it was
            refused.setdefault(path, use.call)
        return
    state = bool(_STATE.match(folder)) and (use.call in CONTENT or folder == path)
    folders[folder] = folders.get(folder, False) or state


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def entries(
    kept: Kept,
    who: Identity,
    written: Changes,
    extra: Mapping[str, bytes],
    folder: str = "/",
) -> tuple[Entry, ...]:
    """Every entry, sorted by path, folders on the way included. `extra` are files written anew;
    `folder` is the service's working directory."""
    tree = kept.tree
    found: dict[str, Entry] = {}
    writable = [item.path for item in written.writable]
    worked, ways = tree.resolve(folder)
    anew, further = _placed(tree, extra)
    for path in (*kept.reasons, *written.links, *ways, *further):
        if path in written.logs:
            continue
        entry = _entry(tree, path, who, _within(path, writable))
        if entry is not None:
            found[path] = entry
    for path in (*writable, worked):
        if path not in ("", NOWHERE) and path not in found:
            found[path] = Entry(path, "folder", 0o755)
    for path in (*writable, *written.inner):
        found[path] = Entry(path, "folder", 0o750, who.uid, who.gid)
        own = path in written.own
        for file in tree.below(path) if _STATE.match(path) else ():
            entry = _entry(tree, file, who, True) if _belongs(tree, file, path, who, own) else None
            if entry is not None:
                found.setdefault(file, entry)
    for path, stream in written.logs.items():
        found[path] = Entry(path, "link", 0o777, target=f"/dev/{stream}")
    for path, content in anew.items():
        found[path] = Entry(path, "file", 0o644, content=content)
    for place in ("proc", "sys", "dev"):
        found[place] = Entry(place, "folder", 0o755)
    return _with_folders(tree, found, who, writable)


def _placed(tree: Tree, extra: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, None]]:
    """Files to be written anew by the real folders that they come into, and the links on the way:
    nothing of an archive may lie below a link. What links lead nowhere with is left out."""
    placed: dict[str, bytes] = {}
    links: dict[str, None] = {}
    for path, content in extra.items():
        folder, _, name = path.rpartition("/")
        real, crossed = tree.resolve(folder)
        if real != NOWHERE:
            placed[f"{real}/{name}".lstrip("/")] = content
            links.update(dict.fromkeys(crossed))
    return placed, links


def left_behind(kept: Kept, written: Changes, made: Iterable[Entry]) -> dict[str, int]:
    """Folders of state -> how many of the tree's files in them the image has not, though nobody
    asked to leave them out."""
    there = {entry.path for entry in made}
    counts = {
        item.path: sum(1 for file in kept.tree.below(item.path)
                       if file not in there and not kept.unwanted(file))
        for item in written.writable if item.path and _STATE.match(item.path)
    }  # fmt: skip
    return {path: count for path, count in counts.items() if count}


def _belongs(tree: Tree, file: str, folder: str, who: Identity, own: bool) -> bool:
    """Whether a file in a writable folder is the service's though it was not seen to open it: its
    user's, in a home only what is not hidden in a folder of its `own`; or one that everybody may
    read, in a folder of the service's alone, of the folder's owner or root. Others' files, and
    keys beside its data, are none of these."""
    status, above = tree.status(file), tree.status(folder)
    if status is None or above is None:
        return False
    people = _PEOPLE.match(file) is not None
    if who.uid and status.st_uid == who.uid and (not people or (own and not _HIDDEN.search(file))):
        return True
    if _OF_MANY.match(folder) or status.st_uid not in (0, above.st_uid, who.uid):
        return False
    return tree.open_to_all(file)


def _entry(tree: Tree, path: str, who: Identity, owned: bool) -> Entry | None:
    status = tree.status(path)
    if status is None:
        return None
    mode = status.st_mode
    uid, gid = (who.uid, who.gid) if owned else (0, 0)
    if stat.S_ISLNK(mode):
        return Entry(path, "link", 0o777, target=tree.target(path))
    if stat.S_ISDIR(mode):
        closed = not mode & 0o005
        return Entry(path, "folder", 0o750 if closed or owned else 0o755, uid,
                     who.gid if closed else gid)  # fmt: skip
    if not stat.S_ISREG(mode):
        return None
    runs, closed = bool(mode & 0o111), not mode & 0o004
    if owned:
        return Entry(path, "file", 0o700 if runs else 0o600, uid, gid, source=path)
    plain = 0o750 if closed else 0o755
    return Entry(path, "file", plain if runs else plain & ~0o111, 0, who.gid if closed else 0,
                 source=path)  # fmt: skip


def _with_folders(
    tree: Tree, found: dict[str, Entry], who: Identity, writable: list[str]
) -> tuple[Entry, ...]:
    for path in list(found):
        parts = path.split("/")
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            if above in found:
                continue
            real = tree.resolve(above)[0] == above  # a link would be this host's to follow
            entry = _entry(tree, above, who, _within(above, writable)) if real else None
            usable = entry is not None and entry.kind == "folder"
            found[above] = entry if usable and entry else Entry(above, "folder", 0o755)
    return tuple(found[path] for path in sorted(found))


def accounts(tree: Tree, who: Identity, kept: Kept) -> dict[str, bytes]:
    """passwd and group with root and the service alone, where the service reads them."""
    found: dict[str, bytes] = {}
    for path, number in (("etc/passwd", who.uid), ("etc/group", who.gid)):
        if path not in kept.reasons:
            continue
        lines = tree.read(path).decode("utf-8", "replace").splitlines()
        rows = [line for line in lines if line.split(":")[2:3] in ([str(number)], ["0"])]
        if number and not any(line.split(":")[2:3] == [str(number)] for line in rows):
            tail = ":" if path.endswith("group") else f":{who.gid}::/:/usr/sbin/nologin"
            rows.append(f"service:x:{number}{tail}")
        found[path] = "".join(f"{line}\n" for line in rows).encode()
    return found
