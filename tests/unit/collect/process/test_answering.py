"""Who answers for filters that hand calls on: our own run, or who knows."""

from __future__ import annotations

import pytest

from ringfence.collect.process import answering, procfs
from ringfence.collect.process.answering import refusing
from ringfence.model.evidence import Grade

OURS, SERVICE = 10, 20


@pytest.mark.parametrize(
    ("above", "known"), [((OURS, 1), True), ((15, OURS), True), ((15, 1), False), ((), False)]
)
def test_only_one_of_ours_above_is_known_to_refuse(
    above: tuple[int, ...], known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "_above", lambda pid: iter(above))
    monkeypatch.setattr(answering, "_is_ours", lambda pid: pid == OURS)
    said = refusing(SERVICE)
    assert (said is not None) == known
    assert said is None or (said.grade is Grade.DECLARED and f"PID {OURS}" in said.detail)


@pytest.mark.parametrize(
    ("words", "ours"),
    [(["/usr/bin/python3", "-m", "ringfence", "run", "x"], True),
     (["/opt/.venv/bin/ringfence", "run", "x"], True),
     (["python3", "/opt/.venv/bin/ringfence", "harden", "x"], True),
     (["python3", "/opt/.venv/bin/ringfence", "measure", "run"], False),
     (["sh", "-c", "true", "ringfence", "run"], False), (["ringfence"], False), ([], False)],
)  # fmt: skip
def test_what_is_called_so(words: list[str], ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"{word}\0" for word in words).encode()
    monkeypatch.setattr(procfs, "read", lambda pid, name: text)
    assert answering._is_run(7) is ours
