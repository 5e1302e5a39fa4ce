"""Which engine starts a workload."""

from __future__ import annotations

import shutil

import pytest

from ringfence.errors import MissingError
from ringfence.run.engines import candidates


@pytest.mark.parametrize(("wanted", "package"), [("", "runc"), ("crun", "crun")])
def test_the_remedy_names_the_engine_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, wanted: str, package: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingError) as caught:
        candidates(wanted)
    assert caught.value.remedy == f"apt-get install {package}"
