"""Words of a shell's command line, for advice that somebody may paste."""

from __future__ import annotations

import shlex


def shell_word(path: str) -> str:
    """A path as a shell's word in one printable line: the service chose it, and may have put line
    breaks, quotes and escape sequences there ($'' as bash has it, bash(1), QUOTING)."""
    if path.isprintable():
        return shlex.quote(path)
    return f"$'{''.join(map(_escaped, path))}'"


def _escaped(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
