"""Reads tar archives as a stream: what is in them, without unpacking anything.

Written here because images are hostile input: the standard library's reader takes extension
headers of any size into memory and is several times slower. Formats: POSIX ustar and pax, GNU
long names and sparse files (https://www.gnu.org/software/tar/manual/html_node/Standard.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from ringfence.errors import InputError

BLOCK = 512
MOST_EXTENSION = 1 << 20
"""Bytes of one extension header, and of all global ones; GNU tar's and Docker's are far below."""
MOST_COMMON = 1024
"""Records of global extension headers: each costs time at every member."""
MOST_NAME = 4096
"""Bytes of a path or a link's target: PATH_MAX of Linux. A longer one costs the square of it."""
MOST_ID = 2**32 - 2
"""The largest user or group: the number after it says "unchanged" to chown(2)."""
MOST_NUMBER = 2**63 - 1
"""The largest size that a file can have (off_t)."""

_ZERO = bytes(BLOCK)
_REGULAR = (b"0", b"\0", b"7", b"S")
CAPABILITY = b"SCHILY.xattr.security.capability"


class Source(Protocol):
    """Bytes in order: a plain file, or a decompressor."""

    name: str

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end."""
        ...

    def skip(self, size: int) -> None:
        """Pass over `size` bytes. May pass the end: the next read then gives nothing."""
        ...

    def tell(self) -> int:
        """Bytes passed so far."""
        ...

    def at_end(self) -> bool:
        """Whether everything was passed, and not more than there was."""
        ...


class Member(msgspec.Struct, gc=False):
    """One member. `path` and `target` are as written; `size` is the apparent one in bytes, and
    `stored` what the archive holds; `kind` is the type flag (`0` regular, `1` hard link, `2`
    symlink, `5` directory, `3` `4` devices, `6` FIFO). `header` is the block itself and
    `extended` its pax records, for who needs more of them."""

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    stored: int
    target: str
    capability: bytes
    header: bytes = b""
    extended: dict[bytes, bytes] = {}


def members(source: Source) -> Iterator[Member]:
    """Every member in order. The caller may read at most `stored` bytes of `source` after each.

    Raises InputError for what is no tar archive, is cut short, or has an unreasonable header.
    """
    said = _Extensions(source)
    while True:
        at = source.tell()
        header = source.read(BLOCK)
        if not header or header == _ZERO:
            return
        if len(header) < BLOCK:
            raise _broken(source, at, "the archive is cut short inside a header")
        if not _summed(source, at, header):
            raise _no_header(source, at)
        kind = header[156:157]
        stored = _number(header[124:136], source, at)
        if kind in (b"L", b"K", b"x", b"g"):
            said.read(kind, stored, at)
            continue
        member = _member(header, kind, stored, said.taken(), source, at)
        if kind == b"S":
            _skip_sparse_map(source, at, header)
        end = source.tell() + (member.stored + BLOCK - 1) // BLOCK * BLOCK
        yield member
        source.skip(end - source.tell())


class _Extensions:
    """What extension headers say of the next member, and what global ones say of all."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._next: dict[bytes, bytes] = {}
        self._common: dict[bytes, bytes] = {}

    def read(self, kind: bytes, size: int, at: int) -> None:
        """The body of the extension header at `at`. Raises InputError for one without sense."""
        body = _extension(self._source, at, size)
        if kind == b"L":
            self._next[b"path"] = body.rstrip(b"\0")
        elif kind == b"K":
            self._next[b"linkpath"] = body.rstrip(b"\0")
        elif kind == b"x":
            self._next.update(_pax(body, self._source, at))
        else:
            self._add_common(_pax(body, self._source, at), at)

    def _add_common(self, found: dict[bytes, bytes], at: int) -> None:
        # A new dict: members that were given out keep the one that held for them.
        self._common = {**self._common, **found}
        held = sum(len(key) + len(value) for key, value in self._common.items())
        if len(self._common) > MOST_COMMON or held > MOST_EXTENSION:
            raise _refused(
                self._source, at, f"global headers of {len(self._common)} records, {held} bytes"
            )

    def taken(self) -> dict[bytes, bytes]:
        """What holds for the member that comes now."""
        if not self._next:
            return self._common
        found, self._next = {**self._common, **self._next}, {}
        return found


def _broken(source: Source, at: int, problem: str) -> InputError:
    return InputError(
        problem, where=f"{source.name} at byte {at}", remedy="is the file whole? fetch it again"
    )


def _refused(source: Source, at: int, problem: str) -> InputError:
    """For what no damage explains: fetching it again is no remedy."""
    return InputError(
        problem,
        where=f"{source.name} at byte {at}",
        remedy="no file of Linux needs that: write the archive again without it",
    )


def _no_header(source: Source, at: int) -> InputError:
    """For a block that is none: what does not begin with one is something else, not damaged."""
    if at == 0:
        return InputError(
            "is no tar archive", where=source.name, remedy="is it the right file, and whole?"
        )
    return _broken(source, at, "is no tar header (wrong checksum)")


