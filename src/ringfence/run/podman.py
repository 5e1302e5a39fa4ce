"""The fence through podman: the same enclosure in podman's own words (podman-run(1)).

podman stays in the foreground as our child, so its end is the service's. Its root file system is
the unpacked one, below an overlay where podman puts its own files (`--rootfs DIR:O`); our
nftables rules are loaded by an OCI hook.
"""

from __future__ import annotations

import json
import resource
import subprocess
import time
from pathlib import Path

import msgspec

from ringfence.run.engine import Container, EngineError, last_line, working_engine
from ringfence.run.fence import HOST_NAME, ID_BASE, ID_COUNT, NFT

PATIENCE = 20.0
"""Seconds that podman may take to start a container."""


class PodmanContainer(Container):
    """One container of podman's, from its start to its removal. Needs root."""

    process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Set up and started in one go. Raises EngineError."""
        self._give_output()
        pid_file = self.bundle / "pid"
        words = [*self._podman(), "run", *self._options(pid_file)]
        self.process = subprocess.Popen(
            [*words, "--rootfs", f"{self.fence.root}:O", *self.fence.command],
            stdin=subprocess.DEVNULL, stdout=self.output.write_end, stderr=self.output.write_end,
        )  # fmt: skip
        self.output.close()
        limit = time.monotonic() + PATIENCE
        while not (pid_file.exists() and pid_file.read_text().strip()):
            if self.process.poll() is not None or time.monotonic() > limit:
                self.remove()
                raise EngineError(last_line(self.output.finish()), where="podman")
            time.sleep(0.005)
        self.pid = int(pid_file.read_text())

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        code = self.process.poll() if self.process is not None else None
        if code is not None:
            # podman gives 128 and the signal's number where one ended the service.
            self.status = 128 - code if code > 128 else code
        return self.status

    def create(self) -> None:
        """podman starts what it creates at once when it is to stay in the foreground."""
        raise EngineError("cannot be traced from the start", where="podman", remedy="--engine runc")

    def removal(self) -> tuple[str, ...]:
        """The command that kills what is left and forgets the container."""
        return (*self._podman(), "rm", "--force", "--time", "0", "--ignore", self.name)

    def remove(self) -> None:
        """Kill what is left and forget the container."""
        subprocess.run(self.removal(), capture_output=True, check=False)
        if self.process is not None:
            self.process.wait()

    def _podman(self) -> list[str]:
        """Without systemd podman cannot ask it for a cgroup."""
        manager = "systemd" if Path("/run/systemd/system").is_dir() else "cgroupfs"
        return ["podman", "--runtime", working_engine(), "--cgroup-manager", manager]

    def _options(self, pid_file: Path) -> list[str]:
        fence = self.fence
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        identity = f"0:{ID_BASE}:{ID_COUNT}"
        found = [
            "--name", self.name, "--rm", "--pidfile", str(pid_file), "--log-driver", "passthrough",
            "--network", "none", "--hostname", HOST_NAME, "--read-only", "--read-only-tmpfs=false",
            "--user", f"{fence.uid}:{fence.gid}", "--cap-drop", "all", "--sig-proxy=false",
            "--security-opt", "no-new-privileges", "--uidmap", identity, "--gidmap", identity,
            "--sysctl", "net.ipv4.ip_unprivileged_port_start=0",
            # podman would raise limits to values that not every root may set.
            "--ulimit", f"nofile={soft}:{soft}", "--ulimit", f"nproc={fence.processes}",
            "--memory", str(fence.memory), "--pids-limit", str(fence.processes),
            "--workdir", fence.folder,
        ]  # fmt: skip
        for group in fence.groups:
            found += ["--group-add", str(group)]
        for variable in fence.environment:
            found += ["--env", variable]
        return [*found, *self._mounts(), *self._filters()]

    def _mounts(self) -> list[str]:
        fence = self.fence
        held = {volume.inside for volume in fence.volumes}
        found = []
        for item in sorted(fence.writable):
            if item.path not in held:
                place = f"type=tmpfs,destination=/{item.path}"
                found += ["--mount", f"{place},chown=true,tmpfs-mode=700,tmpfs-size=1g,noexec"]
        for volume in fence.volumes:
            mode = "ro" if volume.read_only else "rw"
            place = f"{volume.outside}:/{volume.inside}"
            found += ["--volume", f"{place}:{mode},nosuid,nodev,noexec"]
        return found

    def _filters(self) -> list[str]:
        found = []
        if self.fence.seccomp is not None:
            path = self.bundle / "seccomp.json"
            path.write_bytes(msgspec.json.encode(self.fence.seccomp))
            found += ["--security-opt", f"seccomp={path}"]
        if self.fence.firewall:
            found += ["--hooks-dir", str(self._hook())]
        return found

    def _hook(self) -> Path:
        """The folder with the hook that loads our rules, as oci-hooks(5) has it."""
        rules, folder = self.bundle / "rules.nft", self.bundle / "hooks"
        rules.write_text(self.fence.firewall)
        rules.chmod(0o644)
        folder.mkdir()
        hook = {
            "version": "1.0.0",
            "hook": {"path": NFT, "args": ["nft", "-f", str(rules)]},
            "when": {"always": True},
            "stages": ["createContainer"],
        }
        (folder / "rules.json").write_text(json.dumps(hook))
        return folder
