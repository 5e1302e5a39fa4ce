"""The cgroups of a target whose names it chose."""

from __future__ import annotations

import pytest

from ringfence.collect.process import procfs
from ringfence.probe import confinement


@pytest.mark.parametrize("end", ["\r", "\x85", "\u2028", "\udcff"], ids=ascii)
def test_a_cgroup_with_a_line_end_in_its_name(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    data = f"0::/a{end}b\n".encode("utf-8", "surrogateescape")
    monkeypatch.setattr(procfs, "read", lambda _pid, _name: data)
    assert confinement._cgroups(1) == ()
