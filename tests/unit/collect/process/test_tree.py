"""What a process has that was not looked at, as reports tell it."""

from __future__ import annotations

import msgspec

from ringfence.collect.process.tree import _refusals
from ringfence.model.process import Outside
from tests.unit.measure.test_admin import process


def test_each_kind_of_place_out_of_view_is_told_once() -> None:
    def told(*outside: Outside) -> list[tuple[str, str]]:
        lines = _refusals(msgspec.structs.replace(process(), outside=outside))
        return [(line.what, line.why) for line in lines if line.what.startswith("files")]

    assert told() == []
    assert told(
        Outside("/proc/10/fd/3", False, namespace=True),
        Outside("/proc/10/fd/4", False, (7,)),
        Outside("/proc/10/fd/5", True),
        Outside("/proc/10/cwd", False),
    ) == [
        ("files of service[10] in another mount namespace", "/proc/10/fd/3 leads there"),
        ("files of service[10] under another mount", "/proc/10/fd/4 leads there"),
        ("files of service[10] outside its root directory", "/proc/10/fd/5 leads there"),
    ]
