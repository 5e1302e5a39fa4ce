"""What encloses QEMU itself: a user of its own, no privileges, limits, a filter, our own life.

setpriv and prlimit (util-linux, on every Debian) rather than code between fork and exec: they set
the death signal after the change of user, which would clear it.
"""

from __future__ import annotations

import os
import resource
import secrets

import msgspec

from ringfence.errors import MissingError

CONFINED = (
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
)
"""QEMU's own system call filter: no further programs, no change of user, no priorities."""
_USERS, _MANY = 0x71000000, 1 << 24
"""Numbers that systemd's UIDS-GIDS table leaves to nobody, beyond those of the fence's containers:
one for each examination."""
_OVERHEAD = 4 << 30
"""Address space of QEMU beside the guest's memory: translated code, libraries, stacks."""
_FILES, _PROCESSES, _WRITTEN = 256, 64, 8 << 30


PROGRAMS = "setpriv", "prlimit"
"""What makes the enclosure, of Debian's package util-linux."""
_RESOURCES = {
    "nofile": resource.RLIMIT_NOFILE, "fsize": resource.RLIMIT_FSIZE, "as": resource.RLIMIT_AS,
    "cpu": resource.RLIMIT_CPU, "nproc": resource.RLIMIT_NPROC,
}  # fmt: skip
_OURS = ("nofile", "fsize")
"""Of these we need as much as QEMU: its memory, too, is a file of ours."""


class Confinement(msgspec.Struct, frozen=True):
    """`uid`: the user and group that QEMU becomes; None without root: it stays our own."""

    uid: int | None
    kvm_group: int | None = None

    def words(self, memory: int, seconds: int) -> list[str]:
        """The command before QEMU's, for a guest of `memory` bytes that runs `seconds` at most."""
        user = []
        if self.uid is not None:
            group = self.kvm_group
            groups = ["--clear-groups"] if group is None else ["--groups", str(group)]
            user = ["--reuid", str(self.uid), "--regid", str(self.uid), *groups]
            user += ["--bounding-set=-all", "--inh-caps=-all"]
        limits = [f"--{name}={most}" for name, most in self.limits(memory, seconds).items()]
        return [
            "setpriv", "--pdeathsig", "KILL", "--no-new-privs", *user, "--",
            "prlimit", "--core=0", *limits, "--",
        ]  # fmt: skip

    def limits(self, memory: int, seconds: int) -> dict[str, int]:
        """QEMU's limits by prlimit's names: files, bytes, bytes, seconds, processes."""
        # CPU time is counted over QEMU's threads: the virtual processor and two of its own.
        found = {
            "nofile": _FILES, "fsize": _WRITTEN, "as": memory + _OVERHEAD, "cpu": 3 * seconds + 5,
        }  # fmt: skip
        return found if self.uid is None else found | {"nproc": _PROCESSES}

    def check_limits(self, memory: int, seconds: int) -> None:
        """Raises MissingError where limits of this process leave no room for QEMU's: without
        privileges it cannot raise them."""
        for name, most in self.limits(memory, seconds).items():
            soft, hard = resource.getrlimit(_RESOURCES[name])
            which, held = ("soft", soft) if name in _OURS else ("hard", hard)
            if held != resource.RLIM_INFINITY and held < most:
                raise MissingError(
                    f"{held} is too low a limit, QEMU gets {most}", where=f"prlimit --{name}",
                    remedy=f"raise the caller's {which} limit",
                )  # fmt: skip


def confinement() -> Confinement:
    """A user that nothing else runs as, in the group that may open /dev/kvm where there is one."""
    if os.geteuid() != 0:
        return Confinement(None)
    uid = _USERS + secrets.randbelow(_MANY)
    try:
        node = os.stat("/dev/kvm")
    except OSError:
        return Confinement(uid)
    return Confinement(uid, node.st_gid if node.st_gid and node.st_mode & 0o060 == 0o060 else None)
