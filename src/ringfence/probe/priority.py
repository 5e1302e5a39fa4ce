"""This thread before others, where processors are short: what we drive stands still until we have
one again, at each step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

HIGHEST = -20


@contextlib.contextmanager
def preferred() -> Iterator[None]:
    """While this lasts, this thread has the highest priority that is not real-time, where it may
    (CAP_SYS_NICE, setpriority(2)); what it forks meanwhile inherits that."""
    former = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, HIGHEST)
    try:
        yield
    finally:
        if os.getpriority(os.PRIO_PROCESS, 0) != former:
            os.setpriority(os.PRIO_PROCESS, 0, former)
