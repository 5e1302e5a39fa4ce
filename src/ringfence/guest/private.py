"""A folder for one examination, gone with us even if we are killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ringfence.guest.confine import Confinement

# A word on the pipe says that all has been removed already.
_SCRIPT = 'read -r word || rm -rf -- "$1"'


@contextlib.contextmanager
def private_folder(box: Confinement) -> Iterator[Path]:
    """A folder of ours, in it `qemu`, which is QEMU's own. Both are removed at the end.

    Nobody can catch SIGKILL: the kernel closes the pipe for us, and a shell in a session of its
    own removes the folder.
    """
    with tempfile.TemporaryDirectory(prefix="ringfence-guest-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        own = folder / "qemu"
        own.mkdir(0o700)
        if box.uid is not None:
            folder.chmod(0o711)
            os.chown(own, box.uid, box.uid)
        with _watchdog(folder):
            yield folder


@contextlib.contextmanager
def _watchdog(folder: Path) -> Iterator[None]:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as waiting:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "ringfence", str(folder)],
            stdin=waiting, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            os.write(write, b"removed\n")
        os.close(write)
        shell.wait()
