"""What `ringfence guest --format json -o FILE` has written, as a target. Nothing is booted here."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ringfence.collect.files.streams import whole_file
from ringfence.errors import InputError
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.guest import ExaminedGuest, GuestFacts
from ringfence.untrusted import Undecodable, decode_json

SCHEMA = 1
MOST = 4 << 20
"""Bytes of an examination; one with every device there is has some 20 thousand."""
_HEAD = 4096
_MARKS = (b'"schema"', b'"image"', b'"accelerator"')


class _Document(msgspec.Struct, kw_only=True):
    """The names of the file that come before its facts (ringfence/guest/result.py)."""

    schema: int
    accelerator: str
    facts: msgspec.Raw


def accepts(target: str) -> bool:
    """Whether a file begins as an examination does."""
    path = Path(target)
    try:
        if not path.is_file():
            return False
        head = whole_file(path).read(_HEAD)
    except (InputError, OSError):
        return False
    return head.lstrip()[:1] == b"{" and all(mark in head for mark in _MARKS)


def read_examined(path: Path) -> ExaminedGuest:
    """The examination in a file. Raises InputError for what is none, or of another version."""
    data = whole_file(path).read(MOST + 1)
    if len(data) > MOST:
        raise InputError(f"is larger than {MOST >> 20} MiB", where=str(path))
    try:
        schema = decode_json(data, _Document).schema
        if schema != SCHEMA:
            raise InputError(
                f"has schema {schema}, not {SCHEMA}", where=str(path),
                remedy="examine the guest again with this version of ringfence guest",
            )  # fmt: skip
        fields = decode_json(data, dict[str, msgspec.Raw])
        fields["name"] = msgspec.Raw(msgspec.json.encode(str(path)))
        found = decode_json(msgspec.json.encode(fields), ExaminedGuest)
    except Undecodable as error:
        raise InputError(
            f"is no examination of a guest: {error}", where=str(path),
            remedy="ringfence guest IMAGE --format json -o FILE writes one",
        ) from None  # fmt: skip
    return msgspec.structs.replace(found, facts=_sourced(found.facts, str(path)))


def _sourced(facts: GuestFacts, name: str) -> GuestFacts:
    """The same, each fact saying in which file it stands; what was not seen is `assumed`."""
    changed = {}
    for field in GuestFacts.__struct_fields__:
        seen: Seen[object] = getattr(facts, field)
        grade = Grade.ASSUMED if seen.value is None else seen.evidence.grade
        source = f"{name}: {field} ({seen.evidence.source})"
        evidence = Evidence(grade, source, seen.evidence.detail)
        changed[field] = msgspec.structs.replace(seen, evidence=evidence)
    return msgspec.structs.replace(facts, **changed)
