"""Lines on standard error by whoever must not be held up: a reader that stalls loses them."""

from __future__ import annotations

import os
import select

STDERR = 2


def aloud(text: str) -> bool:
    """Write one line where that does not have to be waited for; gives whether it was written.

    A pipe that is ready takes PIPE_BUF bytes at once (pipe(7)), and a terminal that is stopped is
    not ready; of a longer line the end is left out.
    """
    line = f"ringfence: {text}".encode("utf-8", "backslashreplace")[: select.PIPE_BUF - 1] + b"\n"
    poll = select.poll()
    poll.register(STDERR, select.POLLOUT)
    try:
        return any(event & select.POLLOUT for _, event in poll.poll(0)) and bool(
            os.write(STDERR, line)
        )
    except OSError:
        return False
