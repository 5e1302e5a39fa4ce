"""A database of AIDE 0.18 (plain or gzip) as entries.

Text: `@@begin_db`, `@@db_spec` with the names of the fields, one line for each file, `@@end_db`.
Fields are separated by spaces; names have `%XX` for what is no plain character; times are
decimal numbers in base64; `attr` has a bit for everything that was recorded (`attributes.BITS`).
"""

from __future__ import annotations

import base64
import binascii
import gzip
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote_to_bytes

import msgspec

from ringfence.errors import InputError
from ringfence.watch.baseline.acl import acl_bytes
from ringfence.watch.baseline.aide.attributes import BITS, GROWING
from ringfence.watch.baseline.entry import ALGORITHMS, DIRECTORY, FILE, KINDS, LINK, Entry
from ringfence.watch.baseline.xattrs import kept

DIGESTS = ("sha256", "sha512", "sha1", "md5")
"""Algorithms of AIDE that are known here, in the order in which they are preferred."""
MOST_LINE = 1 << 20
_BEGIN, _SPEC, _END = b"@@begin_db", b"@@db_spec", b"@@end_db"


class Row(msgspec.Struct, frozen=True):
    """One file: the folder's path and the entry; `grows`: only its former bytes must stay."""

    folder: bytes
    entry: Entry
    grows: bool


class Database(msgspec.Struct, frozen=True):
    """An opened database: the digest algorithm of what has none of its own in it, and its rows,
    read as they are asked for."""

    algorithm: str
    rows: Iterator[Row]


def read_database(path: Path) -> Database:
    """Open a database. Raises InputError, also while the rows are read."""
    lines = _lines(path)
    fields: list[str] = []
    for line in lines:
        if line.startswith(_SPEC):
            fields = line.decode("ascii", "replace").split()[1:]
            break
    if "name" not in fields or "perm" not in fields or "attr" not in fields:
        raise InputError("has no @@db_spec with name, perm and attr", where=str(path))
    algorithm = "sha512" if "sha512" in fields and "sha256" not in fields else "sha256"
    return Database(algorithm, _rows(lines, fields, path))


def is_database(path: Path) -> bool:
    """Whether a file begins as AIDE's databases do. Raises InputError."""
    return next(_lines(path), b"").startswith(_BEGIN)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            file = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if packed else plain
            while line := file.readline(MOST_LINE):
                if len(line) == MOST_LINE:
                    raise InputError("has a line of more than 1 MiB", where=str(path))
                yield line.rstrip(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"cannot be read: {why}", where=str(path)) from None


def _rows(lines: Iterator[bytes], fields: list[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if line == _END:
            return
        if not line or line.startswith((b"#", b"@@")):
            continue
        values = line.split(b" ")
        try:
            row = dict(zip(fields, values, strict=True))
            yield _row(row)
        except (ValueError, KeyError, binascii.Error) as error:
            raise InputError(f"entry {number} makes no sense: {error}", where=str(path)) from None
    raise InputError("is cut short: there is no @@end_db", where=str(path))


def _row(row: dict[str, bytes]) -> Row:
    bits = int(row["attr"])
    has = {name for name, bit in BITS.items() if bits >> bit & 1}
    path = unquote_to_bytes(row["name"]).strip(b"/")
    folder, _, name = path.rpartition(b"/")
    perm = int(row["perm"], 8)
    kind = KINDS[stat.S_IFMT(perm)]

    def number(field: str, attribute: str) -> int | None:
        return int(row[field]) if attribute in has and field in row else None

    acl, default = _acl(row.get("acl", b"0")) if "acl" in has else (None, None)
    entry = Entry(
        name, kind,
        mode=perm & 0o7777 if "mode" in has else None,
        uid=number("uid", "owner"), gid=number("gid", "group"),
        size=number("size", "size") if kind in (FILE, LINK) else None,
        links=number("lcount", "links") if kind != DIRECTORY else None,
        target=unquote_to_bytes(row["lname"]) if kind == LINK and "target" in has else None,
        xattrs=kept(_xattrs(row)) if "xattrs" in has else None,
        acl=acl, default_acl=default,
        digest=_digest(row) if kind == FILE else None,
        mtime=_time(row, "mtime", has), ctime=_time(row, "ctime", has),
        inode=number("inode", "inode"),
    )  # fmt: skip
    return Row(folder, entry, kind == FILE and bool(has & {"S", GROWING}))


def _digest(row: dict[str, bytes]) -> bytes | None:
    """The strongest digest that an entry has."""
    for algorithm in DIGESTS:
        text = row.get(algorithm, b"0")
        if text != b"0":
            digest = base64.b64decode(text, validate=True)
            if len(digest) != ALGORITHMS[algorithm]:
                raise ValueError(f"its {algorithm} has {len(digest)} bytes")
            return digest
    return None


def _time(row: dict[str, bytes], field: str, has: set[str]) -> int | None:
    text = row.get(field, b"0")
    if field not in has or text == b"0":
        return None
    return int(base64.b64decode(text, validate=True)) * 10**9


def _acl(text: bytes) -> tuple[bytes | None, bytes | None]:
    """`POSIX,access,default`, both in base64, 0 where there is none."""
    parts = text.split(b",")
    if len(parts) != 3 or parts[0] != b"POSIX":
        return b"", b""
    access, default = (
        b"" if part == b"0" else acl_bytes(base64.b64decode(part).decode("utf-8", "replace"))
        for part in parts[1:]
    )
    return access, default


def _xattrs(row: dict[str, bytes]) -> dict[bytes, bytes]:
    """`COUNT,name,value,...` with values in base64; the SELinux label has a field of its own."""
    parts = row.get("xattrs", b"0").split(b",")[1:]
    values = {
        unquote_to_bytes(name): b"" if value == b"0" else base64.b64decode(value)
        for name, value in zip(parts[::2], parts[1::2], strict=True)
    }
    label = row.get("selinux", b"0")
    if label != b"0":
        values[b"security.selinux"] = base64.b64decode(label) + b"\0"
    return values
