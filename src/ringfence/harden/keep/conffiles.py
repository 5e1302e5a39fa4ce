"""Configuration files of the packages that the service's programs and settings come from.

Only those that lie beside configuration which is kept anyway: the same packages also bring files
for init systems, log rotation and firewalls, which the service never reads.
"""

from __future__ import annotations

from ringfence.harden.keep.kept import Kept
from ringfence.harden.packages import Packages


def keep_conffiles(kept: Kept, packages: Packages) -> list[str]:
    """The conffiles that belong to the service's own settings; the new files."""
    inside = {"/".join(path.split("/")[:2]) for path in kept.files()
              if path.startswith("etc/") and path.count("/") > 1}  # fmt: skip
    added = []
    for package in packages.of(kept.files()):
        for path in package.conffiles:
            if "/".join(path.split("/")[:2]) in inside:
                new = kept.add(path, f"configuration of the package {package.name}")
                added += [new] if new is not None else []
    return added
