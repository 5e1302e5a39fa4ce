"""How much is installed on this host, from the package manager's own lists: no walk over all files.

dpkg keeps one list of paths a package in /var/lib/dpkg/info, and sizes in its status file
(Installed-Size, in KiB: Debian Policy 5.6.20).
"""

from __future__ import annotations

import re
from pathlib import Path

from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.kernel import Installed

DPKG = Path("/var/lib/dpkg")
_SIZE = re.compile(rb"^Installed-Size: (\d+)$", re.MULTILINE)


def installed(place: Path = DPKG) -> Seen[Installed]:
    """Files and bytes of the packages that are installed; what no package owns is not in it."""
    try:
        status = (place / "status").read_bytes()
        files = sum(_files(path.read_bytes()) for path in (place / "info").glob("*.list"))
    except OSError:
        return Seen(None, Evidence(Grade.ASSUMED, str(place), "no list of dpkg's can be read"))
    size = sum(int(number) << 10 for number in _SIZE.findall(status))
    detail = "files of installed packages; what no package owns comes on top"
    return Seen(Installed(files, size), Evidence(Grade.DECLARED, str(place), detail))


def _files(paths: bytes) -> int:
    """Paths of one package's list that are no folder of another one of it."""
    lines = paths.split(b"\n")
    folders = {line.rpartition(b"/")[0] for line in lines}
    return sum(1 for line in lines if line and line not in folders and line != b"/.")
