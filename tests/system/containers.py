"""Real containers for tests: nginx in runc, with three degrees of confinement."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ringfence.collect.seccomp.tables import native_calls

DEFAULT_CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
        "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    ).split()
]
REFUSED = (
    "bpf perf_event_open keyctl add_key request_key userfaultfd io_uring_setup io_uring_enter "
    "io_uring_register unshare setns mount fsopen fsconfig fsmount fspick move_mount open_tree "
    "mount_setattr umount2 pivot_root init_module finit_module delete_module kexec_load "
    "kexec_file_load open_by_handle_at iopl ioperm quotactl swapon reboot syslog acct "
    "settimeofday fanotify_init clone3"
).split()
CLONE_NEWUSER = 0x10000000
MASKED = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

NGINX = """
daemon off; pid /tmp/nginx.pid; error_log stderr; worker_processes 1; user www-data;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen 8080; root /usr/share/nginx/html; }
}
"""


def seccomp_like_an_engine() -> dict[str, Any]:
    """Allow all that an engine's default profile allows: everything but the dangerous calls."""
    names = [name for name in native_calls() if name not in REFUSED and name != "clone"]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ALLOW",
                "args": [
                    {
                        "index": 0,
                        "value": 0x7E020000,
                        "valueTwo": 0,
                        "op": "SCMP_CMP_MASKED_EQ",
                    }
                ],
            },
        ],
    }


def engine_defaults(rootfs: Path, configuration: Path) -> dict[str, Any]:
    """A runtime configuration as engines write it by default: root, 14 capabilities, seccomp."""
    kinds = ("pid", "network", "ipc", "uts", "mount")
    proc = ["nosuid", "noexec", "nodev"]
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": proc},
        {**_tmpfs("/dev", "mode=755"), "options": ["nosuid", "mode=755", "size=64k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*proc, "ro"]},
        _tmpfs("/tmp", "mode=1777"),
        _tmpfs("/var/log/nginx", "mode=1777"),
        _tmpfs("/var/lib/nginx", "mode=1777"),
        {
            "destination": "/etc/nginx/nginx.conf",
            "type": "bind",
            "source": str(configuration),
            "options": ["bind", "ro"],
        },
    ]
    sets = ("bounding", "effective", "permitted")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/usr/sbin/nginx"],
            "env": ["PATH=/usr/sbin:/usr/bin", "API_TOKEN=do-not-print-me"],
            "cwd": "/",
            "capabilities": {name: list(DEFAULT_CAPABILITIES) for name in sets},
            "noNewPrivileges": False,
        },
        "root": {"path": str(rootfs), "readonly": False},
        "hostname": "web",
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "seccomp": seccomp_like_an_engine(),
        },
    }


def _tmpfs(path: str, mode: str) -> dict[str, Any]:
    options = ["nosuid", "nodev", mode, "size=16m"]
    return {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options}


def privileged(defaults: dict[str, Any]) -> dict[str, Any]:
    """The same with every capability that this machine has, no filter, nothing masked."""
    config = copy.deepcopy(defaults)
    every = _own_capabilities()
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), every)
    linux = config["linux"]
    del linux["seccomp"], linux["maskedPaths"], linux["readonlyPaths"]
    linux["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    for mount in config["mounts"]:
        if mount["destination"] == "/dev":
            mount.update(type="bind", source="/dev", options=["rbind", "rw"])
        if mount["destination"] == "/sys":
            mount["options"] = ["nosuid", "noexec", "nodev"]
    return config


def confined(defaults: dict[str, Any]) -> dict[str, Any]:
    """The same as nobody, without capabilities, on a read-only root, with a narrow filter."""
    config = copy.deepcopy(defaults)
    config["process"]["user"] = {"uid": 33, "gid": 33}
    config["process"]["capabilities"] = {}
    config["process"]["noNewPrivileges"] = True
    config["root"]["readonly"] = True
    config["process"]["env"] = ["PATH=/usr/sbin:/usr/bin"]
    others = (
        "ptrace process_vm_readv process_vm_writev modify_ldt mknod mknodat shmget semget msgget "
        "mq_open mq_notify"
    ).split()
    allowed = config["linux"]["seccomp"]["syscalls"][0]
    allowed["names"] = [n for n in allowed["names"] if n not in (*others, "socket")]
    for family in (1, 2, 10):
        condition = {"index": 0, "value": family, "op": "SCMP_CMP_EQ"}
        stream = {"index": 1, "value": 0xF, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}
        config["linux"]["seccomp"]["syscalls"].append(
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [condition, stream]}
        )
    return config


def _own_capabilities() -> list[str]:
    from ringfence.collect.process.credentials import capability_names

    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("CapBnd"))
    return sorted(capability_names(int(line.split()[1], 16)))


def bundle(place: Path, config: dict[str, Any]) -> Path:
    """A bundle folder with this configuration."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    return place


@contextlib.contextmanager
def running(place: Path) -> Iterator[tuple[str, int]]:
    """The bundle started with runc: its name and the PID of its first process."""
    name = f"ringfence-{uuid.uuid4().hex[:8]}"
    log = (place / "log").open("wb")
    runner = subprocess.Popen(
        ["runc", "run", "--bundle", str(place), name],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        yield name, _pid_of(name, place, runner)
    finally:
        subprocess.run(["runc", "kill", name, "KILL"], capture_output=True, check=False)
        runner.wait(timeout=20)
        subprocess.run(["runc", "delete", "--force", name], capture_output=True, check=False)
        log.close()


def _pid_of(name: str, place: Path, runner: subprocess.Popen[bytes]) -> int:
    for _ in range(200):
        done = subprocess.run(["runc", "state", name], capture_output=True, check=False)
        if done.returncode == 0:
            state = json.loads(done.stdout)
            if state["status"] == "running" and _listens(state["pid"]):
                return int(state["pid"])
        if runner.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the container did not start: {(place / 'log').read_text()}")


def _listens(pid: int) -> bool:
    """nginx is ready when its worker is there, and has put on its user: then it has its title."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        titles = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    except OSError:
        return False
    return bool(titles) and all(b"worker" in title for title in titles)
