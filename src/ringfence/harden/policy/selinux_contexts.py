"""The labels of the image's files, for its unpacked root: `setfiles -r ROOT selinux.contexts ROOT`.

Language: file_contexts(5), selabel_file(5); the last line that fits a path decides. The types are
those of the module (`selinux`).
"""

from __future__ import annotations

import re

from ringfence.harden.policy.needs import Needs
from ringfence.harden.policy.selinux import prefix
from ringfence.run.fence import Writable

_KINDS = {"folder": "-d", "file": "--", "link": "-l"}


def write(needs: Needs) -> str:
    """One line for each path, and one for each writable folder with all below it."""
    name, programs = prefix(needs), set(needs.programs)
    lines = [f"# {needs.origin}", _line("/", "-d", f"{name}_ro_t")]
    for entry in needs.entries:
        if not _within(entry.path, needs.writable):
            label = f"{name}_exec_t" if entry.path in programs else f"{name}_ro_t"
            lines.append(_line(f"/{_pattern(entry.path)}", _KINDS[entry.kind], label))
    for item in needs.writable:
        lines.append(_line(f"/{_pattern(item.path)}(/.*)?", "", f"{name}_rw_t"))
    return "\n".join([*lines, ""])


def _line(pattern: str, kind: str, label: str) -> str:
    words = (pattern, kind, f"system_u:object_r:{label}:s0")
    return "\t".join(word for word in words if word)


def _within(path: str, writable: tuple[Writable, ...]) -> bool:
    return any(path == item.path or path.startswith(f"{item.path}/") for item in writable)


def _pattern(path: str) -> str:
    """The path as a regular expression (PCRE) without spaces, which end a word there."""
    plain = re.sub(r'([.^$?*+|\[\](){}\\"])', r"\\\1", path)
    return re.sub(r"[\0-\x20\x7f#]", lambda found: f"\\x{ord(found[0]):02x}", plain)
