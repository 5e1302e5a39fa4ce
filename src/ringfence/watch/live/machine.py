"""What this machine's kernel has beyond fanotify: told at the start, never needed."""

from __future__ import annotations

import os

ABSENT = "absent"
_SIGNS = {
    "kprobes": ("/sys/kernel/tracing/kprobe_events", "/sys/kernel/debug/tracing/kprobe_events"),
    "fs-verity": ("/proc/sys/fs/verity", "/sys/fs/ext4/features/verity"),
    "ima": ("/sys/kernel/security/ima",),
}
"""Feature -> files, one of which is there where the kernel has it and shows it."""
_LSMS = "/sys/kernel/security/lsm"
_MEMFD = "/proc/sys/vm/memfd_noexec"


def machine() -> dict[str, str]:
    """Feature -> present or absent; `memfd` says whether what is in memory alone can run."""
    found = {
        name: "present" if any(os.path.exists(path) for path in paths) else ABSENT
        for name, paths in _SIGNS.items()
    }
    lsms = _read(_LSMS).split(",")
    found["bpf-lsm"] = "present" if "bpf" in lsms else ABSENT
    found["memfd"] = {
        "1": "not executable unless asked for", "2": "never executable",
    }.get(_read(_MEMFD), "executable")  # fmt: skip
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""
