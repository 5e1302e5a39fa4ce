"""A systemd unit that runs the unpacked image with the matching directives (systemd.exec(5)).

Unpack the image's layer to the folder that RootDirectory names.
"""

from __future__ import annotations

import re

from ringfence.harden.policy.calls import NEVER
from ringfence.harden.policy.needs import Needs
from ringfence.harden.service import Service

_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile("[\0-\x1f\x7f]")
_UNTAKEN = re.compile("[\0-\x08\x0b-\x1f\x7f]")
"""In a variable's value: of control characters systemd takes tabs and line feeds alone."""
_BESIDE = ("execve", NEVER)
"""The manager itself makes a few calls between the filter and the program. What is never allowed
RestrictNamespaces answers as missing, and an error of this list would come before that answer."""
_FIXED = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
PrivateIPC=yes
PrivateNetwork=no
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
UMask=0077
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
DevicePolicy=closed
IPAddressDeny=any
MemoryMax=1G
TasksMax=512"""


def write(needs: Needs) -> str:
    """The unit."""
    service = needs.service
    left_out = unsaid(service)
    families = sorted({family for family, _ in needs.sockets if family.startswith("AF_")})
    lines = [
        f"# {needs.origin}", "[Unit]", f"Description={needs.name}, fenced by Ringfence", "",
        "[Service]",
        f"RootDirectory=/var/lib/ringfence/{needs.name}/root", "MountAPIVFS=yes",
        f"WorkingDirectory={service.folder.replace('%', '%%')}",
        f"User={needs.who.uid}", f"Group={needs.who.gid}",
        f"ExecStart={_command(needs)}",
        f"KillSignal={service.signal}",
        *(f"Environment={_quoted(word)}" for word in service.environment
          if word.partition("=")[0] not in left_out),
        *(f"# {name}: systemd {why}" for name, why in left_out.items()),
        *_FIXED.splitlines(),
        f"RestrictAddressFamilies={' '.join(families) or 'none'}",
        f"SystemCallFilter={' '.join(sorted({*needs.calls, *_BESIDE}))}",
        *(f"SocketBindAllow=tcp:{port}" for port in needs.ports), "SocketBindDeny=any",
        "IPAddressAllow=localhost",
        *(f"IPAddressAllow={host}" for host in sorted({host for host, _ in needs.destinations})),
        *(f"TemporaryFileSystem={_quoted(f'/{item.path}:mode=0700,nodev,nosuid,noexec')}"
          for item in needs.writable if not item.state),
        # Both sides are words of their own.
        *(f"BindPaths={_quoted(f'/var/lib/ringfence/{needs.name}/state/{item.path}')}:"
          f"{_quoted(f'/{item.path}')}" for item in needs.writable if item.state),
        "", "[Install]", "WantedBy=multi-user.target", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _command(needs: Needs) -> str:
    """systemd wants the program with its full path, and takes no `$` in that for a variable."""
    words = [_quoted(f"/{needs.program}")]
    words += [_quoted(word).replace("$", "$$") for word in needs.service.command[1:]]
    return " ".join(words)


def unsaid(service: Service) -> dict[str, str]:
    """Names of the service's variables that systemd does not take (env_name_is_valid and
    env_value_is_valid in its src/basic/env-util.c), each with the reason: it would start the
    service without them."""
    found: dict[str, str] = {}
    for word in service.environment:
        name, _, value = word.partition("=")
        if not _VARIABLE.fullmatch(name):
            found[name] = "takes no variable of this name"
        elif _UNTAKEN.search(value):
            found[name] = "takes no variable with such a control character"
    return found


def _quoted(text: str) -> str:
    """One word of a setting, as systemd.syntax(7) and systemd.unit(5) have it: `%` is doubled,
    what would end the line escaped as in C."""
    plain = re.sub(r'[\\"]', r"\\\g<0>", text)
    plain = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", plain)
    return '"' + plain.replace("%", "%%") + '"'
