"""A systemd unit that runs the unpacked image with the matching directives (systemd.exec(5)).

Unpack the image's layer to the folder that RootDirectory names, as root, so that files keep their
owners. What the service writes is not written there: folders in memory are the unit's own, and
what the image has in writable folders is copied to where they are kept, outside its root.
"""

from __future__ import annotations

import re

from ringfence.harden.policy.calls import NEVER
from ringfence.harden.policy.needs import Needs
from ringfence.harden.service import Identity, Service
from ringfence.run.fence import Writable

_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile("[\0-\x1f\x7f]")
_UNTAKEN = re.compile("[\0-\x08\x0b-\x1f\x7f]")
"""In a variable's value: of control characters systemd takes tabs and line feeds alone."""
_BESIDE = ("execve", NEVER)
"""The manager itself makes a few calls between the filter and the program. What is never allowed
RestrictNamespaces answers as missing, and an error of this list would come before that answer."""
_SHARED = ("dev/shm", "dev/mqueue")
"""What PrivateDevices= takes from the host's /dev and everybody may write. Closed by names with a
`+`: without it they are the host's, which are outside the root and silently passed over."""
_FIXED = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=no
PrivateDevices=yes
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
"""/home and /root are the image's own, with what the service has there: ProtectHome=yes would hide
that. They cannot be left out: ProtectSystem=strict leaves both as they are. PrivateTmp=yes would
make a writable /tmp and /var/tmp, where programs may be executed, for services without need."""
_UNPRIVILEGED = """\
CapabilityBoundingSet=
AmbientCapabilities=
PrivateUsers=yes"""
_LOW_PORTS = """\
# It listens below port 1024. For engines net.ipv4.ip_unprivileged_port_start of a network namespace
# opens these to every user; on this host's network that is the one capability which it keeps, and
# which would mean nothing in a user namespace. SocketBindAllow holds it to its own ports.
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
AmbientCapabilities=CAP_NET_BIND_SERVICE
PrivateUsers=no"""
FIRST_FREE_PORT = 1024
"""net.ipv4.ip_unprivileged_port_start of a host (ip-sysctl in Linux)."""
_OUTSIDE = "+/usr/bin/nsenter -t 1 -m"
"""A command beside the service has its mounts, too, and with them not what lies below them."""
_FILLED = (
    '[ -e "$1" ] || '
    '{ rm -rf "$1.part" && mkdir -p "${1%/*}" && cp -a "$0" "$1.part" && mv "$1.part" "$1"; }'
)
"""For sh(1): a copy of $0 at $1 with its owners, whole or not at all, unless there is one."""


