"""An OCI runtime bundle: config.json and a root file system, before anything runs.

Format: https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md. What the
configuration says is of grade `declared`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ringfence.collect.container.document import read_document, rows, table, words
from ringfence.collect.files.directory import read_directory
from ringfence.collect.files.sudoers import sudo_rules
from ringfence.collect.host.read import read_host
from ringfence.collect.process.environment import hint
from ringfence.collect.process.namespaces import KINDS
from ringfence.collect.process.paths import path_facts
from ringfence.collect.seccomp.profile import from_profile
from ringfence.collect.seccomp.tables import native_calls
from ringfence.errors import InputError
from ringfence.knowledge.questions import call_questions
from ringfence.knowledge.records import Knowledge, PathEntry
from ringfence.model.evidence import Evidence, Grade, Seen, Unseen
from ringfence.model.facts import Facts, ImageConfig, Target
from ringfence.model.files import Elf, SudoRules, Tree
from ringfence.model.mounts import covering, honours_setuid
from ringfence.model.process import (
    CallVerdict,
    Credentials,
    EnvironmentHint,
    Limits,
    Memory,
    Mount,
    Namespace,
    PathFact,
    Process,
    Seccomp,
)

KIND = "bundle"
LONGEST = 256
"""Of a path in a sentence."""
MOST_MOUNTS = 4096
MOST_BOUND, MOST_BOUND_FILES = 32, 20_000
"""Bind mounts, and files of each, that are searched for setuid programs."""
SPECIFICATION = "see config.md of the OCI runtime specification"
PARTS = {
    "process": dict, "process.user": dict, "process.capabilities": dict, "process.args": list,
    "process.env": list, "root": dict, "mounts": list, "linux": dict, "linux.namespaces": list,
    "linux.devices": list, "linux.uidMappings": list, "linux.seccomp": dict,
    "linux.resources": dict, "linux.resources.devices": list, "linux.maskedPaths": list,
    "linux.readonlyPaths": list,
}  # fmt: skip
NAMESPACE_WORDS = {"mount": "mnt", "network": "net"}
"""The runtime specification's words, where the kernel's differ."""


def read_bundle(folder: Path, knowledge: Knowledge) -> Facts:
    """The facts of a bundle. Raises InputError when config.json or its root makes no sense."""
    path = folder / "config.json"
    config = _checked(path)
    tree, root, unseen = _tree(config, folder)
    process = described(config, str(path), knowledge, root)
    if tree is not None:
        tree = _with_bound(tree, process.mounts.value or ())
        unseen = tree.unseen
    return Facts(
        target=Target(KIND, str(folder)),
        processes=(process,),
        host=read_host(knowledge, []),
        tree=tree,
        config=_image_config(config, str(path)),
        container=True,
        sudo=_sudo(root, process.mounts.value or ()),
        unseen=unseen,
    )


def _checked(path: Path) -> dict[str, Any]:
    """The document of a config.json, whose parts are what they have to be: one of another type
    would read as not there, and no runtime would start it. Raises InputError."""
    config = read_document(path)
    for place, kind in PARTS.items():
        *outer, name = place.split(".")
        found = table(config, *outer).get(name)
        if found is not None and not isinstance(found, kind):
            what = "a list" if kind is list else "an object"
            raise InputError(f"{place} is not {what}", where=str(path), remedy=SPECIFICATION)
    if len(rows(config, "mounts")) > MOST_MOUNTS:
        raise InputError(f"has more than {MOST_MOUNTS} mounts", where=str(path))
    return config


class Configuration(msgspec.Struct, frozen=True):
    """What a bundle's config.json says of user and command, of secrets, and of devices (as
    `Limits.devices`)."""

    image: ImageConfig
    hints: Seen[tuple[EnvironmentHint, ...]]
    devices: Seen[tuple[str, ...]]


def read_configuration(folder: Path) -> Configuration:
    """What is of use of a running container's config.json. Raises InputError."""
    path = folder / "config.json"
    config = _checked(path)
    said = Evidence(Grade.DECLARED, str(path))
    hints = Seen(_environment(config), _detail(said, "process.env"))
    return Configuration(_image_config(config, str(path)), hints, _device_rules(config, said))


