"""A Deployment and a NetworkPolicy that the Pod Security level `restricted` admits.

https://kubernetes.io/docs/concepts/security/pod-security-standards/. The filter is a Localhost
profile: copy seccomp.json to the nodes' /var/lib/kubelet/seccomp/ringfence/.
"""

from __future__ import annotations

import re
from typing import Any

from ringfence.harden.policy.needs import Needs
from ringfence.harden.policy.yaml_text import written


def write(needs: Needs) -> str:
    """Both objects in one file."""
    name = re.sub(r"[^a-z0-9-]+", "-", needs.name.lower()).strip("-") or "service"
    labels = {"app.kubernetes.io/name": name}
    text = f"# {needs.origin}\n"
    return text + written([_deployment(needs, name, labels), _network(needs, name, labels)])


def _deployment(needs: Needs, name: str, labels: dict[str, str]) -> dict[str, Any]:
    who = needs.who
    folders = {f"writable-{index}": item for index, item in enumerate(needs.writable)}
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostUsers": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": who.uid,
            "runAsGroup": who.gid,
            "fsGroup": who.gid,
            "seccompProfile": {"type": "Localhost", "localhostProfile": f"ringfence/{name}.json"},
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
        "containers": [
            {
                "name": name,
                "image": f"ringfence/{needs.name}:latest",
                "ports": [{"containerPort": port} for port in needs.ports],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": {"limits": {"memory": "1Gi"}, "requests": {"memory": "64Mi"}},
                "volumeMounts": [
                    {"name": volume, "mountPath": f"/{item.path}"}
                    for volume, item in folders.items()
                ],
            }
        ],
        "volumes": [{"name": volume, "emptyDir": {"sizeLimit": "1Gi"}} for volume in folders],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _network(needs: Needs, name: str, labels: dict[str, str]) -> dict[str, Any]:
    ports = [{"protocol": "TCP", "port": port} for port in needs.ports]
    outward = [
        {
            "to": [{"ipBlock": {"cidr": f"{host}/{128 if ':' in host else 32}"}}],
            "ports": [{"protocol": "TCP", "port": port}],
        }
        for host, port in needs.destinations
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": ports}] if ports else [],
            "egress": outward,
        },
    }
