"""A service that fails in the minimal tree: what stayed read-only there is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ringfence.errors import InputError
from ringfence.harden import build
from ringfence.harden.build import Observed, minimize
from ringfence.harden.observe.exercise import Exercise
from ringfence.harden.observe.session import Plan, RunFailed
from ringfence.harden.observe.trace import Trace, Use
from ringfence.harden.service import Identity, Service
from ringfence.harden.source import Source
from ringfence.harden.wishes import Wishes
from tests.unit.harden.trees import planted

REMEDY = "stay in the foreground"


def told(place: Path, uses: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The error for a service that did these calls (path -> call) and ends in the minimal tree."""

    def fails(*args: object, **named: object) -> None:
        failure = RunFailed("ended by itself with status 4", where="/bin/srv", remedy=REMEDY)
        failure.trace = Trace()
        raise failure

    monkeypatch.setattr(build, "run", fails)
    monkeypatch.setattr(
        build, "_assemble", lambda *parts: SimpleNamespace(changes=parts[3], root=place)
    )
    tree = planted(place, {"bin/srv*": ""})
    source = Source("rootfs", "x", place, Service(("/bin/srv",)))
    trace = Trace(uses={Use(path, call, "", True): None for path, call in uses.items()})
    seen = Observed(source, tree, Plan(Exercise()), trace, cast(Any, None), cast(Any, None),
                    cast(Any, None), Identity(33, 33), True)  # fmt: skip
    shop = SimpleNamespace(place=lambda: place, engine="runc")
    with pytest.raises(InputError) as caught:
        minimize(seen, Wishes(), cast(Any, shop))
    return caught.value.line()


def test_places_that_stay_read_only_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = told(tmp_path, {"/srv/a b": "openat", "/etc/c": "openat"}, monkeypatch)
    assert line.startswith("/bin/srv: ended by itself with status 4; ")
    assert "/srv/a b, /etc/c" in line and line.endswith("try --writable /srv --writable /etc")
    assert REMEDY not in line


def test_of_many_places_a_few_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = told(tmp_path, {f"/srv/{name}": "openat" for name in "abcde"}, monkeypatch)
    assert "/srv/c and 2 more" in line and "/srv/d" not in line
    assert line.endswith("try --writable /srv")


def test_where_nothing_was_refused_the_failure_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(tmp_path, {"/run/x": "openat"}, monkeypatch).endswith(REMEDY)
