"""A Compose service (https://compose-spec.io)."""

from __future__ import annotations

from typing import Any

from ringfence.harden.policy.containers import PORT_START, tmpfs, volume
from ringfence.harden.policy.needs import Needs
from ringfence.harden.policy.yaml_text import written


def write(needs: Needs) -> str:
    """The file: one service."""
    state = {volume(needs, item.path): item.path for item in needs.writable if item.state}
    service: dict[str, Any] = {
        "image": f"ringfence/{needs.name}:latest",
        "user": f"{needs.who.uid}:{needs.who.gid}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true", "seccomp:./seccomp.json"],
        "sysctls": [PORT_START],
        "pids_limit": 512,
        "mem_limit": "1g",
        "ports": [f"127.0.0.1:{port}:{port}" for port in needs.ports],
        "tmpfs": [tmpfs(needs, item.path) for item in needs.writable if not item.state],
        "volumes": [f"{name}:/{path}" for name, path in state.items()],
        "stop_signal": needs.service.signal,
    }
    document: dict[str, Any] = {"services": {needs.name: {k: v for k, v in service.items() if v}}}
    if state:
        document["volumes"] = {name: {} for name in state}
    return f"# {needs.origin}\n" + written([document])
