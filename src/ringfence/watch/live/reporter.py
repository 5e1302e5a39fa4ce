"""Tells the watcher, and never waits for it: whoever decides must not be held up."""

from __future__ import annotations

import errno
import os

from ringfence.watch.live.aloud import aloud
from ringfence.watch.live.terms import Denied, Message, Said, encode

_NOBODY = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNREFUSED)
"""What a write to a socket says whose other end is closed."""


class Reporter:
    """Sends messages on a packet socket. What does not fit is counted, and the count is sent."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._dropped = 0
        self._alone = False

    def say(self, message: Message) -> None:
        """Send one. With nobody there to hear, denials become lines on standard error."""
        if self._alone:
            self._aloud(message)
            return
        try:
            if self._dropped:
                os.write(self._fd, encode(Said("dropped", f"{self._dropped} messages")))
                self._dropped = 0
            os.write(self._fd, encode(message))
        except OSError as error:
            if error.errno in _NOBODY:
                self._alone = True
                self._aloud(message)
            else:
                self._dropped += 1

    def unopened(self, error: OSError) -> None:
        """Say that a question could not be read: the kernel opens its file for us, and denies it by
        itself where that fails. It does not say which."""
        if error.errno not in (errno.EAGAIN, errno.EINTR):
            self.say(Said("unopened", os.strerror(error.errno or 0).lower()))

    def _aloud(self, message: Message) -> None:
        if isinstance(message, Denied):
            path = message.path.decode("utf-8", "backslashreplace")
            aloud(f"denied {path!r}: {message.why}")
