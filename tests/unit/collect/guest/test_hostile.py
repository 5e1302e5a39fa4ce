"""Images that lie: one line or a result, never another exception, never without bounds."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.collect.guest import strings
from ringfence.collect.guest.deployment import deployment_of
from ringfence.collect.guest.image import accepts, read_guest
from ringfence.collect.guest.recognise import Guest
from ringfence.collect.guest.source import MOST_READ, Meter, Source
from ringfence.errors import InputError
from ringfence.knowledge.guests import load_guests
from ringfence.knowledge.loader import load
from tests.command import ringfence
from tests.unit.collect.guest.reading import read
from tests.unit.collect.guest.samples import (
    PVH,
    bzimage,
    elf,
    gpt,
    mbr,
    multiboot,
    nanos_disk,
    pe,
    qcow2,
    solo5_abi,
    solo5_manifest,
)

KERNEL = elf(
    notes=solo5_abi(1) + solo5_manifest(("service", 2), ("storage", 1)) + PVH,
    sections={".init.text": b"\0" * 16, "__xen_guest": b"GUEST_OS=Mini-OS\0"},
    symbols=("__stack_chk_fail", "caml_main"),
    contents=multiboot(),
    interpreter="/nonexistent/solo5/",
)
SEEDS = {
    "elf": KERNEL,
    "bzimage": bzimage(version="6.1.0 (a@b) #1 SMP", payload=gzip.compress(KERNEL)),
    "uki": pe({".cmdline": (0, b"quiet"), ".linux": (0, bzimage(payload=gzip.compress(KERNEL)))}),
    "packed": gzip.compress(KERNEL),
    "mbr": mbr((0x0F, 1, 16), (0x83, 4, 8)) + mbr((0x83, 1, 2), (0x05, 1, 4)) + bytes(8192),
    "gpt": gpt(("0fc63daf-8483-4772-8e79-3d69d8477de4", 34, 60, "root")),
    "nanos": nanos_disk(),
    "qcow2": qcow2(nanos_disk(), backing="/etc/shadow"),
}


def outcome(data: bytes) -> Guest | None:
    """What is read of the data; None for one printable line. Anything else goes on up."""
    try:
        guest = read(data)
    except InputError as error:
        assert error.line().isprintable()
        return None
    assert deployment_of(guest, load_guests(), load()).notes
    return guest


@pytest.mark.parametrize("name", SEEDS)
def test_the_seeds_are_sound(name: str) -> None:
    assert outcome(SEEDS[name]) is not None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_mutated_images_never_raise_anything_else(data: st.DataObject) -> None:
    mutated = bytearray(SEEDS[data.draw(st.sampled_from(sorted(SEEDS)))])
    near = min(len(mutated) - 8, 1400)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, near) | st.integers(0, len(mutated) - 8))
        form = data.draw(st.sampled_from(["<B", "<H", "<I", "<Q", ">I", ">Q"]))
        most = (1 << 8 * struct.calcsize(form)) - 1
        value = data.draw(st.integers(0, most) | st.sampled_from([0, most, most >> 1, 1 << 5]))
        struct.pack_into(form, mutated, place, min(value, most))
    outcome(bytes(mutated))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(SEEDS)), st.floats(0, 1))
def test_images_cut_anywhere_never_raise_anything_else(name: str, share: float) -> None:
    data = SEEDS[name]
    outcome(data[: int(len(data) * share)])


def test_a_terabyte_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert not accepts(str(path))
    done = ringfence("measure", "--kind", "guest", path)
    assert (done.code, done.out) == (2, "")
    assert "no image that can be read" in done.err


@pytest.mark.parametrize(
    "head", [mbr((0x83, 1, 0xFFFFFFFF)), KERNEL, nanos_disk()], ids=["disk", "kernel", "nanos"]
)
def test_a_terabyte_behind_a_sound_header(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(1 << 40)
    with path.open("rb") as file:
        from ringfence.collect.files.filebytes import of_file

        source = Source(of_file(file), str(path))
        guest = read_guest(source, load_guests())
    assert guest.size == 1 << 40
    assert source.meter.read < MOST_READ
    assert ringfence("measure", path).code == 0


def test_reading_has_a_limit_over_all_parts() -> None:
    source = Source(bytes(4096), "sample", meter=Meter(5000))
    source.read(0, 4096)
    with pytest.raises(InputError, match="would have to be read"):
        source.part(100, 2000).read(0, 2000)


def test_strings_are_found_across_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strings, "WINDOW", 16)
    data = bytes(13) + b"needle" + bytes(40) + b"needle"
    found = strings.search(Source(data, "sample"), ["needle", "other"])
    assert found == {"needle": [13, 59], "other": []}


def test_what_is_no_plain_file_is_never_opened(tmp_path: Path) -> None:
    import os

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/zero")):
        assert not accepts(str(path))
        assert ringfence("measure", "--kind", "guest", path).code == 2
