"""`make demo`: start a small real web service, measure it, compare it, clean up after itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RINGFENCE = Path(sys.executable).with_name("ringfence")
REPORTS = ROOT / ".demo"

WORKERS = 2
CONFIGURATION = """
daemon on;
pid {place}/nginx.pid;
error_log {place}/error.log;
worker_processes {workers};
events {{ }}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{ listen 127.0.0.1:{port}; root {place}/www; }}
}}
"""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def workers_of(pid: int) -> int:
    """How many workers are ready: a worker takes its title once it has put on its user."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(1 for child in children if b"worker" in Path(f"/proc/{child}/cmdline").read_bytes())


@contextlib.contextmanager
def web_server(place: Path) -> Iterator[int]:
    """A real nginx on loopback, by its master's PID; stopped and removed afterwards."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    (place / "www").mkdir(parents=True)
    (place / "www" / "index.html").write_text("fenced\n")
    # Its workers run as an unprivileged user and must be able to come this far.
    for folder in (place, place / "www"):
        folder.chmod(0o755)
    configuration = place / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(place=place, port=free_port(), workers=WORKERS))
    subprocess.run([nginx, "-c", str(configuration)], check=True)
    pid_file = place / "nginx.pid"
    for _ in range(100):
        if pid_file.exists() and pid_file.read_text().strip():
            break
        time.sleep(0.02)
    pid = int(pid_file.read_text())
    for _ in range(100):
        if workers_of(pid) == WORKERS:
            break
        time.sleep(0.02)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGQUIT)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.02)
        shutil.rmtree(place, ignore_errors=True)


def run(*arguments: str) -> None:
    """One command of ringfence, shown as a person would type it."""
    print(f"\n$ ringfence {' '.join(arguments)}", flush=True)
    subprocess.run([str(RINGFENCE), *arguments], check=True)


def main() -> None:
    """The main job on real input."""
    REPORTS.mkdir(exist_ok=True)
    place = Path(f"/tmp/ringfence-demo-{os.getpid()}")  # noqa: S108 - workers must reach it
    compared = ("server", "vm", "container-default", "container-minimal", "gvisor", "unikernel")
    with web_server(place) as pid:
        run("measure", str(pid))
        run("compare", str(pid), *(word for name in compared for word in ("--as", name)))
        for form, name in (("markdown", "report.md"), ("json", "report.json")):
            target = str(REPORTS / name)
            subprocess.run(
                [str(RINGFENCE), "compare", str(pid), "--format", form, "-o", target], check=True
            )
    run("explain", "core-system-calls")
    print(f"\nReports on all deployments: {REPORTS / 'report.md'} and {REPORTS / 'report.json'}")


if __name__ == "__main__":
    main()
