"""JSON as engines and runtimes read it, which are written in Go (encoding/json).

There a field is found whatever its case, and of two that have the same letters the later one
counts, or both are merged: a document could say one thing to us and another to them. So names of
fields have no case here, and an object that has one twice is refused. Maps, whose keys are data
(labels), keep them as they are.
"""

from __future__ import annotations

import json
from typing import Any

from ringfence.untrusted import Undecodable, decode_json

MAPS = frozenset(
    "annotations exposedports labels platformannotations sysctl unified volumes".split()
)
"""Fields whose values are maps, in lower case: of the runtime's and the image's specification."""

_FOLDED = str.maketrans({"\u017f": "s", "\u212a": "k"})
"""The letters beside its own capital that Go takes for an ASCII one (bytes.EqualFold): long s, and
the sign of the kelvin."""

_Pairs = list[tuple[str, Any]]


class Fields(dict[str, Any]):
    """An object's fields, by their names in lower case; looked up in any."""

    def get(self, name: str, default: Any = None) -> Any:
        """The field's value."""
        return super().get(folded(name), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(folded(name))


def folded(name: str) -> str:
    """A field's name as Go compares it."""
    return name.translate(_FOLDED).lower()


class _Object:
    """An object whose keys were not looked at yet: whether they are fields is its parent's to
    say, which comes later."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: _Pairs) -> None:
        self.pairs = pairs


def decode(data: bytes) -> Any:
    """The value of a JSON text. Raises Undecodable."""
    # Stricter than the standard library, which alone shows a key that stands twice.
    decode_json(data)
    try:
        return _read(json.loads(data, object_pairs_hook=_Object), is_map=False)
    except RecursionError:
        raise Undecodable("it is nested too deep") from None
    except ValueError as error:
        raise Undecodable(str(error)) from None


def _read(value: object, *, is_map: bool) -> Any:
    if isinstance(value, list):
        return [_read(item, is_map=False) for item in value]
    if not isinstance(value, _Object):
        return value
    found: dict[str, Any] = {} if is_map else Fields()
    for key, item in value.pairs:
        name = key if is_map else folded(key)
        if name in found:
            raise Undecodable(f"{key[:80]!r} stands twice in one object (engines ignore case)")
        found[name] = _read(item, is_map=not is_map and name in MAPS)
    return found
