"""How tests are shared out among several workers (pytest-xdist)."""

from __future__ import annotations

import contextlib
import os
from pathlib import PurePath

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# How long an example takes says more of the machine than of the code: bench/ has the timings.
settings.register_profile("ringfence", settings.default, deadline=None)
settings.load_profile("ringfence")

SYSTEM = "tests/system/"
BESIDE = (
    "test_elf_oracle", "test_guest_", "test_harden_suites", "test_harden_systemd", "test_harden_vm",
    "test_ledger_kill", "test_mac_in_guest", "test_selinux_refpolicy", "test_watch_systemd",
)  # fmt: skip
"""Modules of system tests that leave this host as it is at every moment: guests and programs; and
containers in networks of their own, below folders for temporary files, that others do not count."""


GIVES_WAY = 10
"""The niceness of all others while there are several workers: what happens to this host in time is
what the first ones look at."""


def alone(nodeid: str) -> bool:
    """Whether a test changes this host, or compares it before and after."""
    path = nodeid.partition("::")[0]
    return path.startswith(SYSTEM) and not PurePath(path).name.startswith(BESIDE)


class ByEffect(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Modules go to whoever is free. But tests that change this host, and those that compare it
    before and after, run one after the other in one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return SYSTEM if alone(nodeid) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByEffect:
    return ByEffect(config, log)


def pytest_runtest_logstart(nodeid: str) -> None:
    """Before a test's fixtures: what they start inherits it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        with contextlib.suppress(PermissionError):  # back to 0 is for root
            os.setpriority(os.PRIO_PROCESS, 0, 0 if alone(nodeid) else GIVES_WAY)
