"""Every setting of the knowledge base can be pasted: it parses by its platform's own syntax."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable

import pytest
import yaml

from ringfence.knowledge.loader import load
from ringfence.knowledge.records import Mechanism

KNOWLEDGE = load()
SETTINGS = [
    pytest.param(mechanism, platform, id=f"{mechanism.id}-{platform}")
    for mechanism in KNOWLEDGE.mechanisms.values()
    for platform in mechanism.settings
]
COMMENT = re.compile(
    r"# (?:(?P<command>first)(?:, on [a-z ]+)?|(?P<prose>replace|then|needs)|(?P<remove>remove)): "
    r"(?P<text>\S.*)"
)
DIRECTIVE = re.compile(r"(?P<name>[A-Z][A-Za-z]*)=(?P<value>.*)")
PROSE = re.compile(r" (?:and|with|then|or) |\.\.\.|[()]")
OPTION = re.compile(r"--[a-z][a-z-]*")
FLAGS = {"--read-only", "--privileged", "--tty"}
"""Options of `run` that take no value."""
SECURITY = {
    "allowPrivilegeEscalation": bool, "appArmorProfile": {"type": str, "localhostProfile": str},
    "capabilities": {"drop": [str]}, "privileged": bool, "procMount": str,
    "readOnlyRootFilesystem": bool, "runAsNonRoot": bool, "runAsUser": int,
    "seccompProfile": {"type": str, "localhostProfile": str},
}  # fmt: skip
POD = {"spec": {
    "automountServiceAccountToken": bool, "hostIPC": bool, "hostNetwork": bool, "hostPID": bool,
    "hostUsers": bool, "securityContext": {"sysctls": [{"name": str, "value": str}]},
    "volumes": [{"name": str, "secret": {"secretName": str}}],
    "containers": [{
        "name": str, "securityContext": SECURITY,
        "resources": {"limits": {"cpu": str, "memory": str}},
        "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
    }],
}}  # fmt: skip
KINDS = {
    None: POD,
    "NetworkPolicy": {
        "apiVersion": str, "kind": str, "metadata": {"name": str},
        "spec": {"podSelector": {}, "policyTypes": [str],
                 "egress": [{"to": [{"ipBlock": {"cidr": str, "except": [str]}}]}]},
    },
    "Namespace": {"apiVersion": str, "kind": str, "metadata": {
        "name": str, "labels": {"pod-security.kubernetes.io/enforce": str}}},
}  # fmt: skip
"""The fields of the Kubernetes API that settings use, with the types of its reference."""


def fits(value: object, shape: object) -> bool:
    """Whether YAML has these fields and no others, of these types."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            name in shape and fits(item, shape[name]) for name, item in value.items()
        )
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(item, shape[0]) for item in value)
    return type(value) is shape


def options(text: str) -> bool:
    """`--name value`, `--name=value` and flags, as `podman run` and `docker run` take them."""
    words = shlex.split(text)
    while words:
        name, has_value, _ = words.pop(0).partition("=")
        if not OPTION.fullmatch(name):
            return False
        if name not in FLAGS and not has_value and (not words or words.pop(0).startswith("--")):
            return False
    return True


def command(text: str) -> bool:
    """What a shell parses, and whose first word is a program's name rather than prose."""
    parsed = subprocess.run(
        ["bash", "-n"], input=text, text=True, capture_output=True, check=False
    )  # fmt: skip
    programs = (
        "apparmor_parser apt-get auditctl cosign dockerd docker echo evmctl export find gpasswd "
        "grep install journalctl mkdir mount nft podman ringfence sed setcap sysctl systemctl "
        "update-grub useradd veritysetup visudo"
    ).split()
    return parsed.returncode == 0 and not parsed.stderr and text.split()[0] in programs


def in_container(text: str) -> bool:
    """Of `podman run` and `docker run`: lines of options."""
    return all(map(options, lines(text)))


def in_unit(text: str) -> bool:
    """Of the [Service] of a unit: one directive a line, and nothing but its value in it."""
    found = [DIRECTIVE.fullmatch(line) for line in lines(text)]
    return all(m is not None and not PROSE.search(m["value"]) and "=" not in m["value"]
               for m in found)  # fmt: skip


def in_cluster(text: str) -> bool:
    """Of a manifest."""
    found = yaml.safe_load(text)
    return isinstance(found, dict) and fits(found, KINDS[found.get("kind")])


def in_shell(text: str) -> bool:
    """Of the host's shell, line by line."""
    return all(map(command, lines(text)))


SYNTAX: dict[str, Callable[[str], bool]] = {
    "podman": in_container, "docker": in_container, "systemd": in_unit,
    "kubernetes": in_cluster, "host": in_shell,
}  # fmt: skip


def lines(text: str) -> list[str]:
    """The lines of a setting that are no comments."""
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(("mechanism", "platform"), SETTINGS)
def test_a_setting_is_in_the_syntax_of_its_platform(mechanism: Mechanism, platform: str) -> None:
    text = mechanism.settings[platform]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    for line in comments:
        found = COMMENT.fullmatch(line)
        assert found is not None, line
        if found["command"]:
            assert command(found["text"]), line
        if found["remove"] and SYNTAX[platform] is in_container:
            assert options(found["text"]), line
    if len(comments) < len(text.splitlines()):
        assert SYNTAX[platform](text), text


@pytest.mark.parametrize(
    ("platform", "text"),
    [
        ("systemd", "ProtectHome=yes and InaccessiblePaths=/etc/ssh"),
        ("systemd", "RestrictNamespaces=yes, SystemCallArchitectures=native"),
        ("systemd", "IPAddressAllow=..."),
        ("podman", "(no --pid=host)"),
        ("docker", "dockerd --userns-remap=default"),
        ("podman", "--memory"),
        ("kubernetes", "spec.containers[].securityContext.privileged: false"),
        ("kubernetes", "spec: {containers: [{securityContext: {privileged: 'no'}}]}"),
        ("kubernetes", "no hostPath volume"),
        ("host", "link with -z noexecstack"),
        ("host", "remove the rule with visudo"),
        ("host", "find / -exec '"),
    ],
)
def test_prose_is_in_no_syntax(platform: str, text: str) -> None:
    assert not SYNTAX[platform](text)


def test_a_seccomp_profile_is_the_one_that_a_named_command_writes() -> None:
    for name in ("seccomp-default-deny", "service-seccomp"):
        settings = KNOWLEDGE.mechanisms[name].settings
        assert {"podman", "docker", "kubernetes"} <= set(settings)
        for platform in ("podman", "docker", "kubernetes"):
            first = settings[platform].splitlines()[0]
            assert first == "# first: ringfence harden IMAGE -o fenced -- COMMAND"
            assert "fenced/policy/seccomp.json" in settings[platform]
