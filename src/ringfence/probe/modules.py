"""Kernel modules that an attempt would load: then it is not made, since that would stay behind."""

from __future__ import annotations

import functools
import os
from pathlib import Path


@functools.cache
def _aliases() -> dict[str, str]:
    """Alias -> module, of this kernel's own list; empty for a kernel without modules."""
    if not Path("/proc/modules").exists() or _read("/proc/sys/kernel/modules_disabled") == "1":
        return {}
    found = {}
    for line in _read(f"/lib/modules/{os.uname().release}/modules.alias").splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "alias":
            found[words[1]] = words[2]
    return found


def unloaded(*aliases: str) -> str:
    """The module that the kernel would load for one of `aliases`, '' where it would load none."""
    loaded = {line.split()[0] for line in _read("/proc/modules").splitlines()}
    for alias in aliases:
        module = _aliases().get(alias, "")
        if module and module.replace("-", "_") not in loaded:
            return module
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
