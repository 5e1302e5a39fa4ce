"""A systemd unit that runs the unpacked image with the matching directives (systemd.exec(5)).

Unpack the image's layer to the folder that RootDirectory names.
"""

from __future__ import annotations

from ringfence.harden.policy.needs import Needs

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
    families = sorted({family for family, _ in needs.sockets if family.startswith("AF_")})
    lines = [
        f"# {needs.origin}", "[Unit]", f"Description={needs.name}, fenced by Ringfence", "",
        "[Service]",
        f"RootDirectory=/var/lib/ringfence/{needs.name}/root", "MountAPIVFS=yes",
        f"WorkingDirectory={service.folder}",
        f"User={needs.who.uid}", f"Group={needs.who.gid}",
        f"ExecStart={' '.join(_word(word) for word in _command(needs))}",
        f"KillSignal={service.signal}",
        *(f"Environment={_word(word)}" for word in service.environment),
        *_FIXED.splitlines(),
        f"RestrictAddressFamilies={' '.join(families) or 'none'}",
        # The manager itself makes a few calls between the filter and the program.
        f"SystemCallFilter={' '.join(sorted({*needs.calls, 'execve'}))}",
        *(f"SocketBindAllow=tcp:{port}" for port in needs.ports), "SocketBindDeny=any",
        "IPAddressAllow=localhost",
        *(f"IPAddressAllow={host}" for host in sorted({host for host, _ in needs.destinations})),
        *(f"TemporaryFileSystem=/{item.path}:mode=0700,nodev,nosuid,noexec"
          for item in needs.writable if not item.state),
        *(f"BindPaths=/var/lib/ringfence/{needs.name}/state/{item.path}:/{item.path}"
          for item in needs.writable if item.state),
        "", "[Install]", "WantedBy=multi-user.target", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _command(needs: Needs) -> tuple[str, ...]:
    """systemd wants the program with its full path."""
    return (f"/{needs.programs[0]}", *needs.service.command[1:])


def _word(text: str) -> str:
    """One word, quoted as systemd.service(5) has it: `%` and `$` doubled."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + plain.replace("%", "%%").replace("$", "$$") + '"'
