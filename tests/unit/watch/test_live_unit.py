"""The systemd unit: mounts of its own where it may have them, and the ledger's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.watch.live.running import Wishes
from ringfence.watch.live.unit import unit

OWN_MOUNTS = (
    "ProtectSystem", "ProtectHome", "ProtectKernelModules", "ProtectKernelTunables",
    "ProtectKernelLogs", "ProtectControlGroups", "PrivateDevices", "PrivateMounts", "PrivateTmp",
    "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths",
)  # fmt: skip
"""Each makes a mount namespace (exec_needs_mount_namespace of systemd 252)."""
MARKING = ({"enforce": True}, {"learning": Path("/learned.json")})


def settings(ledger: str = "", **chosen: object) -> dict[str, str]:
    """The settings of the unit, of each name the last."""
    kept = {"ledger": Path(ledger), "key": Path("/key")} if ledger else {}
    wishes = Wishes(("/srv",), "", Path("/base"), Path("/key.pub"), **kept, **chosen)  # type: ignore[arg-type]
    rows = (row.partition("=") for row in unit(wishes).splitlines() if not row.startswith("#"))
    return {name: value for name, equals, value in rows if equals}


def test_a_run_that_marks_mounts_shares_those_of_the_host() -> None:
    assert set(settings()) & set(OWN_MOUNTS)
    for chosen in MARKING:
        for ledger in ("", "/var/lib/ringfence/ledger", "/data/ledger"):
            assert not set(settings(ledger, **chosen)) & set(OWN_MOUNTS)


@pytest.mark.parametrize("chosen", [{}, *MARKING])
def test_the_ledgers_folder_is_made(chosen: dict[str, object]) -> None:
    found = settings("/var/lib/ringfence/ledger", **chosen)
    assert (found["StateDirectory"], found["StateDirectoryMode"]) == ("ringfence/ledger", "0700")
    assert settings("/var/log/ringfence", **chosen)["LogsDirectory"] == "ringfence"
    assert not {"StateDirectory", "LogsDirectory"} & set(settings(**chosen))


def test_a_folder_elsewhere_can_be_written_through_the_fence() -> None:
    assert settings("/data/ledger")["ReadWritePaths"] == "/data/ledger"