def _image_config(config: dict[str, Any], source: str) -> ImageConfig:
    user = table(config, "process", "user")
    return ImageConfig(
        user=f"{_number(user.get('uid'))}:{_number(user.get('gid'))}",
        program=next(iter(words(config, "process", "args")), ""),
        ports=(),
        layers=0,
        digest="",
        evidence=Evidence(Grade.DECLARED, source),
        uid=_number(user.get("uid")),
    )


def _tree(
    config: dict[str, Any], folder: Path
) -> tuple[Tree | None, str | None, tuple[Unseen, ...]]:
    stated = table(config, "root").get("path")
    if not isinstance(stated, str) or not stated:
        raise InputError("root.path is missing", where=str(folder / "config.json"))
    root = folder / stated
    if not os.path.isdir(root):
        return None, None, (Unseen("file tree", f"{str(root)[:LONGEST]} is not a directory"),)
    return read_directory(root), str(root), ()


def _sudo(root: str | None, mounts: tuple[Mount, ...]) -> Seen[SudoRules] | None:
    """The sudo rules of the root file system; not known where a mount will lie over them."""
    if root is None:
        return None

    def shuns(path: str) -> str:
        mount = covering(mounts, path)
        return "" if mount is not None and mount.path == "/" else "a mount will lie over it"

    return sudo_rules(root, shuns)


def _with_bound(tree: Tree, mounts: tuple[Mount, ...]) -> Tree:
    """The tree with the privileged programs of what is bound into it, as far as it is here."""
    bound = [item for item in mounts if item.fstype == "bind" and honours_setuid(item)]
    privileged, unseen, complete = list(tree.privileged), list(tree.unseen), tree.complete
    for item in bound[:MOST_BOUND]:
        if os.path.isfile(item.source):
            continue
        if not os.path.isdir(item.source):
            complete = False
            unseen.append(Unseen(f"files at {item.path[:LONGEST]}", "what is bound is not here"))
            continue
        found = read_directory(Path(item.source), with_elf=False, max_files=MOST_BOUND_FILES)
        complete = complete and found.complete
        unseen += found.unseen
        top = item.path.strip("/")
        privileged += [msgspec.structs.replace(file, path=f"{top}/{file.path}".lstrip("/"))
                       for file in found.privileged]  # fmt: skip
    if len(bound) > MOST_BOUND:
        complete = False
        unseen.append(Unseen(f"files of {len(bound) - MOST_BOUND} bind mounts more", "limit"))
    return msgspec.structs.replace(
        tree, privileged=tuple(privileged), unseen=tuple(unseen), complete=complete
    )


def described(
    config: dict[str, Any], source: str, knowledge: Knowledge, root: str | None
) -> Process:
    """The process that a runtime configuration describes, graded `declared`."""
    said = Evidence(Grade.DECLARED, source)
    arguments = words(config, "process", "args")
    program = posixpath.basename(arguments[0]) if arguments else "process"
    credentials = _credentials(config, said)
    mounts = _mounts(config, os.path.dirname(source))
    no_new = table(config, "process").get("noNewPrivileges") is True
    filters = _seccomp(config, knowledge, said)
    paths = _paths(root, knowledge, mounts, config)
    unread = Evidence(Grade.ASSUMED, source, "does not run: nothing live to see")
    return Process(
        pid=None,
        parent=None,
        program=program,
        executable=arguments[0] if arguments else "",
        credentials=Seen(credentials, credentials.evidence),
        no_new_privileges=Seen(no_new, _detail(said, f"process.noNewPrivileges {no_new}")),
        seccomp=Seen(filters, filters.evidence),
        namespaces=_namespaces(config, said),
        mac_label=_label(config, said),
        mounts=Seen(mounts, _detail(said, "mounts")),
        memory=Seen[Memory](None, unread),
        limits=Seen(_limits(config, said), said),
        environment=Seen(_environment(config), _detail(said, "process.env")),
        image=Seen[Elf](None, unread),
        neighbours=_neighbours(config, said, unread),
        terminal=Seen(table(config, "process").get("terminal") is True, said),
        paths=paths,
        paths_seen=root is not None,
    )


def _neighbours(config: dict[str, Any], said: Evidence, unread: Evidence) -> Seen[tuple[str, ...]]:
    """Other programs of its user: none where its PID namespace will be its own, which holds what it
    starts itself."""
    for row in rows(config, "linux", "namespaces"):
        if row.get("type") == "pid" and not row.get("path"):
            return Seen((), _detail(said, "its PID namespace holds what it starts itself alone"))
    return Seen(None, unread)


