"""What comes in from outside, before any work: what policies could not say, or a fence not hold,
is refused here.

Commands, variables and folders come from images that others made, and end up in ten languages,
each with quotes of its own; what is refused here none of them has to quote.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

import msgspec

from ringfence.errors import InputError, UsageError
from ringfence.harden.service import Service, check_fenced, identity, program_of
from ringfence.harden.source import Source
from ringfence.harden.tree import Tree
from ringfence.harden.wishes import Wishes
from ringfence.report.shell import shell_word
from ringfence.run.fence import SHARED_MEMORY

LONGEST_NAME, LONGEST_SHOWN = 63, 80
"""Of a Kubernetes object's name (RFC 1123, a label), and of what a message repeats."""
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
"""A component of an image's name (distribution/reference, `path-component`)."""
_SEPARATOR = re.compile(r"\.|__?|-+")
_VARIABLE = re.compile("[!-<>-~]+")
"""Names of variables: ASCII without spaces."""
_UNSAID = ":\"'\\$`"
"""Separates a folder from its options in what engines take, or is a quote or a variable in some
language: no way to write it is understood by all."""
_MOUNTED = ("proc", "sys", "dev")


def admitted(source: Source, wishes: Wishes) -> tuple[Source, Wishes]:
    """Both with all paths normalised. Raises InputError or UsageError for what is refused."""
    tree = Tree(source.root)
    service = _service(source)
    program_of(service, tree)
    if wishes.user and identity(wishes.user, tree).uid == 0:
        raise UsageError("root is no user for a result: it runs unprivileged",
                         where=f"--user {wishes.user}", remedy="name another")  # fmt: skip
    user = wishes.user or service.user
    check_fenced(identity(user, tree), user)
    return msgspec.structs.replace(source, service=service), msgspec.structs.replace(
        wishes,
        writable=tuple(dict.fromkeys(_writable(path, service, tree) for path in wishes.writable)),
        drop=tuple(dict.fromkeys(_dropped(path, tree) for path in wishes.drop)),
    )


def check_name(name: str) -> None:
    """Raises UsageError for a name that an image cannot have, or a Kubernetes object."""
    if name and (not _NAME.fullmatch(name) or len(name) > LONGEST_NAME):
        raise UsageError(
            f"--name {name[:LONGEST_SHOWN]!r} is no name of an image: at most {LONGEST_NAME} small "
            "letters and digits, with '.', '_' or '-' between them",
            remedy=f"--name {name_from(name)}",
        )  # fmt: skip


def name_from(text: str) -> str:
    """The nearest name that an image can have: `service` where nothing of it is left."""
    plain = re.sub(
        "[^a-z0-9]+",
        lambda found: found[0] if _SEPARATOR.fullmatch(found[0]) else "-",
        text.lower(),
    )
    return plain.strip("._-")[:LONGEST_NAME].rstrip("._-") or "service"


def check_folders(paths: Iterable[str]) -> None:
    """Raises InputError for a folder (relative to the root) that policies cannot name."""
    for path in paths:
        _check_folder(f"/{path}", "is a folder that it writes, and")


def how_to_write(path: str, call: str) -> str:
    """The option that lets the service do a call that writes `path` (relative to the root), as a
    shell's words; '' for none. A folder that it makes is all that it needs of those above."""
    folder = path if call.startswith("mkdir") else path.rpartition("/")[0]
    return f"--writable {shell_word(f'/{folder}')}" if _may_be_writable(folder) else ""


def _may_be_writable(folder: str) -> bool:
    return folder == SHARED_MEMORY or folder.partition("/")[0] not in ("", *_MOUNTED)


def _check_folder(path: str, what: str) -> None:
    odd = next((char for char in path if char in _UNSAID or not char.isprintable()), "")
    if not odd and path.endswith(" "):
        odd = " "
    if odd:
        raise InputError(f"{what} has {odd!r} in its name, which policies cannot say",
                         where=path[:LONGEST_SHOWN],
                         remedy="give it another name in the tree")  # fmt: skip


def _service(source: Source) -> Service:
    service = source.service
    for word in service.command:
        _check_utf8(word, "a word of the command")
        if not word and word is service.command[0]:
            raise InputError("the command is empty", where=source.name)
        if "\0" in word:
            raise InputError("a word of the command holds a zero byte", where=source.name)
    for word in service.environment:
        _check_variable(word, source.name)
    if not service.folder.startswith("/"):
        raise InputError(f"its working directory {service.folder[:LONGEST_SHOWN]!r} does not begin "
                         "with /", where=source.name)  # fmt: skip
    _check_folder(service.folder, "is the working directory, and")
    return msgspec.structs.replace(service, folder=_normal(service.folder))


def _normal(path: str) -> str:
    """As engines read a folder: `..` goes back by one word, and never above the root."""
    return posixpath.normpath(f"/{path.lstrip('/')}")


def _check_variable(word: str, where: str) -> None:
    name, _, value = word.partition("=")
    if not _VARIABLE.fullmatch(name):
        raise InputError(f"{name[:LONGEST_SHOWN]!r} is no name of a variable: printable ASCII "
                         "without spaces", where=where,
                         remedy="build the image without it")  # fmt: skip
    _check_utf8(value, f"the variable {name[:LONGEST_SHOWN]}")
    if "\0" in value:
        raise InputError(f"the variable {name[:LONGEST_SHOWN]} holds a zero byte, which no process "
                         "can be given", where=where,
                         remedy="build the image without it")  # fmt: skip


def _check_utf8(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} is not UTF-8, which an image cannot say") from None


def _writable(given: str, service: Service, tree: Tree) -> str:
    """Relative to the root. Nothing executes in a writable folder, so what is executed cannot be
    in one."""
    shown = f"--writable {given[:LONGEST_SHOWN]}"
    path = _normal(given)[1:]
    if not path:
        raise UsageError("the whole tree cannot be writable", where=shown, remedy="name a folder")
    if not _may_be_writable(path):
        raise UsageError("is the kernel's, not the tree's", where=shown)
    _check_folder(f"/{path}", "is to be writable, and")
    real = tree.resolve(path)[0]
    if tree.is_file(path):
        raise UsageError("is a file: only folders can be writable", where=shown)
    program = program_of(service, tree)
    for place in (program, tree.resolve(program)[0]):
        if any(f"{place}/".startswith(f"{folder}/") for folder in (path, real) if folder):
            raise UsageError(f"holds /{place}, and nothing executes in a writable folder",
                             where=shown)  # fmt: skip
    return path


def _dropped(given: str, tree: Tree) -> str:
    """Relative to the root, as files to keep are named: by the real folder that it is in."""
    folder, _, name = given.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        path = tree.resolve(given)[0]
    else:
        path = f"{tree.resolve(folder)[0]}/{name}".lstrip("/")
    if not path:
        raise UsageError("the whole tree cannot be left out", where=f"--drop {given}",
                         remedy="name a file or a folder in it")  # fmt: skip
    return path
