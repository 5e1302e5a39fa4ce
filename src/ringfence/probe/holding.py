"""What a forked process of ours still holds open."""

from __future__ import annotations

import os


def hold_only(*kept: int) -> None:
    """Close every descriptor but these: others wait for the end of our pipes."""
    low = 0
    for handle in sorted(kept):
        os.closerange(low, handle)
        low = handle + 1
    os.closerange(low, 1 << 16)
