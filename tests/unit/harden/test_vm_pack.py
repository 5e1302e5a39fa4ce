"""What goes into a virtual machine beside the service, and what its init is told."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from ringfence.errors import InputError
from ringfence.harden.layout import Entry
from ringfence.harden.service import Identity, Service
from ringfence.harden.vm.modules import Module
from ringfence.harden.vm.pack import CMDLINE, INITRD, Parts, packed
from ringfence.harden.vm.settings import MOST_WORDS, settings
from ringfence.run.fence import Fence, configuration
from tests.unit.harden.test_policies import NEEDS
from tests.unit.harden.trees import planted

PARTS = Parts("6.1.0", (Module("virtio", b"driver"),), b"the init")


def rows(text: bytes) -> list[tuple[str, str]]:
    assert text.endswith(b"\0")
    return [(key, value) for key, _, value in
            (word.partition("=") for word in text.decode()[:-1].split("\0"))]  # fmt: skip


def told(text: bytes, key: str) -> list[str]:
    return [value for found, value in rows(text) if found == key]


def test_the_init_is_told_who_and_what() -> None:
    needs = msgspec.structs.replace(NEEDS, who=Identity(33, 34, (5, 6)))
    text = settings(needs, "usr/sbin/web", ("virtio", "virtio_net"))
    assert told(text, "uid") == ["33"] and told(text, "gid") == ["34"]
    assert told(text, "group") == ["5", "6"]
    assert told(text, "program") == ["/usr/sbin/web"]
    assert told(text, "arg") == ["/usr/sbin/web", "-g", 'say "100%" $x']
    assert told(text, "env") == ["PATH=/bin"] and told(text, "stop") == ["15"]
    assert told(text, "writable") == ["/run", "/var/lib/web"]
    assert told(text, "module") == ["/.ringfence/virtio.ko", "/.ringfence/virtio_net.ko"]
    assert set(told(text, "module")) < set(told(text, "own"))


def test_modules_are_closed_last_and_io_uring_unless_it_is_used() -> None:
    written = told(settings(NEEDS, "web", ()), "write")
    assert written[-1] == "/proc/sys/kernel/modules_disabled 1"
    assert "/proc/sys/kernel/io_uring_disabled 2" in written
    using = msgspec.structs.replace(NEEDS, calls={**NEEDS.calls, "io_uring_setup": "seen"})
    assert not any("io_uring" in text for text in told(settings(using, "web", ()), "write"))


def test_the_host_has_the_name_that_it_has_for_a_container(tmp_path: Path) -> None:
    fence = Fence(tmp_path, ("web",), (), "/", 33, 33)
    name = configuration(fence)["hostname"]
    assert f"/proc/sys/kernel/hostname {name}" in told(settings(NEEDS, "web", ()), "write")


@pytest.mark.parametrize(
    "command", [("web", "a\0b"), ("web",) * (MOST_WORDS + 1), ("web", "x" * (1 << 20))]
)
def test_a_command_that_does_not_fit_is_refused(command: tuple[str, ...]) -> None:
    needs = msgspec.structs.replace(NEEDS, service=Service(command))
    with pytest.raises(InputError):
        settings(needs, "web", ())


def test_the_files_are_the_same_each_time_and_hold_service_and_init(tmp_path: Path) -> None:
    tree = planted(tmp_path / "tree", {"bin/web*": "program"})
    entries = (Entry("bin", "folder", 0o755), Entry("bin/web", "file", 0o755, source="bin/web"),
               Entry("etc", "link", 0o777, target="bin"))  # fmt: skip
    needs = msgspec.structs.replace(NEEDS, service=Service(("/bin/web",)), entries=entries)
    found = packed(PARTS, needs, tree, 7)
    assert found == packed(PARTS, needs, tree, 7)
    assert found[INITRD] != packed(PARTS, needs, tree, 8)[INITRD]
    content = gzip.decompress(found[INITRD])
    for name in (b"bin/web\0", b".ringfence/init\0", b".ringfence/filter\0", b"virtio.ko\0"):
        assert name in content
    assert b"rdinit=/.ringfence/init" in found[CMDLINE]


def test_our_own_name_in_the_tree_is_refused(tmp_path: Path) -> None:
    tree = planted(tmp_path / "tree", {"bin/web*": "program"})
    entries = (Entry(".ringfence", "folder", 0o755),)
    needs = msgspec.structs.replace(NEEDS, service=Service(("/bin/web",)), entries=entries)
    with pytest.raises(InputError, match="name of ours"):
        packed(PARTS, needs, tree, 0)
