"""How tests are shared out among several workers (pytest-xdist)."""

from __future__ import annotations

from pathlib import PurePath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

SYSTEM = "tests/system/"
BESIDE = ("test_elf_oracle", "test_guest_", "test_ledger_kill", "test_selinux_refpolicy")
"""Modules of system tests that leave this host as it is at every moment: guests and programs."""


class ByEffect(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Modules go to whoever is free. But tests that change this host, and those that compare it
    before and after, run one after the other in one worker."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        alone = path.startswith(SYSTEM) and not PurePath(path).name.startswith(BESIDE)
        return SYSTEM if alone else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByEffect:
    return ByEffect(config, log)
