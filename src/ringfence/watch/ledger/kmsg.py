"""The kernel's log as it grows: where audit lines end up on a host without auditd."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ringfence.errors import MissingError

MOST_RECORD = 8192
"""Bytes of one record that /dev/kmsg gives at most (CONSOLE_EXT_LOG_MAX of older kernels)."""


class KernelLog:
    """Lines of /dev/kmsg from now on (Documentation/ABI/testing/dev-kmsg)."""

    name = "/dev/kmsg"

    def __init__(self, path: Path = Path("/dev/kmsg")) -> None:
        """Raises MissingError where it may not be read (it takes CAP_SYSLOG)."""
        self.lost = 0
        """How often the kernel overwrote records before they were read."""
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISCHR(os.fstat(self._handle).st_mode):
                os.close(self._handle)
                raise MissingError("not the kernel's log", where=str(path))
            os.lseek(self._handle, 0, os.SEEK_END)
        except OSError as error:
            raise MissingError(
                f"kernel log: {os.strerror(error.errno or 0).lower()}",
                where=str(path),
                remedy="give it CAP_AUDIT_READ; denials of seccomp and MAC are not told without it",
            ) from None

    def fileno(self) -> int:
        """For select and poll."""
        return self._handle

    def read(self) -> list[str]:
        """What was added since, without waiting: one line each, as audit.denial takes it."""
        found: list[str] = []
        while True:
            try:
                data = os.read(self._handle, MOST_RECORD)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise
                self.lost += 1
                continue
            # A second line of a record begins with a space: key=value pairs of the device.
            found.append(data.decode(errors="replace").partition("\n")[0])

    def close(self) -> None:
        """Let go of the device."""
        os.close(self._handle)
