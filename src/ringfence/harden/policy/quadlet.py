"""A Quadlet for podman 4.4 and newer (podman-systemd.unit(5))."""

from __future__ import annotations

from ringfence.harden.policy.containers import PORT_START, tmpfs, volume
from ringfence.harden.policy.needs import Needs


def write(needs: Needs) -> str:
    """The unit. `Image` is the name under which `podman load` files the archive."""
    lines = [
        f"# {needs.origin}", "[Unit]", f"Description={needs.name}, fenced by Ringfence", "",
        "[Container]",
        f"Image=localhost/ringfence/{needs.name}:latest",
        f"User={needs.who.uid}", f"Group={needs.who.gid}",
        "ReadOnly=true", "NoNewPrivileges=true", "DropCapability=ALL", "UserNS=auto",
        f"SeccompProfile=/etc/ringfence/{needs.name}/seccomp.json",
        f"Sysctl={PORT_START}", "PodmanArgs=--pids-limit=512 --memory=1g",
        *(f"PublishPort=127.0.0.1:{port}:{port}" for port in needs.ports),
        *(f"Tmpfs={_plain(tmpfs(needs, item.path))}" for item in needs.writable if not item.state),
        *(f"Volume={_plain(f'{volume(needs, item.path)}:/{item.path}')}"
          for item in needs.writable if item.state),
        "", "[Install]", "WantedBy=default.target", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A value without specifiers (systemd.unit(5)): podman takes it whole, and quotes it itself."""
    return text.replace("%", "%%")
