"""Whether a process is in a Landlock domain, which nothing in /proc tells.

Domains are put on one over the other, and the kernel takes 16 of them: one that takes fewer has the
rest on already (https://docs.kernel.org/userspace-api/landlock.html#ruleset-layers).
"""

from __future__ import annotations

import errno
import struct

from ringfence.probe.driven import Driven

MOST_LAYERS = 16
VERSION = 1
MAKE_SOCKETS = 1 << 9
"""A right of the first version: some right has to be held."""
PR_SET_NO_NEW_PRIVS = 38


def version(child: Driven) -> int:
    """The version of Landlock's interface; negative for an errno. Its filters are not asked."""
    return child.manage("landlock_create_ruleset", 0, 0, VERSION)


def layers(child: Driven) -> int | None:
    """How many domains it is in; None where that cannot be told. Our child is in 16 of them
    afterwards, so that it is of no further use."""
    rules = child.manage("landlock_create_ruleset", struct.pack("=Q", MAKE_SOCKETS), 8, 0)
    if rules < 0:
        return None
    child.manage("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for taken in range(MOST_LAYERS + 1):
        result = child.manage("landlock_restrict_self", rules, 0)
        if result == -errno.E2BIG:
            return MOST_LAYERS - taken
        if result < 0:
            return None
    return None
