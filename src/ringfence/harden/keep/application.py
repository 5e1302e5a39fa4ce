"""The folder of an application: the one that holds the script that the service was started with.

A script is one file among others of its own, templates, plug-ins and pages, and no text tells
which of them it will open: the folder is kept whole. Not so what is hidden, environments and
packages in it (they have rules of their own), and files that their owner alone may read where
that is not the script's owner, or a person.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator

from ringfence.collect.files.programs import class_of
from ringfence.harden.keep.configuration import OF_MANY, PEOPLE, SHARED
from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.shell import MOST_LINE, interpreter
from ringfence.harden.service import Service
from ringfence.harden.tree import Tree

_RUNNERS = ("interpreter", "shell")
_CODE = re.compile(r"\.(?:py|js|mjs|cjs|rb|pl|php|lua|sh)\Z")
_OF_OTHERS = ("__pycache__", "node_modules", "site-packages", "dist-packages")
_OF_SYSTEM = re.compile(
    r"(?:(?:bin|boot|dev|etc|lib\d*|proc|run|sbin|sys|usr/(?:lib\w*|s?bin))(?:/|\Z))"
    r"|(?:.*/)?(?:s?bin|site-packages|dist-packages)(?:/|\Z)"
)
"""Where scripts are programs and packages, not applications."""


def keep_application(kept: Kept, service: Service, program: str) -> list[str]:
    """Keep the application's folder, or note that it is not the service's alone; the new files.
    What the service opened must be kept already."""
    added: list[str] = []
    for script in _scripts(kept, service, program):
        folder = script.rpartition("/")[0]
        if _OF_SYSTEM.match(folder):
            continue
        if not folder or SHARED.match(folder) or PEOPLE.match(folder):
            kept.passed_over[folder] = f"where /{script} lies"
            continue
        for path in _own(kept.tree, script):
            new = kept.add(path, f"in the folder of /{script}, which the service was started with")
            added += [new] if new is not None else []
    return added


def _scripts(kept: Kept, service: Service, program: str) -> list[str]:
    """The script that the service was started with, by its real path: the program, or what its
    interpreter is told to run; else code that was loaded from the working directory."""
    tree = kept.tree
    real = tree.resolve(program)[0]
    found = [real] if interpreter(tree.read(real, MOST_LINE))[0] else []
    if not found and class_of(real) not in _RUNNERS:
        return []
    if not found:
        places = (tree.resolve(word, service.folder)[0] for word in service.command[1:]
                  if not word.startswith("-"))  # fmt: skip
        found = [path for path in places if tree.is_file(path)][:1]
    folder = tree.resolve(service.folder)[0]
    beside = (path for path in kept.reasons
              if path.rpartition("/")[0] == folder and _CODE.search(path))  # fmt: skip
    return list(dict.fromkeys([*found, *list(beside)[:1]]))


def _own(tree: Tree, script: str) -> Iterator[str]:
    """Files and links that lie below the folder of a script and are the application's."""
    top = script.rpartition("/")[0]
    owner = tree.status(script)
    stack = [top]
    while stack:
        folder = stack.pop()
        for name in tree.names(folder):
            path = f"{folder}/{name}"
            found = tree.status(path)
            if found is None or name.startswith(".") or name in _OF_OTHERS:
                continue
            if stat.S_ISDIR(found.st_mode):
                if not tree.is_file(f"{path}/pyvenv.cfg"):
                    stack.append(path)
            elif OF_MANY.match(top):
                if tree.open_to_all(path):
                    yield path
            elif found.st_mode & 0o044 or (
                owner is not None
                and found.st_uid == owner.st_uid
                and not path.startswith(("home/", "root/"))
            ):
                yield path
