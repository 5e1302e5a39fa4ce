"""A systemd unit for a run, as narrow as it can work. Pure.

What each line closes: systemd.exec(5). Left open, and why: CAP_SYS_ADMIN (fanotify),
CAP_DAC_READ_SEARCH (reading every file, handles), CAP_SYS_PTRACE (/proc/PID/exe of others),
CAP_LEASE (is somebody writing to a file of another user); with a ledger CAP_AUDIT_READ (the
kernel's denials); for a sink on loopback its address.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.errors import UsageError
from ringfence.watch.ledger.sinks.choose import address

if TYPE_CHECKING:
    from ringfence.watch.live.running import Wishes

_HEAD = """\
[Unit]
Description=Ringfence watches {target}
Documentation=https://github.com/ringfence/ringfence/blob/main/docs/watch.md
After=local-fs.target
# A target that is away for a while must not end the watch for good.
StartLimitIntervalSec=0

[Service]
Type=simple
ExecStart={command}
Restart=always
RestartSec=1
TimeoutStopSec=30
# The standby and the decider must be gone, too, before a new run begins.
KillMode=mixed
OOMScoreAdjust=-900
Nice=-10
LimitNOFILE=8192
UMask=0077
# For temporary files, which have no other place here.
RuntimeDirectory=%N
RuntimeDirectoryMode=0700
Environment=TMPDIR=%t/%N
"""
_CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "CAP_LEASE")
_FENCE = """\
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources @keyring
SystemCallFilter=fanotify_init fanotify_mark open_by_handle_at
SystemCallErrorNumber=EPERM
RestrictAddressFamilies={families}
IPAddressDeny=any
{allowed}\
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
ProtectClock=yes
ProtectHostname=yes
DevicePolicy=closed
"""
_MOUNTS = """\
# These make a mount namespace. With enforcement they cannot stand here: it would mark this unit's
# copies of the mounts, and not the ones that the others use.
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
PrivateDevices=yes
PrivateMounts=yes
"""
_SIMPLE = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_FOOT = """
[Install]
WantedBy=multi-user.target
"""


def unit(wishes: Wishes) -> str:
    """The text of a .service file that runs these wishes. Raises UsageError."""
    words = [sys.executable, "-m", "ringfence", "watch", "run", *_options(wishes)]
    target = " ".join(wishes.words)
    fenced = not wishes.enforce and wishes.learning is None
    fence = _fence(wishes) + (_MOUNTS if fenced else "")
    if wishes.ledger is not None:
        fence += _writable(_full(wishes.ledger), fenced=fenced)
    return _HEAD.format(target=_plain(target), command=_command(words)) + fence + _FOOT


def _fence(wishes: Wishes) -> str:
    """Open is what the ledger and its sinks take, and nothing of it without them."""
    audit = ("CAP_AUDIT_READ",) if wishes.ledger is not None else ()
    places = [place for place in map(address, wishes.sinks) if place]
    families = {"AF_INET6" if ":" in place else "AF_INET" for place in places}
    return _FENCE.format(
        capabilities=" ".join((*_CAPABILITIES, *audit)),
        families=" ".join(("AF_UNIX", "AF_NETLINK", *sorted(families))),
        allowed="".join(f"IPAddressAllow={place}\n" for place in dict.fromkeys(places)),
    )


def _writable(ledger: str, *, fenced: bool) -> str:
    """systemd makes the folders of states and logs; any other one must be there when it starts
    `fenced`, for the unit's mounts are made before anything of it could. Without mounts of its own
    the run makes it."""
    for below, name in (("/var/lib/", "State"), ("/var/log/", "Logs")):
        inside = ledger.removeprefix(below)
        if inside != ledger and _SIMPLE.fullmatch(inside):
            return f"{name}Directory={inside}\n{name}DirectoryMode=0700\n"
    if not fenced:
        return ""
    return f"# Must be there: mkdir -p -m 0700\nReadWritePaths={_quoted(ledger)}\n"


def _options(wishes: Wishes) -> list[str]:
    found = ["--baseline", _full(wishes.baseline), "--public-key", _full(wishes.public_key)]
    if wishes.ledger is not None and wishes.key is not None:
        found += ["--ledger", _full(wishes.ledger), "--key", _full(wishes.key)]
    for sink in wishes.sinks:
        found += ["--sink", sink]
    if wishes.full_every:
        found += ["--full-every", f"{wishes.full_every:g}"]
    if not wishes.first:
        found.append("--no-first-check")
    if wishes.enforce:
        found += ["--enforce", "exec", "--when-gone", "deny" if wishes.deny else "allow"]
    if wishes.learning is not None:
        found += ["--learn", _full(wishes.learning)]
    if wishes.enforce or wishes.learning is not None:
        found += ["--patience", f"{wishes.patience:g}"]
    if wishes.learned is not None:
        found += ["--learned", _full(wishes.learned)]
    if wishes.kind:
        found += ["--kind", wishes.kind]
    words = [os.path.abspath(word) if os.path.exists(word) else word for word in wishes.words]
    return [*found, "--", *words]


def _full(path: Path) -> str:
    return os.path.abspath(path)


def _command(words: list[str]) -> str:
    """As systemd.service(5) reads it: also $ is doubled."""
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _quoted(word: str) -> str:
    """One word of a setting: quoted, with % and backslashes doubled (systemd.syntax(7)). Raises
    UsageError for what would end the line: the rest of a name would become a setting."""
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in word):
        raise UsageError("a unit cannot hold a name with control characters, or not in UTF-8",
                         where=_plain(word), remedy="give it another name")  # fmt: skip
    return shlex.quote(word.replace("\\", "\\\\")).replace("%", "%%")


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text).replace("%", "%%")
