"""JSON documents of container tools, read with a bound and looked into with care.

They come from other people's folders, so nothing is trusted: a missing or mistyped field reads
as empty instead of breaking.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ringfence.collect.container.gojson import decode
from ringfence.errors import InputError
from ringfence.untrusted import Undecodable, regular_file

MOST_BYTES = 8 << 20


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises InputError when it is not one, is unreasonably large or
    no regular file."""
    try:
        document = decode(regular_file(path, MOST_BYTES))
    except Undecodable as error:
        raise InputError(f"cannot be read as JSON: {error}", where=str(path)) from None
    if not isinstance(document, dict):
        raise InputError("is not a JSON object", where=str(path))
    return document


def table(document: object, *names: str) -> dict[str, Any]:
    """The object at `names` inside `document`, or an empty one."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def rows(document: object, *names: str) -> list[dict[str, Any]]:
    """The objects of the list at `names`, or none."""
    found = table(document, *names[:-1]).get(names[-1])
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def words(document: object, *names: str) -> list[str]:
    """The strings of the list at `names`, or none."""
    found = table(document, *names[:-1]).get(names[-1])
    return [word for word in found if isinstance(word, str)] if isinstance(found, list) else []


def text(document: object, name: str) -> str:
    """The string at `name`, or ''."""
    found = table(document).get(name)
    return found if isinstance(found, str) else ""