def _detail(said: Evidence, detail: str) -> Evidence:
    return Evidence(said.grade, said.source, detail)


def _number(value: object) -> int:
    """A number of the kernel's, or 0: JSON knows no largest one."""
    return value if type(value) is int and abs(value) < 2**63 else 0


def _credentials(config: dict[str, Any], said: Evidence) -> Credentials:
    """What the process has once its program was executed, which is when the service begins."""
    user = table(config, "process", "user")
    uid, gid = _number(user.get("uid")), _number(user.get("gid"))
    stated = {
        name: frozenset(words(config, "process", "capabilities", name))
        for name in ("permitted", "inheritable", "bounding", "ambient")
    }
    held = _after_execve(uid, stated, table(config, "process").get("noNewPrivileges") is True)
    ambient = stated["ambient"] if uid else frozenset()
    groups = user.get("additionalGids")
    extra = [_number(item) for item in groups] if isinstance(groups, list) else []
    users, group_ids = (_Mapping(rows(config, "linux", name)) for name in
                        ("uidMappings", "gidMappings"))  # fmt: skip
    detail = f"process.user {uid}:{gid}, {len(held)} effective capabilities"
    uid = users.outside(uid)
    return Credentials(
        uid, group_ids.outside(gid), tuple(map(group_ids.outside, extra)), str(uid),
        effective=held, permitted=held, inheritable=stated["inheritable"],
        bounding=stated["bounding"], ambient=ambient, evidence=_detail(said, detail),
        uids=frozenset((uid,)), root_mapped=users.maps_root,
    )  # fmt: skip


def _after_execve(uid: int, stated: dict[str, frozenset[str]], bound: bool) -> frozenset[str]:
    """The permitted set after execve(2), all of it effective (capabilities(7)): root gains its
    inheritable and bounding sets, but nothing new under no_new_privs (`bound`); others keep what
    is ambient, which is what is both permitted and inheritable."""
    if uid != 0:
        return stated["ambient"] & stated["permitted"] & stated["inheritable"]
    gained = stated["inheritable"] | stated["bounding"]
    return gained & stated["permitted"] if bound else gained


NOBODY = 65534
"""Whose number nobody has who is not mapped (user_namespaces(7))."""


class _Mapping:
    """The users, or groups, of a container's user namespace: all of this host's where it has none.
    Each row: the first number inside, the first outside, and how many."""

    def __init__(self, stated: list[dict[str, Any]]) -> None:
        names = ("containerID", "hostID", "size")
        self._rows = [tuple(_number(row.get(name)) for name in names) for row in stated]

    def outside(self, number: int) -> int:
        """The number on this host."""
        for first, host, size in self._rows:
            if first <= number < first + size:
                return host + number - first
        return NOBODY if self._rows else number

    @property
    def maps_root(self) -> bool:
        """Whether one of them is this host's user 0."""
        return any(host <= 0 < host + size for _, host, size in self._rows)


def _seccomp(config: dict[str, Any], knowledge: Knowledge, said: Evidence) -> Seccomp:
    profile = table(config, "linux", "seccomp")
    if not profile:
        everything = dict.fromkeys(native_calls(), CallVerdict(("allow",)))
        return Seccomp(0, 0, _detail(said, "no linux.seccomp"), everything)
    evidence = _detail(said, "linux.seccomp")
    return from_profile(profile, call_questions(knowledge), evidence)


def _namespaces(config: dict[str, Any], said: Evidence) -> tuple[Namespace, ...]:
    """A namespace that is not listed is shared with the runtime, one with a path is joined."""
    listed: dict[str, str] = {}
    for row in rows(config, "linux", "namespaces"):
        kind = str(row.get("type", ""))
        listed[NAMESPACE_WORDS.get(kind, kind)] = str(row.get("path") or "")
    found = []
    for kind in KINDS:
        if kind not in listed:
            seen = Seen(True, _detail(said, f"linux.namespaces lacks {kind}"))
        elif listed[kind]:
            joined = _detail(said, f"joins {listed[kind]}")
            seen = Seen[bool](None, Evidence(Grade.ASSUMED, joined.source, joined.detail))
        else:
            seen = Seen(False, _detail(said, f"linux.namespaces has {kind}"))
        found.append(Namespace(kind, None, seen))
    return tuple(found)


