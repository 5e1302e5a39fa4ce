"""A small Debian that systemd starts in a guest with Debian's kernel, to try units in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.system.conftest import CACHE, program
from tests.system.guests import linux

PACKAGES = "systemd,systemd-sysv,python3-minimal,libpython3.11-stdlib"
LEFT_OUT = ("boot", "dev", "usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache",
            "var/lib/apt/lists")  # fmt: skip
NOT_WANTED = ("systemd-networkd", "systemd-resolved", "systemd-timesyncd", "systemd-udevd",
              "systemd-udev-trigger", "getty@tty1", "serial-getty@ttyS0")  # fmt: skip
UNITS = "etc/systemd/system"
PATIENCE = 400
"""Seconds, on a machine that does other work, too."""


def unpacked(tree: Path) -> None:
    """A small Debian with systemd and Python, made once."""
    tar = CACHE / "systemd.tar"
    if not tar.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = CACHE / f"systemd.{os.getpid()}.tar"
        subprocess.run([program("mmdebstrap"), "--quiet", "--variant=minbase",
                        f"--include={PACKAGES}", "bookworm", str(part)], check=True)  # fmt: skip
        part.replace(tar)
    tree.mkdir()
    without = [f"--exclude=./{path}/*" for path in LEFT_OUT]
    subprocess.run(["tar", "-xf", tar, "-C", tree, *without], check=True)


def said(tree: Path, acts: str, place: Path) -> str:
    """What the guest says whose files are `tree` and whose one service of ours is the script
    `acts`, until it turns itself off. The tree is gone then; `place` is for files."""
    units = tree / UNITS
    for name in NOT_WANTED:
        (units / f"{name}.service").symlink_to("/dev/null")
    (tree / "acts").write_text(acts)
    (tree / "acts").chmod(0o755)
    (units / "acts.service").write_text("[Service]\nExecStart=/acts\n")
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/acts.service").symlink_to("../acts.service")
    with (place / "initrd").open("wb") as file:
        names = subprocess.run(["find", ".", "-print0"], cwd=tree, capture_output=True, check=True)
        subprocess.run([program("cpio"), "--null", "-o", "-H", "newc", "--quiet"], cwd=tree,
                       input=names.stdout, stdout=file, check=True)  # fmt: skip
    shutil.rmtree(tree)
    (kernel,) = (linux() / "boot").glob("vmlinuz-*")
    done = subprocess.run(
        [program("qemu-system-x86_64"), "-accel", "tcg", "-cpu", "max", "-m", "2G", "-smp", "2",
         "-nodefaults", "-display", "none", "-no-reboot", "-kernel", kernel,
         "-initrd", place / "initrd", "-serial", "stdio", "-append",
         "console=ttyS0 rdinit=/lib/systemd/systemd quiet systemd.show_status=0"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    (place / "initrd").unlink()
    return done.stdout.decode("utf-8", "replace").replace("\r", "")
