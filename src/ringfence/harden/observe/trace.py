"""strace's log of a service, read into what the service used. Pure.

Format: `PID TIME call(arguments) = result`, written by `strace -f -ttt -y`; a call that another
process interrupts is written in two parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)(?:<(.*?)>)?(?: (E[A-Z0-9]+))?", re.S)
_OURS = re.compile(r" = \d+ /\* (\d+) in strace's PID NS \*/")
_UNFINISHED = re.compile(r"(\w+)\((.*) <unfinished \.\.\.>$", re.S)
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)", re.S)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_FOLDER = re.compile(r"(?:AT_FDCWD|-?\d+)<((?:[^>\\]|\\.)*)>")
_IN_MEMORY = re.compile(r'(?:"/proc/(?:self|thread-self|\d+)/fd/|\d+</memfd:)')
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|(.))")
_PLAIN = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f", "a": "\a", "b": "\b"}

PATHS = frozenset(
    "open openat openat2 creat stat lstat newfstatat statx access faccessat faccessat2 readlink "
    "readlinkat execve execveat chdir mkdir mkdirat unlink unlinkat rmdir rename renameat "
    "renameat2 link linkat symlink symlinkat chmod fchmodat chown lchown fchownat truncate "
    "utimensat utimes utime futimesat statfs getxattr lgetxattr setxattr lsetxattr mknod mknodat "
    "inotify_add_watch uselib chroot".split()
)
"""Calls whose string arguments are paths."""
_WRITING = frozenset(
    "creat mkdir mkdirat unlink unlinkat rmdir rename renameat renameat2 link linkat symlink "
    "symlinkat chmod fchmodat chown lchown fchownat truncate utimensat utimes utime futimesat "
    "setxattr lsetxattr mknod mknodat".split()
)
MOST_SHOWN = 80
"""Characters of a refused call's arguments."""
_FORKS = frozenset(("clone", "clone3", "fork", "vfork"))
_LAST_ONLY = {"symlink": 1, "symlinkat": 1}
"""Calls whose first string is no path that must exist."""


@dataclass(frozen=True, slots=True)
class Use:
    """One path as the service named it, made absolute, and how it went."""

    path: str
    call: str
    error: str
    writes: bool