def _label(config: dict[str, Any], said: Evidence) -> Seen[str]:
    apparmor = table(config, "process").get("apparmorProfile")
    selinux = table(config, "process").get("selinuxLabel")
    if isinstance(apparmor, str) and apparmor:
        name = apparmor if apparmor == "unconfined" else f"{apparmor} (enforce)"
        return Seen(name, _detail(said, f"process.apparmorProfile {apparmor}"))
    if isinstance(selinux, str) and selinux:
        return Seen(selinux, _detail(said, "process.selinuxLabel"))
    return Seen("", _detail(said, "no apparmorProfile and no selinuxLabel"))


def _mounts(config: dict[str, Any], folder: str) -> tuple[Mount, ...]:
    """The mounts as mountinfo would list them, masked and read-only paths included. What is bound
    is what its path leads to on this host; one that is relative begins in the bundle's `folder`."""
    read_only = table(config, "root").get("readonly") is True
    found = [Mount("/", "/", "rootfs", "rootfs", frozenset({"ro" if read_only else "rw"}))]
    for row in rows(config, "mounts"):
        options = _options(words(row, "options"))
        bind = bool({"bind", "rbind"} & options) or row.get("type") == "bind"
        source = str(row.get("source") or "")
        if bind and source and "\0" not in source:
            source = os.path.realpath(os.path.join(folder, source))
        found.append(
            Mount(
                path=str(row.get("destination") or "/"),
                root=source if bind else "/",
                fstype="bind" if bind else str(row.get("type") or ""),
                source=source,
                options=options,
            )
        )
    for path in words(config, "linux", "readonlyPaths"):
        found.append(Mount(path, path, "proc", "proc", frozenset({"ro"})))
    for path in words(config, "linux", "maskedPaths"):
        found.append(Mount(path, "/", "tmpfs", "masked", frozenset({"ro"})))
    return tuple(found)


_OPPOSITES = {"ro": "rw", "nosuid": "suid", "nodev": "dev", "noexec": "exec"}
_OPPOSITES |= {second: first for first, second in _OPPOSITES.items()}


def _options(stated: list[str]) -> frozenset[str]:
    """The options of a mount: of two that are opposites the later one counts."""
    found: set[str] = set()
    for word in stated:
        found.discard(_OPPOSITES.get(word, ""))
        found.add(word)
    return frozenset(found)


def _limits(config: dict[str, Any], said: Evidence) -> Limits:
    resources = table(config, "linux", "resources")
    quota = _number(table(resources, "cpu").get("quota"))
    period = _number(table(resources, "cpu").get("period")) or 100000
    return Limits(
        memory_bytes=_positive(table(resources, "memory").get("limit")),
        pids=_positive(table(resources, "pids").get("limit")),
        cpu_quota=quota / period if quota > 0 else None,
        cgroup=str(table(config, "linux").get("cgroupsPath") or ""),
        evidence=_detail(said, "linux.resources"),
        devices=_device_rules(config, said),
    )


def _device_rules(config: dict[str, Any], said: Evidence) -> Seen[tuple[str, ...]]:
    """What the device cgroup will let through, in the words of version 1. Without a rule it lets
    through all. A rule that refuses one device is passed over: it lets through less at most."""
    own_users = any(row.get("type") == "user" for row in rows(config, "linux", "namespaces"))
    evidence = _detail(said, "linux.resources.devices")
    if own_users:
        # A runtime without root may set no device rules, and passes over them.
        why = "in a user namespace runtimes may leave device rules out"
        return Seen(None, Evidence(Grade.ASSUMED, said.source, why))
    found = ["a *:* rwm"]
    for row in rows(config, "linux", "resources", "devices"):
        kind, allow = str(row.get("type") or "a"), row.get("allow") is True
        number = f"{_device_part(row, 'major')}:{_device_part(row, 'minor')}"
        if kind == "a" and allow:
            found = ["a *:* rwm"]
        elif kind == "a" and number == "*:*" and set(str(row.get("access"))) >= set("rwm"):
            found = []
        elif allow:
            access = str(row.get("access") or "rwm")
            said_access = "".join(letter for letter in "rwm" if letter in access)
            found.append(f"{'c' if kind == 'u' else kind[:1]} {number} {said_access}")
    return Seen(tuple(found), evidence)


