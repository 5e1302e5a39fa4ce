"""The printed units, started by Debian's systemd, in a guest with Debian's kernel and Python."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.system.systemd_guest import said, unpacked
from tests.watching import Watched

pytestmark = pytest.mark.system

MODULES = ("ringfence", "msgspec", "click", "cryptography", "_cffi_backend", "blake3", "rich",
           "zstandard")  # fmt: skip
LEDGER, FENCED = "/var/lib/ringfence/watch", "/var/lib/ringfence/fenced"
ACTS = f"""#!/bin/sh
exec >/dev/ttyS0 2>&1
told() {{
    for turn in $(seq 150); do grep -qs "$2" $1/segment-* && return; sleep 0.2; done
    echo "NOT TOLD $2"
}}
systemctl start ringfence-watch
told {LEDGER} '"full-check"'
echo changed >/srv/www/index
told {LEDGER} '"/index"'
pid=$(systemctl show -p MainPID --value ringfence-watch)
echo "PID $pid"
grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/$pid/status
nsenter -t $pid -m touch /etc/written 2>/dev/null && echo "WRITABLE /etc"
nsenter -t $pid -m touch {LEDGER}/written && echo "WRITABLE {LEDGER}" && rm {LEDGER}/written
mount -t tmpfs -o mode=755 fenced /srv/fenced
cp -p /srv/www/program /srv/fenced/program
systemctl start ringfence-fenced
told {FENCED} '"verdict":"on"'
for unit in watch fenced; do
    pid=$(systemctl show -p MainPID --value ringfence-$unit)
    [ /proc/$pid/ns/mnt -ef /proc/1/ns/mnt ] && echo "SHARES $unit"
done
cp /bin/true /srv/fenced/foreign
/srv/fenced/program && echo "RAN program"
/srv/fenced/foreign && echo "RAN foreign"
told {FENCED} '"kind":"denial"'
systemctl stop ringfence-fenced
/srv/fenced/foreign && echo "RAN foreign later"
for unit in watch fenced; do
    systemctl show -p NRestarts -p Result ringfence-$unit | sed "s/^/UNIT $unit /"
    journalctl -q -u ringfence-$unit --no-pager -o cat | tail -20
done
cat {LEDGER}/segment-* {FENCED}/segment-* | sed 's/^/LINE /'
systemctl poweroff -ff
"""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the guest says, until it turns itself off."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("Debian's Python takes modules of 3.11")
    place = tmp_path_factory.mktemp("systemd")
    tree = place / "tree"
    unpacked(tree)
    furnished(tree)
    watched(tree, place)
    return said(tree, ACTS, place)


def furnished(tree: Path) -> None:
    """Ringfence and what it imports."""
    for name in MODULES:
        found = importlib.util.find_spec(name)
        assert found is not None and found.origin is not None
        to = tree / "usr/lib/python3/dist-packages"
        if found.submodule_search_locations:
            shutil.copytree(Path(found.origin).parent, to / name)
        else:
            shutil.copy(found.origin, to)


def watched(tree: Path, place: Path) -> None:
    """Two targets, their baselines, and the units that the tree's own Python prints for them."""
    for name in ("www", "fenced"):
        (tree / "srv" / name).mkdir()
    (tree / "srv/www/index").write_text("page\n")
    shutil.copy(tree / "bin/true", tree / "srv/www/program")
    shutil.copy(tree / "bin/true", tree / "srv/fenced/program")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tree / "etc/ledger.key"],
                   check=True, stderr=subprocess.DEVNULL)  # fmt: skip
    for unit, target, words in (
        ("watch", "www", ("--ledger", LEDGER)),
        ("fenced", "fenced", ("--ledger", FENCED, "--enforce", "exec")),
    ):
        made = Watched(place, tree / "srv" / target)
        made.init()
        made.baseline.rename(tree / f"etc/{unit}.baseline")
        shutil.copy(made.public, tree / "etc/watch.pub")
        done = subprocess.run(
            ["chroot", tree, "python3", "-m", "ringfence", "watch", "run", f"/srv/{target}",
             "--baseline", f"/etc/{unit}.baseline", "--public-key", "/etc/watch.pub",
             "--key", "/etc/ledger.key", "--print-unit", *words],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        (tree / f"etc/systemd/system/ringfence-{unit}.service").write_text(done.stdout)


def told(console: str) -> list[dict[str, Any]]:
    """The records of both ledgers."""
    rows = [json.loads(row) for row in re.findall(r"^LINE (.*)$", console, re.M)]
    return [row for row in rows if row["type"] == "record"]


def test_the_watch_starts_tells_of_a_change_and_goes_on(console: str) -> None:
    assert "NOT TOLD" not in console, console[-6000:]
    change = next(row for row in told(console) if row["subject"] == "/index")
    assert change["detail"]["verdict"] == "changed"
    who = change["detail"]["who"]
    assert (who["executable"], who["user"], who.get("container", "")) == (
        "/usr/bin/dash",
        "root",
        "",
    )
    check = next(row for row in told(console) if row["detail"].get("event") == "full-check")
    assert check["detail"]["verdict"] == "unchanged"
    assert "UNIT watch NRestarts=0" in console


def test_its_fence_is_on(console: str) -> None:
    assert re.search(r"^NoNewPrivs:\t1$", console, re.M)
    assert re.search(r"^Seccomp:\t2$", console, re.M)
    # CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_LEASE and, for what the kernel's audit
    # says, CAP_AUDIT_READ (linux/capability.h)
    held = sum(1 << number for number in (2, 19, 21, 28, 37))
    assert re.search(rf"^CapBnd:\t{held:016x}$", console, re.M)
    assert re.findall(r"^WRITABLE (.*)$", console, re.M) == [LEDGER]


def test_the_enforcing_unit_lets_only_the_baselines_code_run(console: str) -> None:
    assert re.findall(r"^RAN (.*)$", console, re.M) == ["program", "foreign later"]
    denial = next(row for row in told(console) if row["kind"] == "denial")
    assert (denial["subject"], denial["detail"]["how"]) == ("/foreign", "execute")
    # In a namespace of its own it would mark copies of the mounts that others use.
    assert re.findall(r"^SHARES (.*)$", console, re.M) == ["fenced"]
    assert "UNIT fenced NRestarts=0" in console
    assert "UNIT fenced Result=success" in console
