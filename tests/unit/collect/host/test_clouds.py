"""Whether a cloud's metadata service is near: where a cloud made the machine, and a route leads."""

from __future__ import annotations

import pytest

from ringfence.collect.host import guards


@pytest.mark.parametrize(
    ("clouds", "ways", "far"),
    [(("",), ("169.254.170.2",), False),  # of any vendor
     (("",), (), True), ((), ("169.254.169.254",), True)],
)  # fmt: skip
def test_a_cloud_and_a_route(
    monkeypatch: pytest.MonkeyPatch, clouds: tuple[str, ...], ways: tuple[str, ...], far: bool
) -> None:
    monkeypatch.setattr(guards, "_CLOUDS", clouds)
    monkeypatch.setattr(guards, "led_to", lambda: ways)
    (found,) = [one for one in guards.guards() if one.id == "metadata-reachable"]
    assert found.present.value is far
