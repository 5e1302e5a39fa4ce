"""Settings of the knowledge base, judged by the programs that they are for."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from ringfence.collect.seccomp.tables import calls_of
from ringfence.knowledge.loader import load
from tests.system.conftest import program

pytestmark = pytest.mark.system

KNOWLEDGE = load()
NEEDS = re.compile(r"^# needs: systemd (\d+)$", re.MULTILINE)


def settings(platform: str) -> dict[str, str]:
    return {
        mechanism.id: mechanism.settings[platform]
        for mechanism in KNOWLEDGE.mechanisms.values()
        if platform in mechanism.settings
    }


def done(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=60
    )


def unit(tmp_path: Path, text: str, name: str = "pasted") -> Path:
    """A service with `text` pasted into it."""
    path = tmp_path / f"{name}.service"
    path.write_text(f"[Service]\nExecStart=/bin/true\n{text}\n")
    return path


def version() -> int:
    found = re.match(r"systemd (\d+)", done(program("systemd-analyze"), "--version").stdout)
    assert found is not None
    return int(found[1])


def test_systemd_takes_every_unit_setting_without_complaint(tmp_path: Path) -> None:
    taken = [
        unit(tmp_path, text, name)
        for name, text in settings("systemd").items()
        if (needs := NEEDS.search(text)) is None or version() >= int(needs[1])
    ]
    assert len(taken) > 20
    assert done(program("systemd-analyze"), "verify", *taken).stderr == ""


def test_systemd_complains_of_prose(tmp_path: Path) -> None:
    prose = "SystemCallFilter=@system-service and SystemCallFilter=~@keyring"
    assert "and" in done(program("systemd-analyze"), "verify", unit(tmp_path, prose)).stderr


def judged(path: Path) -> dict[str, bool]:
    """Each check of systemd-analyze security, and whether the unit passes it."""
    found = done(program("systemd-analyze"), "security", "--offline=true", "--no-pager",
                 "--json=short", path)  # fmt: skip
    return {row["json_field"]: bool(row["set"]) for row in json.loads(found.stdout)}


def test_systemd_sees_closed_what_the_filter_on_the_service_is_to_close(tmp_path: Path) -> None:
    closed = {
        "SystemCallArchitectures", "RestrictAddressFamilies_AF_PACKET",
        "RestrictAddressFamilies_AF_NETLINK", "RestrictAddressFamilies_OTHER",
        *(f"RestrictNamespaces_{kind}" for kind in "user mnt ipc pid cgroup net uts".split()),
        *(f"SystemCallFilter_{group}" for group in (
            "clock", "cpu_emulation", "debug", "module", "mount", "obsolete", "raw_io", "reboot",
            "swap")),
    }  # fmt: skip
    filtered = judged(unit(tmp_path, settings("systemd")["service-seccomp"]))
    plain = judged(unit(tmp_path, "", "plain"))
    assert {name for name in closed if not filtered[name]} == set()
    assert {name for name in closed if plain[name]} == set()


def calls(group: str) -> set[str]:
    """The system calls of one of systemd's groups, and of those in it."""
    found = set[str]()
    for line in done(program("systemd-analyze"), "syscall-filter", group).stdout.splitlines()[1:]:
        name = line.strip()
        if name and not name.startswith("#"):
            found |= calls(name) if name.startswith("@") else {name}
    return found


def test_the_filter_leaves_as_many_calls_as_the_hardened_machine_is_said_to_have() -> None:
    if version() != 252:
        pytest.skip("the template is of Debian 12, whose systemd is 252")
    allowed, refused = (
        line.partition("=")[2].strip("~").split()
        for line in settings("systemd")["service-seccomp"].splitlines()[:2]
    )
    left = set[str]().union(*(calls(name) for name in allowed))
    for name in refused:
        left -= calls(name) if name.startswith("@") else {name}
    left.discard("clone3")  # RestrictNamespaces=yes refuses it, whose arguments no filter sees
    stated = KNOWLEDGE.templates["vm-hardened"].counts["system_calls"]
    assert len(left & calls_of("x86_64").keys()) == stated.value


def known(engine: str) -> set[str]:
    """Options of the engine's `run`."""
    return set(re.findall(r"--[a-z][a-z-]*", done(program(engine), "run", "--help").stdout))


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_an_engine_knows_every_option(engine: str) -> None:
    for name, text in settings(engine).items():
        pasted = (line for line in text.splitlines() if not line.startswith("# first"))
        for line in pasted:
            used = set(re.findall(r"(?:^|\s)(--[a-z][a-z-]*)", line))
            assert used, name
            assert used <= known(engine), name


@pytest.mark.parametrize(
    "name", ["inbound-default-deny", "outbound-default-deny", "metadata-filtered"]
)
def test_nft_takes_the_rules_in_a_network_of_their_own(name: str) -> None:
    commands = settings("host")[name] + "\nnft list ruleset"
    program("nft")
    found = done(program("unshare"), "--net", "bash", "-ec", commands)
    assert (found.returncode, found.stderr) == (0, "")
    assert ("policy drop" in found.stdout) == (name != "metadata-filtered")
    metadata = re.search(r"ip daddr \{[^}]*169\.254\.169\.254[^}]*\} drop", found.stdout)
    assert (metadata is not None) == (name == "metadata-filtered")
