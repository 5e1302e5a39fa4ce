"""How signals end a command that must not leave behind what it has started."""

from __future__ import annotations

import signal
import sys

_caught: list[int] = []


def ended_by() -> int:
    """The signal that ended the command, 0 for none. What was raised since is of its doing: where
    a module in C is being imported, the exit becomes an ImportError."""
    return _caught[0] if _caught else 0


def unwind_on(*numbers: signal.Signals) -> None:
    """Let these signals end the command as an exit does, with the exit status that a shell shows,
    so that all is removed that it has made. One that is ignored (nohup(1)) stays so."""
    _caught.clear()

    def end(number: int, frame: object) -> None:
        _caught.append(number)
        # Once: a second signal must not interrupt the removal of what was started.
        for one in caught:
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)

    caught = [one for one in numbers if signal.getsignal(one) != signal.SIG_IGN]
    for one in caught:
        signal.signal(one, end)
