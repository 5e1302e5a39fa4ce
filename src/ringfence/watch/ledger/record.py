"""The lines of a ledger: records, signed heads, and the opening of each segment.

A line is one JSON object in UTF-8 without line breaks, ended by a line feed. Its `type` says what
it is. `prev` is the leaf hash (tree.py) of the line before it, whatever that was.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from ringfence.watch.ledger.tree import leaf_hash

VERSION = 1
MOST_LINE = 1 << 16
"""Bytes of the longest line, its line feed counted."""
MOST_NUMBER = (1 << 63) - 1
"""The largest integer in a detail (OpenTelemetry has 64 bits with a sign)."""
START = "0" * 64
"""`prev` of a ledger's first line."""


class Kind(StrEnum):
    """What a record is about."""

    EVENT = "event"
    DENIAL = "denial"
    RUN = "run"
    PROBE = "probe"
    POLICY = "policy"
    LEDGER = "ledger"
    """The ledger itself: opened, closed, clock, cut, refused, sink:NAME."""


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """What all lines have in common."""


class Record(_Line, frozen=True, tag="record"):
    """One thing that happened. `index` counts from 0 over all segments.

    `time` is UTC with microseconds, always of the same width, so that text order is time order;
    `up` is CLOCK_BOOTTIME in microseconds, `boot` the kernel's boot id: they tell a clock that
    was set from time that passed. `detail` is any JSON object.
    """

    v: int
    index: int
    time: str
    up: int
    boot: str
    kind: str
    subject: str
    detail: dict[str, Any]
    prev: str


class Head(_Line, frozen=True, tag="head"):
    """Says that the first `size` records have the Merkle root `root`; checkpoint.py says what
    `signature` signs. All are hexadecimal in lower case."""

    size: int
    root: str
    prev: str
    signature: str


class Opening(_Line, frozen=True, tag="segment"):
    """The first line of a segment: where it goes on.

    `ledger` is a random name of 32 hexadecimal digits, `key` the public key, `number` counts
    segments from 0, `first` is the index of the next record, `peaks` are the roots of the perfect
    subtrees before it, `head` is the head of all that came before.
    """

    v: int
    ledger: str
    key: str
    number: int
    first: int
    peaks: list[str]
    head: Head
    prev: str


Line = Record | Head | Opening
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class NotALine(ValueError):
    """These bytes are no line of a ledger."""


def encode(line: Line) -> bytes:
    """A line without its line feed. Raises ValueError if it is longer than a line may be."""
    try:
        data = _encoder.encode(line)
    except (TypeError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(f"no JSON: {error}") from None
    if len(data) >= MOST_LINE:
        raise ValueError(f"{len(data)} bytes are too many: a line has less than {MOST_LINE}")
    return data


def decode(data: bytes) -> Line:
    """A line from its bytes without line feed. Raises NotALine."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise NotALine(str(error)) from None


def hash_of(data: bytes) -> str:
    """What the next line has as `prev`."""
    return leaf_hash(data).hex()


def printable(subject: str, detail: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Both as JSON can hold them.

    A file name that is not UTF-8 comes from Python with surrogates (os.fsdecode): such a text is
    written as {"hex": its bytes}, a subject with U+FFFD and its bytes in `subject_hex`.
    """
    if _is_text(subject):
        return subject, _cleaned(detail)
    raw = raw_bytes(subject)
    return raw.decode(errors="replace"), {**_cleaned(detail), "subject_hex": raw.hex()}


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value if _is_text(value) else {"hex": raw_bytes(value).hex()}
    if isinstance(value, dict):
        return {_key(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    if isinstance(value, int) and not -MOST_NUMBER <= value <= MOST_NUMBER:
        raise ValueError(f"{value:#x} is no JSON that every reader can hold: write it as text")
    return value


def raw_bytes(text: str) -> bytes:
    """The bytes of a file name, as os.fsencode gives them; of any other text nothing is lost."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def _key(key: object) -> str:
    return str(key).encode(errors="replace").decode()


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
