"""What engines with Docker's options have in common: the words of a command line."""

from __future__ import annotations

import hashlib
import re
import shlex

from ringfence.harden.policy.needs import Needs

PORT_START = "net.ipv4.ip_unprivileged_port_start=0"
"""So that an unprivileged user may listen on ports below 1024 in its own namespace."""


def tmpfs(needs: Needs, path: str) -> str:
    """A folder in memory, as `--tmpfs` has it. Docker mounts it after the image's content."""
    who = needs.who
    return f"/{path}:rw,nosuid,nodev,noexec,size=1g,mode=0700,uid={who.uid},gid={who.gid}"


def volume(needs: Needs, path: str) -> str:
    """The name of the volume for a folder with state. Engines take letters, digits and `_.-` in
    it: a folder with others is told from its like by a part of its path's digest."""
    plain = path.replace("/", "-")
    name = re.sub("[^A-Za-z0-9_.-]", "_", plain)
    if name != plain:
        name += f"-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    return f"{needs.name}-{name}"


def command_line(needs: Needs, engine: str, image: str) -> str:
    """The whole command, for a person to copy."""
    words = [
        engine, "run", "--rm", "--read-only", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", "--security-opt=seccomp=policy/seccomp.json",
        f"--user={needs.who.uid}:{needs.who.gid}", "--pids-limit=512", "--memory=1g",
        f"--sysctl={PORT_START}", *(["--userns=auto"] if engine == "podman" else []),
        *(f"--publish=127.0.0.1:{port}:{port}" for port in needs.ports),
        *(f"--tmpfs={tmpfs(needs, item.path)}" for item in needs.writable if not item.state),
        *(f"--volume={volume(needs, item.path)}:/{item.path}"
          for item in needs.writable if item.state),
        image,
    ]  # fmt: skip
    return " ".join(shlex.quote(word) for word in words)
