"""The systemd unit that `watch run --print-unit` prints, judged by systemd-analyze."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command import ringfence
from tests.system.conftest import program
from tests.system.watch_runs import Run, tmpfs

pytestmark = pytest.mark.system

GOOD, ENFORCING = 2.5, 3.8
"""Most exposure; a service as it comes has 9.6. Enforcement has to share the host's mounts."""


def printed(tmp_path: Path, *words: object) -> Path:
    """The unit as a file."""
    done = ringfence("watch", "run", tmp_path, "--baseline", "b", "--public-key", "k.pub",
                     "--print-unit", *words)  # fmt: skip
    assert done.code == 0, done.err
    path = tmp_path / "ringfence-watch.service"
    path.write_text(done.out)
    return path


def exposure(path: Path) -> float:
    """What systemd-analyze security says of it, without systemd running."""
    done = subprocess.run(
        [program("systemd-analyze"), "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"exposure level for .*: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1])


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    assert exposure(printed(tmp_path, "--full-every", "3600")) <= GOOD
    assert exposure(printed(tmp_path, "--enforce", "exec")) <= ENFORCING
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(bare) > 9


def test_systemd_takes_every_line_of_it(tmp_path: Path) -> None:
    path = printed(tmp_path, "--ledger", tmp_path / "a b%$x", "--key", "k")
    done = subprocess.run([program("systemd-analyze"), "verify", "--man=no", str(path)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    mine = [row for row in done.stderr.splitlines() if "ringfence-watch.service" in row]
    assert not mine, done.stderr
    assert f"'{tmp_path}/a b%%$$x'" in path.read_text()


def test_no_name_becomes_a_setting_of_its_own(tmp_path: Path) -> None:
    text = printed(tmp_path, "--ledger", tmp_path / "a\\b $x", "--key", "k").read_text()
    assert f"ReadWritePaths='{tmp_path}/a\\\\b $x'\n" in text
    assert f"--ledger '{tmp_path}/a\\\\b $$x' " in text
    evil = tmp_path / "x\nExecStartPre=+evil"
    evil.mkdir()
    done = ringfence("watch", "run", evil, "--baseline", "b", "--public-key", "k", "--print-unit")
    assert (done.code, done.out) == (2, "")
    assert "control characters" in done.err


def test_its_capabilities_are_enough(tmp_path: Path) -> None:
    text = printed(tmp_path).read_text()
    found = re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)
    assert found is not None
    kept = [name.removeprefix("CAP_").lower() for name in found[1].split()]
    fence = [program("setpriv"), "--no-new-privs", "--bounding-set",
             ",".join(["-all", *(f"+{name}" for name in kept)])]  # fmt: skip
    with tmpfs(tmp_path / "target") as target:
        shutil.copy("/bin/true", target / "good")
        os.chown(target / "good", 65534, 65534)
        run = Run(tmp_path, target)
        run.watched.init()
        with run.running("--enforce", "exec", sign="enforce", before=fence):
            subprocess.run([target / "good"], check=True)
            shutil.copy("/bin/true", target / "evil")
            with pytest.raises(PermissionError):
                subprocess.run([target / "evil"], check=False)
            changed = run.until_event("change", "/evil", verdict="added")
            assert changed.detail["who"]["pid"] == os.getpid()
            run.until_event("denial", "/evil")
            (decider,) = run.children("ringfence.watch.live.decider")
            os.kill(decider, 9)
            run.until_event("enforce", str(target), verdict="ready")
