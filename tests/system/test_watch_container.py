"""A container under runc, on an overlay: its baseline is of the image, what happens inside is told
with the container's name, and only the image's code runs in it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.command import ringfence
from tests.system.conftest import program
from tests.system.containers import NGINX, bundle, engine_defaults, running
from tests.system.watch_runs import Run, tmpfs
from tests.watching import Watched

pytestmark = pytest.mark.system
MOUNTED = "/etc/nginx/nginx.conf"
"""Where this container has a file of the host over the image's."""


class Inside(NamedTuple):
    """A running container: its name, and the upper folder of its overlay."""

    name: str
    upper: Path

    def does(self, *command: str) -> int:
        """Exit code of a command inside, started with runc exec."""
        done = subprocess.run(["runc", "exec", self.name, *command], capture_output=True,
                              timeout=30, check=False)  # fmt: skip
        return done.returncode


@pytest.fixture
def inside(rootfs: Path, tmp_path: Path) -> Iterator[Inside]:
    """nginx on an overlay over the image's files, as engines start it."""
    program("runc")
    with tmpfs(tmp_path / "overlay") as place:
        for name in ("upper", "work", "root"):
            (place / name).mkdir(mode=0o755)
        options = f"lowerdir={rootfs},upperdir={place}/upper,workdir={place}/work"
        root = place / "root"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True)
        try:
            configuration = tmp_path / "nginx.conf"
            configuration.write_text(NGINX)
            config = engine_defaults(root, configuration)
            config["mounts"] = [mount for mount in config["mounts"]
                                if not mount["destination"].startswith("/var/")]  # fmt: skip
            with running(bundle(tmp_path / "bundle", config)) as (name, _):
                yield Inside(name, place / "upper")
        finally:
            subprocess.run(["umount", "-l", root], check=True)


@pytest.fixture
def watch(inside: Inside, rootfs_tar: Path, tmp_path: Path) -> Run:
    """The container as a target, with the image's baseline."""
    run = Run(tmp_path, Path(inside.name))
    image = Watched(tmp_path, rootfs_tar)
    image.init("--rule", f"{MOUNTED}=ignored")
    return run


def test_the_images_baseline_holds_in_the_container_until_something_changes(
    inside: Inside, watch: Run
) -> None:
    found = watch.watched.report()
    assert found["target"] == {"kind": "container", "name": inside.name}
    assert not (found["added"] or found["removed"] or found["changed"])
    assert found["checked"]["files_read"] > 1000
    assert any("by the container's engine" in note and "/dev/" in note for note in found["notes"])
    assert inside.does("sh", "-c", "echo x >> /etc/passwd; rm /etc/hostname; cp /bin/ls /opt") == 0
    found = watch.watched.report()
    assert [item["path"] for item in found["added"]] == ["/opt/ls"]
    assert [item["path"] for item in found["removed"]] == ["/etc/hostname"]
    assert [item["path"] for item in found["changed"]] == ["/etc/passwd"]


def test_a_change_inside_is_told_with_the_containers_name(inside: Inside, watch: Run) -> None:
    with watch.running():
        assert inside.does("sh", "-c", "echo x >> /etc/passwd; sleep 0.3") == 0
        found = watch.until_event("change", "/etc/passwd", verdict="changed")
        assert found.detail["severity"] == "critical"
        who = found.detail["who"]
        assert (who["container"], who["uid"], who["executable"]) == (
            inside.name,
            0,
            "/usr/bin/dash",
        )
        (inside.upper / "opt").mkdir(exist_ok=True)
        assert watch.stop() == 0


def test_only_the_images_code_runs_inside(inside: Inside, watch: Run) -> None:
    with watch.running("--enforce", "exec", sign="enforce"):
        assert inside.does("/usr/sbin/nginx", "-v") == 0
        assert inside.does("sh", "-c", "cp /bin/true /opt/own && chmod 755 /opt/own") == 0
        assert inside.does("/opt/own") != 0
        assert inside.does("cp", "/bin/true", "/tmp/own") == 0
        assert inside.does("/tmp/own") != 0, "on another mount of the container's"
        denied = watch.until_event("denial", "/opt/own", how="execute")
        assert denied.detail["who"]["container"] == inside.name
        watch.until_event("denial", "/tmp/own", how="execute")
        assert shutil.which("true") and subprocess.run(["true"], check=False).returncode == 0
        assert ringfence("watch", "log", watch.ledger, "--kind", "denial").out.count("\n") >= 2
        assert watch.stop() == 0
    assert inside.does("/opt/own") == 0, "it was enforcement alone that kept it"
