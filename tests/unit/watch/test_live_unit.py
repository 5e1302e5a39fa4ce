"""The systemd unit: mounts of its own where it may have them, and the ledger's folder."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ringfence.watch.live.running import Wishes
from ringfence.watch.live.unit import unit
from tests.command import Outcome, ringfence

OWN_MOUNTS = (
    "ProtectSystem", "ProtectHome", "ProtectKernelModules", "ProtectKernelTunables",
    "ProtectKernelLogs", "ProtectControlGroups", "PrivateDevices", "PrivateMounts", "PrivateTmp",
    "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths",
)  # fmt: skip
"""Each makes a mount namespace (exec_needs_mount_namespace of systemd 252)."""
PLAIN = Wishes(("/srv",), "", Path("/base"), Path("/key.pub"))
MARKING = (
    msgspec.structs.replace(PLAIN, enforce=True),
    msgspec.structs.replace(PLAIN, learning=Path("/learned.json")),
)


def settings(wishes: Wishes, ledger: str = "") -> dict[str, str]:
    """The settings of the unit, of each name the last."""
    if ledger:
        wishes = msgspec.structs.replace(wishes, ledger=Path(ledger), key=Path("/key"))
    rows = (row.partition("=") for row in unit(wishes).splitlines() if not row.startswith("#"))
    return {name: value for name, equals, value in rows if equals}


def test_a_run_that_marks_mounts_shares_those_of_the_host() -> None:
    assert set(settings(PLAIN)) & set(OWN_MOUNTS)
    for wishes in MARKING:
        for ledger in ("", "/var/lib/ringfence/ledger", "/data/ledger"):
            assert not set(settings(wishes, ledger)) & set(OWN_MOUNTS)


@pytest.mark.parametrize("wishes", [PLAIN, *MARKING])
def test_the_ledgers_folder_is_made(wishes: Wishes) -> None:
    found = settings(wishes, "/var/lib/ringfence/ledger")
    assert (found["StateDirectory"], found["StateDirectoryMode"]) == ("ringfence/ledger", "0700")
    assert settings(wishes, "/var/log/ringfence")["LogsDirectory"] == "ringfence"
    assert not {"StateDirectory", "LogsDirectory"} & set(settings(wishes))


def run(*words: str) -> Outcome:
    return ringfence("watch", "run", "/srv", "--baseline", "/base", "--public-key", "/key.pub",
                     "--print-unit", *words)  # fmt: skip


@pytest.mark.parametrize(("words", "owner"), [
    (["--when-gone", "allow"], ["--enforce", "exec"]),
    (["--when-gone", "deny"], ["--enforce", "exec"]),
    (["--patience", "5"], ["--enforce", "exec"]),
    (["--patience", "5"], ["--learn", "/learned.json"]),
])  # fmt: skip
def test_options_of_enforcement_are_for_enforcement(words: list[str], owner: list[str]) -> None:
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert f"{words[0]} is for --enforce exec" in done.err
    done = run(*words, *owner)
    assert done.code == 0, done.err
    assert " ".join(words) in done.out


def test_nobody_waits_for_a_decision_while_learning() -> None:
    done = run("--learn", "/learned.json", "--when-gone", "deny")
    assert (done.code, done.out) == (2, "")


def test_a_folder_elsewhere_can_be_written_through_the_fence() -> None:
    assert settings(PLAIN, "/data/ledger")["ReadWritePaths"] == "/data/ledger"


@pytest.mark.parametrize(("sinks", "families", "allowed"), [
    ((), "AF_UNIX AF_NETLINK", []),
    (("journald", "syslog", "syslog:/run/log"), "AF_UNIX AF_NETLINK", []),
    (("otlp:http://127.0.0.1:4318/v1/logs",), "AF_UNIX AF_NETLINK AF_INET", ["127.0.0.1"]),
    (("syslog:[::1]:514",), "AF_UNIX AF_NETLINK AF_INET6", ["::1"]),
    # systemd ignores an IPAddressAllow= that has a scope.
    (("syslog:::1%lo:514", "otlp:http://[::1%25lo]:4318/x"), "AF_UNIX AF_NETLINK AF_INET6",
     ["::1"]),
    (("syslog:127.0.0.2:514", "otlp:http://[::1]:4318/x", "syslog:127.0.0.2:515"),
     "AF_UNIX AF_NETLINK AF_INET AF_INET6", ["127.0.0.2", "::1"]),
])  # fmt: skip
def test_a_sink_can_reach_its_own_address_and_nothing_else(
    sinks: tuple[str, ...], families: str, allowed: list[str]
) -> None:
    wishes = msgspec.structs.replace(PLAIN, sinks=sinks)
    found = settings(wishes, "/var/lib/ringfence/ledger")
    assert found["RestrictAddressFamilies"] == families
    assert found["IPAddressDeny"] == "any"
    rows = unit(wishes).splitlines()
    assert [row for row in rows if row.startswith("IPAddressAllow=")] == [
        f"IPAddressAllow={address}" for address in allowed
    ]


def test_a_sink_that_is_none_gets_no_unit() -> None:
    done = run("--ledger", "/l", "--key", "/k", "--sink", "syslog:192.0.2.1:514")
    assert (done.code, done.out) == (2, "")
    assert "not on loopback" in done.err


def test_the_kernels_audit_is_read_for_a_ledger_only() -> None:
    for wishes in (PLAIN, *MARKING):
        assert "CAP_AUDIT_READ" not in settings(wishes)["CapabilityBoundingSet"].split()
        kept = settings(wishes, "/var/lib/ringfence/ledger")
        assert "CAP_AUDIT_READ" in kept["CapabilityBoundingSet"].split()
        assert "AF_NETLINK" in kept["RestrictAddressFamilies"].split()
