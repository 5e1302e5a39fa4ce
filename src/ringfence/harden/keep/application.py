"""The folder of an application: the one that holds the script that the service was started with.

A script is one file among others of its own, templates, plug-ins and pages, and no text tells
which of them it will open: the folder is kept whole. Not so what is hidden, environments and
packages in it (they have rules of their own), and files that their owner alone may read where
that is not the script's owner, or a person. What links in it lead to elsewhere is kept where
everybody may read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from os import stat_result

from ringfence.collect.files.programs import class_of
from ringfence.harden.keep.configuration import OF_MANY, PEOPLE, SHARED
from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.readable import leads_out, open_along
from ringfence.harden.keep.started import RUNNERS, scripts_started
from ringfence.harden.service import Service
from ringfence.harden.tree import Tree, folders_above

_CODE = re.compile(r"\.(?:py|js|mjs|cjs|rb|pl|php|lua|sh)\Z")
_OF_OTHERS = ("__pycache__", "node_modules", "site-packages", "dist-packages")
_OF_SYSTEM = re.compile(
    r"(?:(?:bin|boot|dev|etc|lib\d*|proc|run|sbin|sys|usr/(?:lib\w*|s?bin))(?:/|\Z))"
    r"|(?:.*/)?(?:s?bin|site-packages|dist-packages)(?:/|\Z)"
)
"""Where scripts are programs and packages, not applications."""
_NOT_BEHIND_LINKS = re.compile(
    r"(?:boot|dev|proc|run|sys|tmp|var/(?:backups|cache|log|mail|run|spool|tmp))(?:/|\Z)"
)
"""Folders that an application has links to, and that are no content of it."""
_HIDDEN = re.compile(r"(?:home/[^/]+|root)/(?:.*/)?\.")


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
        for path in _own(kept, script):
            new = kept.add(path, f"in the folder of /{script}, which the service was started with")
            added += [new] if new is not None else []
    kept.application.update(added)
    return added


def _scripts(kept: Kept, service: Service, program: str) -> list[str]:
    """The scripts that the service was started with, by their real paths, and code that was loaded
    from the working directory."""
    tree = kept.tree
    found = scripts_started(tree, service, program)
    if not found and class_of(tree.resolve(program)[0]) not in RUNNERS:
        return []
    folder = tree.resolve(service.folder)[0]
    beside = (path for path in kept.reasons
              if path.rpartition("/")[0] == folder and _CODE.search(path))  # fmt: skip
    return list(dict.fromkeys([*found, *list(beside)[:1]]))


def _own(kept: Kept, script: str) -> Iterator[str]:
    """Files and links that lie below the folder of a script, or in folders that links there lead
    to, and are the application's."""
    tree, top = kept.tree, script.rpartition("/")[0]
    fitting = owned_with(tree, script)
    stack, seen = [top], set[str]()
    while stack:
        folder = stack.pop()
        if folder in seen:
            continue
        seen.add(folder)
        for name in tree.names(folder):
            path = f"{folder}/{name}"
            real = tree.resolve(path)[0]
            if name.startswith(".") or name in _OF_OTHERS or tree.is_file(f"{real}/pyvenv.cfg"):
                continue
            linked = tree.is_folder(real) and real != path
            if tree.is_folder(real) and not linked:
                stack.append(path)
            elif fitting(path) and (real.startswith(f"{top}/") or not _HIDDEN.match(real)):
                yield path
                if linked and _is_content(kept, real, top, f"where /{path} leads"):
                    stack.append(real)


def _is_content(kept: Kept, folder: str, top: str, why: str) -> bool:
    """Whether a folder that a link in the folder `top` leads to may be the application's;
    where it is not, that is noted."""
    if f"{folder}/".startswith(f"{top}/"):
        return True
    if (
        not folder
        or top.startswith(f"{folder}/")
        or _NOT_BEHIND_LINKS.match(folder)
        or any(of.match(folder) for of in (SHARED, OF_MANY, PEOPLE))
    ):
        kept.passed_over[folder] = why
        return False
    return True


def owned_with(tree: Tree, script: str) -> Callable[[str], bool]:
    """Of files below the folder of a `script` (a real path): whether one is the application's. That
    is what whoever reaches the script may read, and what is the script's owner's, but for persons
    and in folders of many. Of what lies elsewhere, or a link leads to: what everybody may read."""
    top = script.rpartition("/")[0]
    owner = tree.status(script)

    def may(path: str, found: stat_result | None, right: int) -> bool:
        if found is None or found.st_mode & right:
            return found is not None
        personal = path.startswith(("home/", "root/")) or OF_MANY.match(top)
        return owner is not None and found.st_uid == owner.st_uid and not personal

    def fitting(path: str) -> bool:
        real, crossed = tree.resolve(path)
        if not top or leads_out(tree, path, top):
            return open_along(tree, path)
        above = {folder for place in (real, *crossed) for folder in folders_above(place)
                 if folder.startswith(f"{top}/")}  # fmt: skip
        return may(real, tree.status(real), 0o004) and all(
            may(folder, tree.status(folder), 0o001) for folder in above
        )

    return fitting
