"""Work in a thread of its own. What that thread traces (ptrace(2)) is let go when it ends, stopped
or not: the only way to let go of what would not stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def apart(work: Callable[[], T]) -> T:
    """The result of `work`, called in a thread that ends with it. Raises what `work` raises."""
    results: list[T] = []
    failures: list[BaseException] = []

    def task() -> None:
        try:
            results.append(work())
        except BaseException as error:  # handed to the caller, whatever it is
            failures.append(error)

    thread = threading.Thread(target=task)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
