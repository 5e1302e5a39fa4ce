"""Disks: partition tables, file systems, and qcow2 images, whose names are never opened."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from ringfence.collect.guest.image import accepts
from ringfence.errors import InputError
from tests.unit.collect.guest.reading import read
from tests.unit.collect.guest.samples import gpt, mbr, nanos_disk, qcow2

EFI = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"


def with_ext4(disk: bytes, start: int) -> bytes:
    """The disk with ext4's magic in a partition that begins at `start`."""
    data = bytearray(disk.ljust(start + 2048, b"\0"))
    data[start + 1080 : start + 1082] = b"\x53\xef"
    return bytes(data)


def test_partitions_of_an_mbr_with_their_file_systems() -> None:
    guest = read(with_ext4(mbr((0x83, 8, 16), (0x82, 24, 8)), 8 * 512))
    assert guest.facts["partition 1"].detail == "Linux, 8,192 bytes, ext2/3/4"
    assert guest.facts["partition 2"].detail == "Linux swap, 4,096 bytes"
    assert guest.facts["partition 1"].source == "sample@0x1000"


def test_logical_partitions_are_followed_and_a_loop_ends() -> None:
    def chain(*entries: tuple[int, int, int]) -> bytes:
        return mbr(*entries, code=b"")

    disk = mbr((0x0F, 4, 16)).ljust(4 * 512, b"\0") + chain((0x83, 1, 2), (0x05, 4, 4))
    disk = disk.ljust(8 * 512, b"\0") + chain((0x83, 1, 2), (0x05, 0, 4))
    guest = read(disk.ljust(32 * 512, b"\0"))
    assert {name for name in guest.facts if name.startswith("partition")} == {
        "partition 1",
        "partition 2",
    }


def test_partitions_of_a_gpt() -> None:
    disk = with_ext4(gpt((EFI, 34, 39, "boot"), (LINUX, 40, 60, "root")), 40 * 512)
    guest = read(disk)
    assert "GPT with 2 partitions" in guest.facts["disk"].detail
    assert guest.facts["partition 1"].detail == "EFI system, 3,072 bytes"
    assert guest.facts["partition 2"].detail == "Linux file system, 10,752 bytes, ext2/3/4"
    assert not guest.recognised


@pytest.mark.parametrize("offset", [512 + 24, 512 + 84], ids=["header", "entry size"])
def test_a_gpt_without_its_checksum_is_broken(offset: int) -> None:
    data = bytearray(gpt((LINUX, 34, 60, "root")))
    data[offset] ^= 0xFF
    with pytest.raises(InputError, match="broken disk"):
        read(bytes(data))


def test_a_gpt_that_claims_a_billion_entries_is_read_as_far_as_it_goes() -> None:
    data = bytearray(gpt((LINUX, 34, 60, "root")))
    struct.pack_into("<I", data, 512 + 80, 1 << 30)
    struct.pack_into("<I", data, 512 + 16, 0)
    struct.pack_into("<I", data, 512 + 16, zlib.crc32(data[512 : 512 + 92]))
    assert "GPT with 1 partitions" in read(bytes(data)).facts["disk"].detail


def test_a_nanos_disk_needs_its_whole_record() -> None:
    assert read(nanos_disk()).system.id == "nanos"
    changed = bytearray(nanos_disk())
    changed[0x1BA] = 13
    first = (512 + 0x2000 + 4096) // 512
    changed[first * 512] = 0
    assert read(bytes(changed)).system.id == "unknown"


@pytest.mark.parametrize("bits", [9, 12, 16])
def test_the_disk_inside_a_qcow2_image_is_read(bits: int) -> None:
    size = 1 << (15 if bits == 9 else 17)
    guest = read(qcow2(nanos_disk()[:size], bits=bits, size=size))
    assert guest.format == "qcow2"
    assert guest.system.id == "nanos"
    assert guest.shown[0].evidence.source == "sample (disk inside)@0x1aa"


def test_a_backing_file_is_named_and_not_opened(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    guest = read(qcow2(backing=str(trap)))
    assert str(trap) in guest.facts["backing file"].detail
    assert any("not opened" in item.why for item in guest.unseen)
    assert read(qcow2(backing="/etc/shadow")).system.id == "unknown"
    assert "backing file" not in read(qcow2()).facts


def changed(offset: int, form: str, value: int) -> bytes:
    """A sound image with one number changed."""
    data = bytearray(qcow2(nanos_disk()))
    struct.pack_into(form, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [changed(4, ">I", 9), changed(20, ">I", 63), changed(20, ">I", 0), changed(24, ">Q", 1 << 63),
     changed(24, ">Q", 1 << 50), changed(36, ">I", 0xFFFFFFFF), changed(40, ">Q", 1 << 60),
     changed(40, ">Q", 77), changed(65536, ">Q", 1 << 50), changed(131072, ">Q", 1 << 50),
     changed(131072, ">Q", 1 << 62), qcow2()[:40]],
    ids=["version", "huge clusters", "tiny clusters", "size", "L1 too small", "L1 size",
         "L1 beyond", "L1 not aligned", "L2 beyond", "cluster beyond", "no data", "cut"],
)  # fmt: skip
def test_a_broken_qcow2_image_ends_in_one_line(data: bytes) -> None:
    with pytest.raises(InputError, match="broken qcow2") as caught:
        read(data)
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize(
    ("data", "why"),
    [(changed(32, ">I", 2), "encrypted (LUKS)"), (changed(72, ">Q", 4), "another file"),
     (changed(72, ">Q", 16), "extended L2"), (changed(72, ">Q", 1 << 40), "unknown incompatible")],
    ids=["encrypted", "external data", "extended L2", "unknown feature"],
)  # fmt: skip
def test_what_cannot_be_read_inside_is_said(data: bytes, why: str) -> None:
    guest = read(data)
    assert not guest.recognised
    assert any(why in item.why for item in guest.unseen)


@pytest.mark.parametrize("size", [512, 1 << 20])
def test_a_boot_sector_without_a_partition_table_is_a_disk_of_an_unknown_kernel(size: int) -> None:
    """As firmware takes it: by the signature at the end of the first sector."""
    start = b"\xeb\xfe".ljust(510, b"\0")
    guest = read((start + b"\x55\xaa").ljust(size, b"\0"))
    assert (guest.format, guest.system.id) == ("disk", "unknown")
    assert [entry.id for entry, _ in guest.protocols] == ["boot-sector"]
    assert guest.facts["disk"].detail.endswith("bytes, no partition table")
    with pytest.raises(InputError, match="no image that can be read"):
        read((start + b"\x55\xab").ljust(size, b"\0"))


def test_detection_by_the_first_bytes(tmp_path: Path) -> None:
    def detected(data: bytes) -> bool:
        path = tmp_path / "file"
        path.write_bytes(data)
        return accepts(str(path))

    assert detected(mbr((0x83, 1, 8)) + bytes(4096))
    assert detected(qcow2())
    assert detected(with_ext4(b"", 0))
    assert not detected(bytes(4096))
    assert detected(b"\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa")
    assert not detected(b"\xeb\xfe".ljust(510, b"\0") + b"\xaa\x55")
    assert not detected(b"\xaa\x55" * 2048)
    assert not detected(b"")
    assert not accepts(str(tmp_path))
    assert not accepts("/dev/zero")