def write(needs: Needs) -> str:
    """The unit."""
    service = needs.service
    left_out = unsaid(service)
    families = sorted({family for family, _ in needs.sockets if family.startswith("AF_")})
    lines = [
        f"# {needs.origin}", *_installed(needs.who),
        "[Unit]", f"Description={needs.name}, fenced by Ringfence", "",
        "[Service]",
        f"RootDirectory={_root(needs)}", "RootDirectoryStartOnly=yes", "MountAPIVFS=yes",
        f"WorkingDirectory={service.folder.replace('%', '%%')}",
        f"User={needs.who.uid}", f"Group={needs.who.gid}",
        *_output(needs),
        *_copies(needs),
        f"ExecStart={_command(needs)}",
        f"KillSignal={service.signal}",
        *(f"Environment={_quoted(word)}" for word in service.environment
          if word.partition("=")[0] not in left_out),
        *(f"# {name}: systemd {why}" for name, why in left_out.items()),
        *_FIXED.splitlines(),
        *(_LOW_PORTS if min(needs.ports, default=FIRST_FREE_PORT) < FIRST_FREE_PORT
          else _UNPRIVILEGED).splitlines(),
        f"RestrictAddressFamilies={' '.join(families) or 'none'}",
        f"SystemCallFilter={' '.join(sorted({*needs.calls, *_BESIDE}))}",
        *(f"SocketBindAllow=tcp:{port}" for port in needs.ports), "SocketBindDeny=any",
        "IPAddressAllow=localhost",
        *(f"IPAddressAllow={host}" for host in sorted({host for host, _ in needs.destinations})),
        *_folders(needs),
        "", "[Install]", "WantedBy=multi-user.target", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _installed(who: Identity) -> tuple[str, ...]:
    """A user is known by its account alone (get_user_creds in src/basic/user-util.c)."""
    user, group = f"ringfence-{who.uid}", f"ringfence-{who.gid}"
    return (
        f"# systemd takes no user without an account. Where this host has none for {who.uid}:",
        f"# systemd-sysusers --inline 'g {group} {who.gid}' 'u {user} {who.uid}:{who.gid}'",
    )


def _root(needs: Needs) -> str:
    return f"/var/lib/ringfence/{needs.name}/root"


def _kept(needs: Needs, item: Writable) -> str | None:
    """Where a writable folder is outside the service's root; None for one that begins empty, and
    is in memory."""
    if item.state:
        return f"/var/lib/ringfence/{needs.name}/state/{item.path}"
    filled = any(entry.path.startswith(f"{item.path}/") for entry in needs.entries)
    return f"/run/ringfence/{needs.name}/{item.path}" if filled else None


def _copies(needs: Needs) -> list[str]:
    """Commands with root's rights outside the service's root, which has no program for that: each
    folder that is kept elsewhere begins as the image has it, those in memory at every start."""
    made: list[str] = []
    ended: list[str] = []
    for item in needs.writable:
        place = _kept(needs, item)
        if place is None:
            continue
        if not item.state:
            made.append(f"ExecStartPre={_OUTSIDE} /bin/rm -rf {_word(place)}")
            ended.append(f"ExecStopPost={_OUTSIDE} /bin/rm -rf {_word(place)}")
        words = (_FILLED, f"{_root(needs)}/{item.path}", place)
        made.append(f"ExecStartPre={_OUTSIDE} /bin/sh -c {' '.join(_word(word) for word in words)}")
    return [*made, *ended]


def _folders(needs: Needs) -> list[str]:
    """The mounts of writable folders. Nothing in them is executed. For what is kept elsewhere there
    is no nodev (BindPaths= has no such option): DevicePolicy=closed refuses devices there."""
    options = f"mode=0700,uid={needs.who.uid},gid={needs.who.gid},nodev,nosuid,noexec"
    declared = {item.path for item in needs.writable}
    found = [f"InaccessiblePaths=-+/{path}" for path in _SHARED if path not in declared]
    for item in needs.writable:
        place = _kept(needs, item)
        if place is None:
            found.append(f"TemporaryFileSystem={_quoted(f'/{item.path}:{options}')}")
        else:
            # Both sides are words of their own. The commands that make it cannot have it yet.
            found.append(f"BindPaths={_quoted(f'-{place}')}:{_quoted(f'/{item.path}')}")
            found.append(f"NoExecPaths={_quoted(f'+/{item.path}')}")
    return found


def _output(needs: Needs) -> list[str]:
    """The journal is a socket, which nobody can open by a name (/dev/stdout): open(2), ENXIO."""
    if not needs.output_by_name:
        return []
    path = f"/var/log/ringfence-{needs.name}.log"
    return [
        "# It opens its standard output by name, which the journal's socket does not allow.",
        f"StandardOutput=append:{path}",
        f"ExecStartPre=+/bin/chown -h {needs.who.uid}:{needs.who.gid} {path}",
    ]


def _command(needs: Needs) -> str:
    """systemd wants the program with its full path, and takes no `$` in that for a variable."""
    words = [_quoted(f"/{needs.program}"), *map(_word, needs.service.command[1:])]
    return " ".join(words)


def _word(text: str) -> str:
    """An argument of a command: `$` is no variable's."""
    return _quoted(text).replace("$", "$$")


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
