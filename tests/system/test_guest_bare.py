"""Programs that run in ring 0 without a system: memtest86+, iPXE in its forms, a boot sector."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.conftest import program
from tests.system.guests import examined, values
from tests.system.test_guest_static import package

pytestmark = pytest.mark.system


def test_ipxe_runs_unpaged_in_ring_0() -> None:
    found = examined(package("ipxe") / "boot" / "ipxe.lkrn", "--boots", 2)
    facts = values(found)
    assert (found["kernel"], found["kind"]) == ("unknown kernel", "bzImage")
    assert facts["ring3_share"] in (0, None)
    assert facts["halted_share"] > 0.5
    assert facts["paging"] == "off"
    assert facts["page_zero_mapped"] is facts["stack_executable"] is True
    assert facts["writable_executable_pages"] == (256 << 20) // 4096
    assert facts["wp"] is facts["nx"] is False


def test_memtest_runs_in_ring_0_with_everything_mapped() -> None:
    found = examined(package("memtest86+") / "boot" / "memtest86+x64.bin", "--boots", 2)
    facts = values(found)
    assert found["kernel"] == "unknown kernel"
    assert (facts["ring0_share"], facts["ring3_share"], facts["halted_share"]) == (1, 0, 0)
    assert facts["paging"] == "4-level"
    assert facts["page_zero_mapped"] is facts["stack_executable"] is True
    assert facts["writable_executable_pages"] > 0
    assert facts["user_pages"] == 0
    assert facts["randomised_bits"]["code"] == 0


def test_an_efi_program() -> None:
    found = examined(package("ipxe") / "boot" / "ipxe.efi", "--boots", 1, "--memory", "512m")
    facts = values(found)
    assert found["kind"] == "EFI program"
    assert (facts["paging"], facts["ring3_share"]) == ("4-level", 0)
    # Read by the firmware's driver, which lets go of the device before the program runs.
    assert "virtio-blk" in {one["name"] for one in facts["devices"]}


def test_a_cd() -> None:
    found = examined(package("ipxe") / "usr/lib/ipxe/ipxe.iso", "--boots", 1)
    assert found["kind"] == "CD image"
    assert values(found)["paging"] == "off"
    assert "ide-cd" in values(found)["devices_given"]


# Changes its own first sector through the BIOS, reads it back, and says on the serial line which
# byte it found.
WRITER = """
.code16
.globl _start
_start: xor %ax, %ax
        mov %ax, %ds
        mov %ax, %es
        movb $0x77, mark
        mov $_start, %bx
        mov $0x0301, %ax
        call disk
        movb $0x6e, mark
        mov $0x0201, %ax
        call disk
        mov mark, %al
        mov $0x3f8, %dx
        out %al, %dx
1:      cli
        hlt
        jmp 1b
disk:   mov $1, %cx
        xor %dh, %dh
        int $0x13
        ret
mark:   .byte 0x6f
        .org 510
        .byte 0x55, 0xaa
"""
HEARD = (
    "import os, socket; s = socket.socket(socket.AF_UNIX); s.settimeout(9)\n"
    "s.connect(os.environ['RINGFENCE_SERIAL']); assert s.recv(1) == b'w'"
)


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_disk_that_writes_itself_stays_as_it_was(tmp_path: Path, form: str) -> None:
    (tmp_path / "writer.S").write_text(WRITER)
    words = ["-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,-Ttext=0x7c00"]
    words += ["-Wl,--oformat=binary", "writer.S", "-o", "raw"]
    subprocess.run([program("gcc"), *words], check=True, cwd=tmp_path)
    disk = tmp_path / "raw"
    with disk.open("r+b") as file:
        file.truncate(1 << 20)
    if form == "qcow2":
        disk = tmp_path / "disk.qcow2"
        convert = [program("qemu-img"), "convert", "-O", "qcow2", "raw", str(disk)]
        subprocess.run(convert, check=True, cwd=tmp_path)
    before = disk.read_bytes()
    exercise = shlex.join([sys.executable, "-c", HEARD])
    found = examined(disk, "--boots", 1, "--exercise", exercise)
    assert found["unseen"] == []
    assert disk.read_bytes() == before
    assert found["kind"] == f"{form} disk"
    assert values(found)["halted_share"] == 1
    assert values(found)["paging"] == "off"
