"""A folder for one examination, gone with us even if we are killed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ringfence.guest.confine import Confinement
from ringfence.run.places import roomy
from ringfence.run.watchdog import removed_with_us


@contextlib.contextmanager
def private_folder(box: Confinement) -> Iterator[Path]:
    """A folder of ours, in it `qemu`, which is QEMU's own. Both are removed at the end.

    Nobody can catch SIGKILL: the kernel closes the pipe for us, and a shell in a session of its
    own removes the folder.
    """
    usual = tempfile.gettempdir()
    place = usual if roomy(usual) else "/tmp"  # noqa: S108 - the name in it is random, and ours
    with tempfile.TemporaryDirectory(
        prefix="ringfence-guest-", dir=place, ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        own = folder / "qemu"
        own.mkdir(0o700)
        if box.uid is not None:
            folder.chmod(0o711)
            os.chown(own, box.uid, box.uid)
        with removed_with_us(folder):
            yield folder