def _summed(source: Source, at: int, header: bytes) -> bool:
    """Whether the header states its own checksum: the sum of its bytes with the field itself as
    spaces."""
    try:
        stated = _number(header[148:156], source, at)
    except InputError:
        return False
    unsigned = sum(header) - sum(header[148:156]) + 8 * 32
    if stated == unsigned:
        return True
    return stated == unsigned - 256 * sum(1 for byte in header[:148] + header[156:] if byte > 127)


def _number(field: bytes, source: Source, at: int) -> int:
    """Octal digits, or a binary number where the first bit is set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40:
            raise _broken(source, at, "a negative number in a header")
        if value > MOST_NUMBER:
            raise _refused(source, at, "a number in a header is larger than 63 bits")
        return value
    text = field.partition(b"\0")[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise _broken(source, at, "a number in a header makes no sense") from None


def _extension(source: Source, at: int, size: int) -> bytes:
    if size > MOST_EXTENSION:
        raise _broken(source, at, f"an extension header of {size} bytes")
    body = source.read(size)
    if len(body) < size:
        raise _broken(source, at, "the archive is cut short inside an extension header")
    source.skip(-size % BLOCK)
    return body


def _pax(body: bytes, source: Source, at: int) -> dict[bytes, bytes]:
    """Records `LENGTH KEY=VALUE\\n` of a pax header."""
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(body) and body[position] != 0:
        space = body.find(b" ", position, position + 20)
        digits = body[position:space] if space > 0 else b""
        if not digits.isdigit() or not 3 < int(digits) <= len(body) - position:
            raise _broken(source, at, "a pax record makes no sense")
        record = body[space + 1 : position + int(digits) - 1]
        key, _, value = record.partition(b"=")
        found[key] = value
        position += int(digits)
    return found


def _member(
    header: bytes,
    kind: bytes,
    stored: int,
    extended: dict[bytes, bytes],
    source: Source,
    at: int,
) -> Member:
    path = header[:100].partition(b"\0")[0]
    target = header[157:257].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        path = header[345:500].partition(b"\0")[0] + b"/" + path
    mode, uid, gid = (_number(header[start:end], source, at) for start, end in _FIELDS)
    if extended:
        path = extended.get(b"GNU.sparse.name", extended.get(b"path", path))
        target = extended.get(b"linkpath", target)
        _check_names(path, target, source, at)
        stored = _decimal(extended.get(b"size"), stored, source, at)
        uid = _decimal(extended.get(b"uid"), uid, source, at)
        gid = _decimal(extended.get(b"gid"), gid, source, at)
    if uid > MOST_ID or gid > MOST_ID:
        raise _refused(source, at, f"an owner of {max(uid, gid)}, the largest is {MOST_ID}")
    if kind not in _REGULAR:
        # Links and directories have no body, whatever their size field says.
        stored = 0
    size = stored
    if kind == b"S":
        size = _number(header[483:495], source, at)
    for key in (b"GNU.sparse.realsize", b"GNU.sparse.size"):
        size = _decimal(extended.get(key), size, source, at)
    word = "0" if kind in _REGULAR else kind.decode("latin-1")
    return Member(
        path=path.decode("utf-8", "surrogateescape"),
        kind="5" if word == "0" and path.endswith(b"/") else word,
        mode=mode,
        uid=uid,
        gid=gid,
        size=size,
        stored=stored,
        target=target.decode("utf-8", "surrogateescape"),
        capability=extended.get(CAPABILITY, b""),
        header=header,
        extended=extended,
    )


_FIELDS = ((100, 108), (108, 116), (116, 124))
"""Where mode, uid and gid stand in a header."""


def _check_names(path: bytes, target: bytes, source: Source, at: int) -> None:
    """Raises InputError for names from extension headers that no call of Linux would take."""
    for what, name in (("name", path), ("link target", target)):
        if len(name) > MOST_NAME:
            raise _refused(source, at, f"a {what} of {len(name)} bytes, the most is {MOST_NAME}")
        if b"\0" in name:
            raise _refused(source, at, f"a {what} with a zero byte")


def _decimal(text: bytes | None, otherwise: int, source: Source, at: int) -> int:
    if text is None:
        return otherwise
    if not text.isdigit() or len(text) > 20:
        raise _broken(source, at, "a pax number makes no sense")
    value = int(text)
    if value > MOST_NUMBER:
        raise _refused(source, at, "a pax number is larger than 63 bits")
    return value


def _skip_sparse_map(source: Source, at: int, header: bytes) -> None:
    """Blocks of an old GNU sparse map that did not fit into the header."""
    more = header[482:483]
    blocks = 0
    while more not in (b"\0", b""):
        block = source.read(BLOCK)
        blocks += 1
        if len(block) < BLOCK or blocks > 4096:
            raise _broken(source, at, "a sparse map makes no sense")
        more = block[504:505]
