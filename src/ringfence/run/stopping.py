"""The signal that asks a service to end."""

from __future__ import annotations

import re
import signal

from ringfence.errors import InputError


def stop_signal(text: str, where: str) -> int:
    """Its number: OCI has a name, a number, or SIGRTMIN+n and SIGRTMAX-n. Raises InputError."""
    found = re.fullmatch(r"(?:SIG)?([A-Z0-9]{1,10})([+-][0-9]{1,2})?", text)
    number = 0
    if found is not None:
        name = found[1]
        known = signal.Signals.__members__.get(f"SIG{name}")
        number = int(name) if name.isdigit() else int(known or 0)
        if found[2]:
            number = number + int(found[2]) if number in (signal.SIGRTMIN, signal.SIGRTMAX) else 0
    if number not in signal.valid_signals():
        raise InputError(f"its stop signal {text[:80]!r} is none", where=where)
    return number
