"""Published slimmers and filters beside ours, on Debian root file systems made with mmdebstrap.

Published: SysPart (CCS 2023), sysfilter (RAID 2020), BLAFS and minicon as cited in the issue.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from bench.timing import BIN
from ringfence.harden.record import Report

CACHE = Path(os.environ.get("RINGFENCE_CACHE", "/var/cache/ringfence"))

SERVICES = {
    "nginx-light": (
        ["--http", "http://localhost/"],
        ["nginx", "-g", "daemon off;"],
        "SysPart 108, serving 104; sysfilter 115",
    ),
    "redis-server": (
        ["--user", "redis", "--exercise", "redis-cli set a 1 && redis-cli get a"],
        ["redis-server", "/etc/redis/redis.conf", "--daemonize", "no"],
        "SysPart 92, serving 85; BLAFS 28.8 MB",
    ),
    "apache2": (
        ["--http", "http://localhost/", "--env", "APACHE_RUN_USER=www-data",
         "--env", "APACHE_RUN_GROUP=www-data", "--env", "APACHE_RUN_DIR=/run",
         "--env", "APACHE_LOCK_DIR=/run/lock", "--env", "APACHE_LOG_DIR=/var/log/apache2",
         "--env", "APACHE_PID_FILE=/run/apache2.pid"],
        ["apache2", "-D", "FOREGROUND"],
        "SysPart 92; minicon 50.4 MB",
    ),
    "memcached": (["--port", "11211"], ["memcached", "-u", "nobody"], "SysPart 98, serving 82"),
}  # fmt: skip


def root(package: str) -> Path:
    """The root file system with a package, made once."""
    tar = CACHE / ("nginx.tar" if package == "nginx-light" else f"{package}.tar")
    if not tar.exists():
        words = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={package}"]
        subprocess.run([*words, "bookworm", str(tar)], check=True)
    return tar


def hardened(package: str, folder: Path) -> Report:
    """One result, with the filter of the serving phase."""
    options, command, _ = SERVICES[package]
    words = [str(BIN / "ringfence"), "harden", str(root(package)), "-o", str(folder), "--phases"]
    done = subprocess.run(
        [*words, *options, "--", *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{package}: {done.stderr}")
    return msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)


def main() -> None:
    """A row each: before, after, and what was published."""
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"{'':14}{'MB':>7}{'':>3}{'files':>6}{'':>3}{'calls':>6}{'serving':>8}{'surface':>9}"
          "  published")  # fmt: skip
    for package, (_, _, published) in SERVICES.items():
        with tempfile.TemporaryDirectory() as name:
            report = hardened(package, Path(name) / "result")
        before, after = report.counts.before, report.counts.after
        print(f"{package:14}{before.bytes / 1e6:7.1f}   {before.files:6}   {before.system_calls:6}"
              f"{'':8}{report.before.surface.total:9.4g}")  # fmt: skip
        print(f"{'  fenced':14}{after.bytes / 1e6:7.1f}   {after.files:6}   {after.system_calls:6}"
              f"{after.system_calls_serving:8}{report.after.surface.total:9.4g}"
              f"  {published}")  # fmt: skip


if __name__ == "__main__":
    main()
