"""Archives as sources of a baseline: numbers that no file has."""

from __future__ import annotations

import tarfile

import pytest

from ringfence.collect.files.streams import Stretch
from ringfence.errors import InputError
from ringfence.watch.baseline.archive import Archive
from ringfence.watch.baseline.entry import Entry as Kept
from ringfence.watch.baseline.rules import Rules
from ringfence.watch.baseline.sorting import Sorter
from tests.images import Entry, layer


def laid(data: bytes, name: bytes) -> Kept:
    """The entry `name` of the root, once the archive `data` is laid."""
    sorter = Sorter()
    try:
        Archive(sorter, "sha256", Rules([]), image=False).lay(
            [Stretch(data, "a.tar", 0, len(data))]
        )
        found = sorter.get(b"", name)
    finally:
        sorter.close()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12.5", 12_500_000_000), ("9223372036.5", 9_223_372_036_500_000_000),
     ("9223372037", None), ("9" * 30, None), ("-" + "9" * 30, None), ("9" * 5000, None)],
)  # fmt: skip
def test_a_time_that_does_not_fit_is_not_told(text: str, expected: int | None) -> None:
    assert laid(layer([Entry("a", pax={"mtime": text})]), b"a").mtime == expected


def device(major: bytes, minor: bytes) -> bytes:
    data = bytearray(layer([Entry("dev", kind=tarfile.CHRTYPE)], tarfile.GNU_FORMAT))
    data[329:337], data[337:345] = major, minor
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    return bytes(data)


def test_a_device_number_that_linux_has_not_is_not_told() -> None:
    assert laid(device(b"0000001\0", b"0000003\0"), b"dev").device == 0x103
    assert laid(device(b"\x80" + b"\xff" * 7, b"\x80" + b"\xff" * 7), b"dev").device is None


def test_an_image_has_a_bound_on_its_files_and_a_plain_archive_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ringfence.watch.baseline.archive.MOST_MEMBERS", 1)
    data = layer([Entry("a"), Entry("b")])
    assert laid(data, b"b").name == b"b"
    sorter = Sorter()
    image = Archive(sorter, "sha256", Rules([]), image=True)
    with pytest.raises(InputError, match="files together"):
        image.lay([Stretch(data, "a.tar", 0, len(data))])
    sorter.close()


def test_many_deep_folders_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringfence.watch.baseline.archive.MOST_IMPLIED", 1 << 20)
    assert laid(layer([Entry("a/" * 1000 + "f")]), b"a").name == b"a"
    with pytest.raises(InputError, match="names of its folders take more than 1 MiB"):
        laid(layer([Entry("a/" * 1000 + "f"), Entry("b/" * 1000 + "f")]), b"a")
