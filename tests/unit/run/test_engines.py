"""Which engine starts a workload."""

from __future__ import annotations

import shutil

import pytest

from ringfence.errors import MissingError, UsageError
from ringfence.run import engine
from ringfence.run.engines import candidates


@pytest.mark.parametrize(("wanted", "package"), [("", "runc"), ("crun", "crun")])
def test_the_remedy_names_the_engine_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, wanted: str, package: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingError) as caught:
        candidates(wanted)
    assert caught.value.remedy == f"apt-get install {package}"


@pytest.mark.parametrize("wanted", ["podman", "foo"])
def test_what_harden_cannot_start_with_is_wrong_usage(wanted: str) -> None:
    with pytest.raises(UsageError, match=f"{wanted} is no engine; use runc or crun"):
        engine.working_engine(wanted)


def test_an_engine_that_does_not_work_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_failure", lambda name: f"{name} is not installed")
    with pytest.raises(MissingError, match="crun is not installed"):
        engine.working_engine("crun")