@dataclass(slots=True)
class Trace:
    """Everything that a service did."""

    calls: dict[str, set[str]] = field(default_factory=dict)
    """Call -> phases in which it was made: `start`, `serve`, `stop`."""
    uses: dict[Use, None] = field(default_factory=dict)
    listed: dict[str, None] = field(default_factory=dict)
    """Folders whose names it read (getdents64(2))."""
    programs: dict[str, None] = field(default_factory=dict)
    """Programs executed, in order."""
    memory_programs: bool = False
    """Whether one of them was, or was meant to be, a file in memory alone (memfd_create(2))."""
    sockets: set[tuple[str, str]] = field(default_factory=set)
    """(family, type), as AF_INET and SOCK_STREAM."""
    listens: set[tuple[str, int]] = field(default_factory=set)
    """(address, port) bound."""
    connects: set[tuple[str, int]] = field(default_factory=set)
    ioctls: set[str] = field(default_factory=set)
    prctls: set[str] = field(default_factory=set)
    clones: set[str] = field(default_factory=set)
    """Flags of clone and clone3, one by one."""
    users: list[int] = field(default_factory=list)
    """User ids taken on, in order."""
    groups: list[int] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Call that ended with EPERM -> its arguments, the first time."""


class _Reader:
    def __init__(self, ready: float, stopping: float, folder: str) -> None:
        self.trace = Trace()
        self.ready, self.stopping = ready, stopping
        self.first_folder = folder
        self.folders: dict[str, str] = {}
        self.pending: dict[str, tuple[str, str]] = {}
        self.begun = False

    def line(self, text: str) -> None:
        match = _LINE.match(text)
        if not match:
            return
        pid, when, rest = match[1], float(match[2]), match[3]
        cut = _UNFINISHED.match(rest)
        if cut:
            self.pending[pid] = (cut[1], cut[2])
            self._count(cut[1], when)
            return
        resumed = _RESUMED.match(rest)
        if resumed:
            name, head = self.pending.pop(pid, (resumed[1], ""))
            rest = f"{name}({head}{resumed[2]}"
        call = _CALL.match(rest)
        if call:
            self._call(pid, when, call)
            child = _OURS.search(rest) if call[1] in _FORKS else None
            if child:
                self.folders[child[1]] = self._folder(pid)

    def _count(self, name: str, when: float) -> None:
        if not self.begun:
            return
        phase = "start" if when < self.ready else "serve" if when < self.stopping else "stop"
        self.trace.calls.setdefault(name, set()).add(phase)

    def _call(self, pid: str, when: float, call: re.Match[str]) -> None:
        name, words, result, where, error = call[1], call[2], call[3], call[4], call[5] or ""
        if name == "execve" and not error:
            # Up to here the engine prepared the container: not the service's doing.
            self.begun = True
        if not self.begun:
            return
        self._count(name, when)
        if error == "EPERM":
            self.trace.refused.setdefault(name, words[:MOST_SHOWN])
        if name in PATHS:
            self._path(pid, name, words, error, where)
        handler = getattr(self, f"_{name}", None)
        if handler is not None:
            handler(pid, words, result, error)

    def _path(self, pid: str, name: str, words: str, error: str, where: str | None) -> None:
        writes = name in _WRITING or (
            name in ("open", "openat", "openat2")
            and any(flag in words for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
        )
        strings = list(_STRING.finditer(words))
        if name in ("execve", "execveat", "setxattr", "lsetxattr", "getxattr", "readlink",
                    "readlinkat", "lgetxattr"):  # fmt: skip
            strings = strings[:1]
        for match in strings[_LAST_ONLY.get(name, 0) :]:
            if match[2]:
                continue  # cut by strace: longer than any real path
            path = self._absolute(pid, unescaped(match[1]), words[: match.start()])
            self.trace.uses[Use(path, name, error, writes)] = None
        if where and where.startswith("/") and not error and name.startswith("open"):
            self.trace.uses[Use(unescaped(where), name, error, writes)] = None
        if name == "execve" and not error and strings:
            path = self._absolute(pid, unescaped(strings[0][1]), "")
            self.trace.programs[path] = None

    def _absolute(self, pid: str, path: str, before: str) -> str:
        if path.startswith("/"):
            return path
        folders = _FOLDER.findall(before)
        folder = unescaped(folders[-1]) if folders else self._folder(pid)
        return f"{folder.rstrip('/')}/{path}" if path else folder

    def _folder(self, pid: str) -> str:
        return self.folders.get(pid, self.first_folder)

    def _chdir(self, pid: str, words: str, result: str, error: str) -> None:
        match = _STRING.search(words)
        if match and not error:
            self.folders[pid] = self._absolute(pid, unescaped(match[1]), "")

    def _fchdir(self, pid: str, words: str, result: str, error: str) -> None:
        match = _FOLDER.search(words)
        if match and not error:
            self.folders[pid] = unescaped(match[1])

    def _getdents64(self, pid: str, words: str, result: str, error: str) -> None:
        match = _FOLDER.match(words)
        if match and not error:
            self.trace.listed[unescaped(match[1])] = None

    def _clone(self, pid: str, words: str, result: str, error: str) -> None:
        match = re.search(r"flags=([A-Z_|]+)", words)
        if match:
            self.trace.clones |= set(match[1].split("|"))

    _clone3 = _clone

    def _socket(self, pid: str, words: str, result: str, error: str) -> None:
        family, _, rest = words.partition(", ")
        kind = rest.partition(",")[0].partition("|")[0]
        if not error:
            self.trace.sockets.add((family, kind))

    _socketpair = _socket

    def _bind(self, pid: str, words: str, result: str, error: str) -> None:
        self._address(pid, words, error, self.trace.listens, True)

    def _connect(self, pid: str, words: str, result: str, error: str) -> None:
        self._address(pid, words, "", self.trace.connects, False)

    def _address(
        self, pid: str, words: str, error: str, found: set[tuple[str, int]], writes: bool
    ) -> None:
        port = re.search(r"sin6?_port=htons\((\d+)\)", words)
        host = re.search(r'inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]*)"', words)
        if port and host and not error:
            found.add((host[1], int(port[1])))
        local = re.search(r'sun_path="((?:[^"\\]|\\.)*)"', words)
        if local:
            path = self._absolute(pid, unescaped(local[1]), "")
            self.trace.uses[Use(path, "bind" if writes else "connect", error, writes)] = None

    def _memfd_create(self, pid: str, words: str, result: str, error: str) -> None:
        self.trace.memory_programs |= "MFD_EXEC" in words

    def _execve(self, pid: str, words: str, result: str, error: str) -> None:
        """By a name like /proc/self/fd/3, or by a descriptor, as fexecve(3) does."""
        self.trace.memory_programs |= not error and _IN_MEMORY.match(words) is not None

    _execveat = _execve

    def _ioctl(self, pid: str, words: str, result: str, error: str) -> None:
        self.trace.ioctls.add(words.split(", ")[1] if ", " in words else words)

    def _prctl(self, pid: str, words: str, result: str, error: str) -> None:
        self.trace.prctls.add(words.partition(",")[0])

    def _setuid(self, pid: str, words: str, result: str, error: str) -> None:
        self._taken(words, error, self.trace.users)

    _setreuid = _setresuid = _setuid

    def _setgid(self, pid: str, words: str, result: str, error: str) -> None:
        self._taken(words, error, self.trace.groups)

    _setregid = _setresgid = _setgid

    @staticmethod
    def _taken(words: str, error: str, found: list[int]) -> None:
        numbers = [int(word) for word in words.split(", ") if word.isdigit()]
        if numbers and not error:
            found.append(numbers[-1] if len(numbers) < 3 else numbers[1])


def unescaped(text: str) -> str:
    """A string of strace's, with its C escapes undone."""
    if "\\" not in text:
        return text

    def one(match: re.Match[str]) -> str:
        return chr(int(match[1], 8)) if match[1] else _PLAIN.get(match[2], match[2])

    return _ESCAPE.sub(one, text).encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def read_trace(lines: Iterable[str], ready: float, stopping: float, folder: str = "/") -> Trace:
    """The trace of `lines`. `ready` and `stopping` are the times (seconds since 1970) at which
    the service answered first and was asked to stop; `folder` is its working directory."""
    reader = _Reader(ready, stopping, folder)
    for line in lines:
        reader.line(line.rstrip("\n"))
    return reader.trace
