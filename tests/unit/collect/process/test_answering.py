"""Who answers for filters that hand calls on: our own run, nobody, or somebody else."""

from __future__ import annotations

import pytest

from ringfence.collect.process import answering, procfs
from ringfence.collect.process.answering import Listeners, refusing
from ringfence.model.evidence import Grade

OURS, OTHER, SERVICE = 10, 11, 20
ALONE = Listeners(frozenset({OURS}), others=False, complete=True)


@pytest.mark.parametrize(
    ("listeners", "above", "grade"),
    [(ALONE, (OURS, 1), Grade.DECLARED), (ALONE, (1,), Grade.DECLARED),
     # Others listen, or may: to this process's filters only if ours does not.
     (Listeners(frozenset({OURS}), True, False), (OURS, 1), Grade.DECLARED),
     (Listeners(frozenset({OURS}), True, True), (1,), None),
     (Listeners(frozenset({OURS}), False, False), (1,), None),
     (Listeners(frozenset(), False, True), (1,), Grade.OBSERVED),
     (Listeners(frozenset(), False, False), (1,), None),
     (Listeners(frozenset(), True, True), (OTHER, 1), None)],
)  # fmt: skip
def test_who_refuses(
    listeners: Listeners,
    above: tuple[int, ...],
    grade: Grade | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering, "_above", lambda pid: iter(above))
    said = refusing(SERVICE, listeners)
    assert (said.grade if said is not None else None) is grade


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
