"""The tar reader against the standard library's and GNU tar's, and against broken archives."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.collect.files.streams import Stretch
from ringfence.collect.files.tar import Member, members
from ringfence.errors import InputError
from tests.images import Entry, folder, hard, layer, link

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "/".join(["a-folder-with-a-name"] * 9) + "/file"
UNICODE = "földér/ünïcode-名前"
KINDS = {"0": tarfile.REGTYPE, "1": tarfile.LNKTYPE, "2": tarfile.SYMTYPE, "3": tarfile.CHRTYPE,
         "4": tarfile.BLKTYPE, "5": tarfile.DIRTYPE, "6": tarfile.FIFOTYPE}  # fmt: skip


def read(data: bytes) -> list[Member]:
    return list(members(Stretch(data, "test.tar", 0, len(data))))


def whole(data: bytes) -> bool:
    """Whether the reader passes over the archive without passing its end."""
    source = Stretch(data, "test.tar", 0, len(data))
    for _ in members(source):
        pass
    return source.at_end()


def entries() -> list[Entry]:
    return [
        folder("etc"),
        Entry("etc/passwd", b"x" * 700, mode=0o600, uid=1000),
        Entry("bin/su", b"", mode=0o4755),
        link("lib", "usr/lib"),
        hard("etc/shadow", "etc/passwd"),
        Entry("dev/null", kind=tarfile.CHRTYPE, mode=0o666),
        Entry("dev/sda", kind=tarfile.BLKTYPE),
        Entry("run/fifo", kind=tarfile.FIFOTYPE),
        Entry("exact", b"y" * 512),
    ]


def compare(data: bytes) -> None:
    ours = read(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        theirs = archive.getmembers()
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.path.rstrip("/") == other.name
        assert KINDS[mine.kind] == (other.type if other.type != b"S" else tarfile.REGTYPE)
        assert (mine.mode, mine.uid, mine.gid) == (other.mode, other.uid, other.gid)
        assert mine.target == other.linkname
        if mine.kind == "0":
            assert mine.size == other.size


@pytest.mark.parametrize("form", FORMATS)
def test_every_kind_of_member_as_the_standard_library_reads_it(form: str) -> None:
    compare(layer(entries(), FORMATS[form]))


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_long_and_foreign_names(form: str) -> None:
    odd = [Entry(LONG * 2, b"1"), Entry(UNICODE, b"2"), link("l", LONG * 2), hard("h", UNICODE)]
    compare(layer([*odd, Entry("after", b"3")], FORMATS[form]))


def test_large_ids_and_times() -> None:
    compare(layer([Entry("a", b"x", uid=3_000_000_000)], tarfile.GNU_FORMAT))
    compare(layer([Entry("a", b"x", uid=3_000_000_000)], tarfile.PAX_FORMAT))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.text("abcdé/", min_size=1, max_size=150).filter(lambda name: name.strip("/")),
            st.binary(max_size=1500),
            st.integers(0, 0o7777),
        ),
        max_size=5,
    ),
    st.sampled_from(["gnu", "pax"]),
)
def test_random_archives(rows: list[tuple[str, bytes, int]], form: str) -> None:
    named = [Entry(name.strip("/"), body, mode=mode) for name, body, mode in rows]
    compare(layer(named, FORMATS[form]))


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_sparse_files_of_gnu_tar(form: str, tmp_path: Path) -> None:
    """Ten gigabytes apparent, a few kilobytes stored: told apart, read at once."""
    if shutil.which("tar") is None:
        pytest.skip("no GNU tar")
    with (tmp_path / "big").open("wb") as file:
        for place in (0, 1 << 30, 7 << 30):
            file.seek(place)
            file.write(b"data")
        file.truncate(10 << 30)
    (tmp_path / "after").write_text("after")
    subprocess.run(
        ["tar", "-S", f"--format={form}", "-cf", "s.tar", "big", "after"], cwd=tmp_path, check=True
    )
    found = {member.path: member for member in read((tmp_path / "s.tar").read_bytes())}
    assert found["big"].size == 10 << 30
    assert found["big"].stored < 1 << 20
    assert found["after"].size == 5


@pytest.mark.parametrize("form", FORMATS)
def test_an_archive_cut_anywhere_is_noticed(form: str) -> None:
    """Cut inside a header or a body: an error, or the reader knows that it passed the end."""
    data = layer(entries(), FORMATS[form])
    end = len(data.rstrip(b"\0"))
    for length in range(1, end, 97):
        if length % 512 == 0:
            continue
        try:
            assert not whole(data[:length]), length
        except InputError as error:
            assert "cut short" in error.line() or "checksum" in error.line()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_mutated_archives_raise_nothing_but_the_one_error(data: st.DataObject) -> None:
    original = layer(entries(), FORMATS[data.draw(st.sampled_from(list(FORMATS)))])
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 6))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(read(bytes(mutated))) < 100
    except InputError as error:
        assert "\n" not in error.line()


def test_an_extension_header_of_unreasonable_size_is_refused() -> None:
    data = bytearray(layer([Entry(LONG, b"")], tarfile.GNU_FORMAT))
    data[124:136] = b"77777777777\0"
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    with pytest.raises(InputError, match="extension header of 8589934591 bytes"):
        read(bytes(data))


def test_capabilities_come_from_the_extended_attribute() -> None:
    raw = bytes.fromhex("0100000200200000000000000000000000000000")
    pax = {"SCHILY.xattr.security.capability": raw.decode("latin-1")}
    found = read(layer([Entry("ping", b"x", pax=pax)]))
    assert found[0].capability


def extended(kind: bytes = b"x", **records: bytes) -> bytes:
    """An extension header with `records`."""
    body = b""
    for key, value in records.items():
        rest = b" " + key.replace("__", ".").encode() + b"=" + value + b"\n"
        length = next(n for n in range(len(rest), len(rest) + 9) if n == len(rest) + len(str(n)))
        body += str(length).encode() + rest
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


FILE = layer([Entry("a", b"x")])


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ({"path": b"a/" * 60_000 + b"f"}, "a name of 120001 bytes, the most is 4096"),
        ({"linkpath": b"a" * 4097}, "a link target of 4097 bytes"),
        ({"path": b"a\0b"}, "a name with a zero byte"),
        ({"linkpath": b"a\0b"}, "a link target with a zero byte"),
        ({"uid": b"9" * 20}, "larger than 63 bits"),
        ({"uid": b"4294967295"}, "an owner of 4294967295, the largest is 4294967294"),
        ({"gid": b"4294967295"}, "an owner of 4294967295"),
        ({"GNU__sparse__realsize": b"9" * 20}, "larger than 63 bits"),
        ({"size": b"9223372036854775808"}, "larger than 63 bits"),
    ],
)
def test_a_member_that_linux_could_not_hold_is_refused(
    records: dict[str, bytes], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(extended(**records) + FILE)
    assert caught.value.line().startswith("test.tar at byte ")


def test_the_largest_that_linux_holds_is_read() -> None:
    found = read(extended(path=b"a" * 4096, uid=b"4294967294") + FILE)
    assert (len(found[0].path), found[0].uid) == (4096, 4294967294)


def test_a_binary_size_of_more_than_63_bits_is_refused() -> None:
    data = bytearray(FILE)
    data[124:136] = b"\x80" + b"\x3f" * 11
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    with pytest.raises(InputError, match="larger than 63 bits"):
        read(bytes(data))


def test_a_global_header_holds_for_all_and_is_bounded() -> None:
    found = read(extended(b"g", uid=b"7") + FILE[:1024] + extended(gid=b"8") + FILE)
    assert [(member.uid, member.gid) for member in found] == [(7, 0), (7, 8)]
    many = extended(b"g", **{f"k{number}": b"" for number in range(1025)})
    with pytest.raises(InputError, match="global headers of 1025 records"):
        read(many + FILE)
    large = [extended(b"g", **{name: b"x" * 600_000}) for name in ("one", "two")]
    with pytest.raises(InputError, match="global headers of 2 records, 1200006 bytes"):
        read(b"".join(large) + FILE)
