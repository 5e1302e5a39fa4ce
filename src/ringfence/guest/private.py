"""A folder for one examination, gone with us even if we are killed."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ringfence.errors import InputError, MissingError
from ringfence.guest.confine import Confinement
from ringfence.run.places import passable, roomy
from ringfence.run.watchdog import removed_with_us


def _place(box: Confinement) -> str:
    """The first folder for temporary files in which sockets fit and that QEMU's user can enter."""
    # The name in it is random, and ours.
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108
        if roomy(place) and (box.uid is None or passable(Path(place))):
            return place
    raise MissingError(
        "no temporary folder that QEMU's user can pass through to ours",
        remedy="set TMPDIR to one with a short path",
    )


def _made(box: Confinement) -> tempfile.TemporaryDirectory[str]:
    try:
        place = _place(box)
        return tempfile.TemporaryDirectory(
            prefix="ringfence-guest-", dir=place, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise no_room(error) from None


def no_room(error: OSError) -> InputError:
    """What is said where the folder, or a file in it, cannot be made."""
    what = (error.strerror or os.strerror(error.errno or errno.EIO)).lower()
    return InputError(
        f"cannot be written: {what}", where="temporary folder",
        remedy="set TMPDIR to one with room",
    )  # fmt: skip


@contextlib.contextmanager
def private_folder(box: Confinement) -> Iterator[Path]:
    """A folder of ours, in it `qemu`, which is QEMU's own. Both are removed at the end.

    Nobody can catch SIGKILL: the kernel closes the pipe for us, and a shell in a session of its
    own removes the folder. Raises InputError and MissingError where there is no place for it.
    """
    with _made(box) as name:
        folder = Path(name)
        own = folder / "qemu"
        try:
            own.mkdir(0o700)
            if box.uid is not None:
                folder.chmod(0o711)
                os.chown(own, box.uid, box.uid)
        except OSError as error:
            raise no_room(error) from None
        with removed_with_us(folder):
            yield folder
