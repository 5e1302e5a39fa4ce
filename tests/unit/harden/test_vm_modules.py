"""Drivers of a kernel: found by name, loaded after what they need, refused where they are not."""

from __future__ import annotations

import lzma
import os
import struct
from pathlib import Path

import pytest

from ringfence.errors import InputError
from ringfence.harden.vm.modules import find_modules, kernel_release, needed_by

RELEASE = "6.1.0-9-test"
NEEDS = {
    "virtio": "",
    "virtio_ring": "virtio",
    "virtio_pci": "virtio_ring,virtio",
    "failover": "",
    "virtio-net": "virtio_ring,failover",
}


def kernel(path: Path, release: str = RELEASE) -> Path:
    """The head of a boot image with its version string."""
    head = bytearray(4096)
    head[0x1FE:0x200], head[0x202:0x206] = b"\x55\xaa", b"HdrS"
    head[0x20E:0x210] = struct.pack("<H", 0x100)
    text = f"{release} (me@here) #1 SMP".encode()
    head[0x300 : 0x300 + len(text)] = text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head)
    return path


def module(needs: str, info: str = ".modinfo") -> bytes:
    """A relocatable ELF file with one section of information, as modules have it."""
    data = f"license=GPL\0depends={needs}\0name=x\0".encode()
    names = b"\0" + info.encode() + b"\0.names\0"
    start = 64 + len(data) + len(names)
    sections = [
        struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 64, len(data), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", len(info) + 2, 3, 0, 0, 64 + len(data), len(names), 0, 0, 1, 0),
    ]
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, 3, 2)
    return head + data + names + b"".join(sections)


def planted(top: Path, ending: str = ".ko", release: str = RELEASE) -> Path:
    folder = top / "lib/modules" / release
    (folder / "kernel/drivers").mkdir(parents=True)
    for name, needs in NEEDS.items():
        body = module(needs)
        body = lzma.compress(body) if ending.endswith("xz") else body
        (folder / f"kernel/drivers/{name}{ending}").write_bytes(body)
    return folder


def names(found: object) -> list[str]:
    assert isinstance(found, tuple)
    return [item.name for item in found]


@pytest.mark.parametrize("ending", [".ko", ".ko.xz"])
def test_each_comes_after_what_it_needs(tmp_path: Path, ending: str) -> None:
    planted(tmp_path, ending)
    found = find_modules(kernel(tmp_path / "boot/vmlinuz"), None)
    assert names(found) == ["virtio", "virtio_ring", "virtio_pci", "failover", "virtio_net"]
    assert found is not None and all(item.body[:4] == b"\x7fELF" for item in found)


def test_what_is_built_in_is_left_out(tmp_path: Path) -> None:
    folder = planted(tmp_path)
    (folder / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\nkernel/virtio.ko")
    found = find_modules(kernel(tmp_path / "k"), tmp_path)
    assert names(found) == ["virtio_ring", "failover", "virtio_net"]


def test_folders_of_another_kernel_are_not_taken(tmp_path: Path) -> None:
    planted(tmp_path, release="6.1.0-8-test")
    image = kernel(tmp_path / "boot/vmlinuz")
    assert find_modules(image, None) is None
    with pytest.raises(InputError, match=f"no modules of {RELEASE}"):
        find_modules(image, tmp_path)


def test_a_missing_one_is_named(tmp_path: Path) -> None:
    folder = planted(tmp_path)
    os.unlink(folder / "kernel/drivers/failover.ko")
    with pytest.raises(InputError, match="no module failover, which virtio_net needs"):
        find_modules(kernel(tmp_path / "k"), tmp_path)


def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    folder = planted(tmp_path)
    target = folder / "kernel/drivers/virtio.ko"
    target.rename(tmp_path / "elsewhere.ko")
    target.symlink_to(tmp_path / "elsewhere.ko")
    with pytest.raises(InputError, match="is a link"):
        find_modules(kernel(tmp_path / "k"), tmp_path)


@pytest.mark.parametrize("body", [b"", b"\x7fELF", module("x", ".other"), module("x")[:90]])
def test_what_is_no_module_is_refused(body: bytes) -> None:
    with pytest.raises(InputError, match="no kernel module"):
        needed_by(body, "a.ko")


def test_modules_that_need_each_other_do_not_hang(tmp_path: Path) -> None:
    folder = planted(tmp_path)
    (folder / "kernel/drivers/virtio.ko").write_bytes(module("virtio_ring"))
    assert "virtio_net" in names(find_modules(kernel(tmp_path / "k"), tmp_path))


@pytest.mark.parametrize("release", ["", "../../etc", "a\x01b"])
def test_a_release_that_is_none_is_refused(tmp_path: Path, release: str) -> None:
    with pytest.raises(InputError, match="no Linux boot image"):
        kernel_release(kernel(tmp_path / "k", release))
