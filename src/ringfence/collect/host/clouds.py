"""Clouds' metadata services: where they are, and whether the kernel would send there."""

from __future__ import annotations

import socket

METADATA = {
    "metadata": "169.254.169.254", "metadata-ipv6": "fd00:ec2::254",
    "metadata-tasks": "169.254.170.2", "metadata-alibaba": "100.100.100.200",
}  # fmt: skip
"""Where credentials are given out: by most clouds; by IPv6; to containers of Amazon's ECS:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html; by Alibaba's:
https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata."""
PORT = 80


def led_to() -> tuple[str, ...]:
    """Those of these addresses to which this network namespace has a route. Nothing is sent:
    connect(2) on a datagram socket looks a route up."""
    return tuple(host for host in METADATA.values() if _routed(host))


def _routed(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as handle:
            handle.connect((host, PORT))
    except OSError:
        return False
    return True