def _device_part(row: dict[str, Any], name: str) -> str:
    """Half of a device's number: any where it is not stated or negative."""
    value = row.get(name)
    return str(value) if type(value) is int and 0 <= value < 2**32 else "*"


def _positive(value: object) -> int | None:
    number = _number(value)
    return number if number > 0 else None


def _environment(config: dict[str, Any]) -> tuple[EnvironmentHint, ...]:
    entries = (word.encode("utf-8", "replace") for word in words(config, "process", "env"))
    return tuple(found for entry in entries if (found := hint(entry)) is not None)


def _paths(
    root: str | None, knowledge: Knowledge, mounts: tuple[Mount, ...], config: dict[str, Any]
) -> tuple[PathFact, ...]:
    """Paths in the root file system, and those of the host that bind mounts bring in."""
    if root is None:
        return ()
    entries = tuple(knowledge.paths.values())
    found = [*path_facts(root, entries, mounts, None), *_devices(config, entries)]
    for mount in mounts:
        if mount.fstype == "bind" and mount.source.startswith("/"):
            found += _brought_in(mount, knowledge)
    if not any(mount.path == "/proc" for mount in mounts):
        return tuple(found)
    kernel = [entry for entry in entries if entry.globs[0].startswith(("/proc/", "/sys/"))]
    return (*found, *path_facts("/", kernel, mounts, None))


_DEVICES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK}


def _devices(config: dict[str, Any], entries: tuple[PathEntry, ...]) -> Iterator[PathFact]:
    """Devices that the runtime makes: those of the list, by their path or by their number here."""
    for row in rows(config, "linux", "devices"):
        path, kind = str(row.get("path") or ""), _DEVICES.get(str(row.get("type")), 0)
        number = os.makedev(_small(row.get("major")), _small(row.get("minor")))
        mode = row.get("fileMode")
        for entry in entries:
            if kind and entry.kind == "device" and _is_device(entry, path, kind, number):
                yield PathFact(
                    id=entry.id, path=path, kind="device",
                    mode=kind | (_number(mode) & 0o7777 if mode is not None else 0o666),
                    uid=_number(row.get("uid")), gid=_number(row.get("gid")), read_only=False,
                    evidence=Evidence(Grade.DECLARED, "linux.devices", path[:LONGEST]),
                )  # fmt: skip


def _small(value: object) -> int:
    """A number of a device: 32 bits here."""
    return _number(value) & 0xFFFFFFFF


def _is_device(entry: PathEntry, path: str, kind: int, number: int) -> bool:
    if any(fnmatch.fnmatchcase(path, glob) for glob in entry.globs):
        return True
    for glob in entry.globs:
        with contextlib.suppress(OSError):
            info = os.lstat(glob)
            if stat.S_IFMT(info.st_mode) == kind and info.st_rdev == number:
                return True
    return False


def _brought_in(mount: Mount, knowledge: Knowledge) -> Iterator[PathFact]:
    """Paths of the list that a bind mount puts where they are looked for, or shows under another
    name: looked at where they come from. A socket that is bound itself is there when the service
    runs, or it would not start."""
    options = (Mount("/", "/", "bind", "", mount.options),)
    for entry in knowledge.paths.values():
        origins = [mount.source + path[len(mount.path.rstrip("/")) :]
                   for path in entry.globs if _below(path, mount.path)]  # fmt: skip
        origins += [path for path in entry.globs if _below(path, mount.source)]
        origins += [mount.source for glob in entry.globs if fnmatch.fnmatchcase(mount.source, glob)]
        shifted = msgspec.structs.replace(entry, globs=tuple(dict.fromkeys(origins)))
        found = path_facts("/", (shifted,), options, None)
        yield from found
        if not found and entry.kind == "socket" and _names(entry, mount.source):
            yield PathFact(
                id=entry.id, path=mount.path, kind="socket", mode=stat.S_IFSOCK | 0o777, uid=0,
                gid=0, read_only=False,
                evidence=Evidence(Grade.DECLARED, "mounts", mount.source[:LONGEST]),
            )  # fmt: skip


def _names(entry: PathEntry, path: str) -> bool:
    """Whether a path is one of the entry's, by the names that it has on this host."""
    return any(path in (glob, os.path.realpath(glob)) for glob in entry.globs)


def _below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")
