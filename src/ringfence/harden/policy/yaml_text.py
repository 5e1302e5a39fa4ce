"""YAML that every reader takes for the same: strings stay strings.

PyYAML quotes what YAML 1.1 would read as something else. Others read 1.2 (`7e1` is a number there),
or more of 1.1 than PyYAML does (`y` is true to Go's reader of it, which Kubernetes uses).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import yaml


class _Dumper(yaml.SafeDumper):
    """Quotes what some reader could take for a number or a truth value."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\.?[0-9]"), list("-+.0123456789")
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"[yYnN]$"), list("yYnN"))


def written(documents: Iterable[object]) -> str:
    """The documents in one file, in the order of their keys."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False)
