"""A privilege that is missing: exit code 3, and a line that names it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.command import ringfence

pytestmark = pytest.mark.system
NOBODY = 65534


def test_a_container_whose_state_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tempfile.mkdtemp()
    try:
        state = Path(folder) / "runc"
        (state / "web").mkdir(parents=True)
        (state / "web" / "state.json").write_text("{}")
        Path(folder).chmod(0o755)
        state.chmod(0o700)
        monkeypatch.setenv("RINGFENCE_RUNTIME_ROOT", str(state))
        # Once as root, so that all is imported: the interpreter may lie where nobody cannot read.
        ringfence("measure", "no-such-container")
        os.seteuid(NOBODY)
        try:
            done = ringfence("measure", "web")
        finally:
            os.seteuid(0)
    finally:
        shutil.rmtree(folder)
    assert done.code == 3
    assert "may not be read; run as root" in done.err
    assert done.err.count("\n") == 1


def test_a_container_that_nobody_knows_names_the_engines_that_are_absent() -> None:
    done = ringfence("measure", "no-such-container")
    assert done.code == 2
    assert "looked at runc, crun" in done.err
