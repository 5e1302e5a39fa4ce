"""Files of its own that a program names in its text: compiled-in paths.

A folder counts when it belongs to a package that owns one of the service's programs, or is data
of a package that such a one depends on (the time zones of a database); or when neither it nor the
program is of a package, as with a server of the user's and its documents. The system's folders,
which all packages share, do not count, and of all that is named only what everybody may read does.
"""

from __future__ import annotations

import re
from functools import partial

from ringfence.harden.keep.configuration import SHARED, keep_path
from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.readable import open_along
from ringfence.harden.packages import Packages

_PATH = re.compile(rb"(?<=\0)(/[\w.+@-]+(?:/[\w.+@-]+){0,12})/?(?=\0)")
_ASIDE = re.compile(r"usr/share/(?:doc|man|info|locale|lintian|bug)(?:/|\Z)|usr/include(?:/|\Z)")
_OF_SYSTEM = re.compile(
    r"(?:bin|boot|dev|etc|home|lib\d*|proc|root|run|sbin|sys|tmp|usr|var)(?:/|\Z)"
)


def keep_named_by_programs(kept: Kept, programs: list[str], packages: Packages) -> list[str]:
    """What the texts of `programs` name; the new files."""
    owners = [package for path in programs if (package := packages.owner(path))]
    own = {package.source for package in owners}
    depends = {name for package in owners for name in package.depends}
    added: list[str] = []
    fitting = partial(open_along, kept.tree)
    for program in programs:
        for match in dict.fromkeys(_PATH.findall(kept.tree.read(program))):
            path = kept.tree.resolve(match.decode("ascii"))[0]
            reason = f"named in the text of {program}"
            if _ASIDE.match(path) or SHARED.match(path):
                continue
            if kept.tree.is_folder(path):
                owner = packages.owner(path)
                data = path.startswith("usr/share/") and owner is not None and owner.name in depends
                if owner is not None and (owner.source in own or data):
                    added += _folder(kept, path, reason)
                elif not (owner or packages.owner(program) or _OF_SYSTEM.match(path)):
                    added += keep_path(kept, path, reason, fitting)
            elif fitting(path) and not path.startswith(("usr/bin/", "usr/sbin/", "bin/", "sbin/")):
                new = kept.add(path, reason)
                if path.startswith("etc/"):
                    kept.live.add(path)
                added += [new] if new is not None else []
    return added


def _folder(kept: Kept, path: str, reason: str) -> list[str]:
    """A folder of data whole; of one below usr/lib only what lies in it: plug-ins, and not the
    build systems and programs of the same package further down."""
    if path.rpartition("/")[2] in ("bin", "sbin"):
        return []
    if not path.startswith(("usr/lib/", "usr/libexec/", "lib/")):
        return kept.add_below(path, reason, partial(open_along, kept.tree))
    kept.add(path, reason)
    places = [f"{path}/{name}" for name in kept.tree.names(path)]
    files = [kept.add(place, reason) for place in places
             if kept.tree.is_file(place) and open_along(kept.tree, place)]  # fmt: skip
    return [file for file in files if file is not None]
