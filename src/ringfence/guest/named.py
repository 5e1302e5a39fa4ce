"""The name of the system inside an image: what static recognition says of the same file."""

from __future__ import annotations

from pathlib import Path

from ringfence.errors import InputError

UNKNOWN = "unknown kernel"


def kernel_name(path: Path) -> str:
    """System and version as recognised by `ringfence measure`, else UNKNOWN: never guessed."""
    from ringfence.collect.files.streams import whole_file
    from ringfence.collect.guest.image import read_guest
    from ringfence.collect.guest.source import Source
    from ringfence.knowledge.guests import load_guests

    try:
        guest = read_guest(Source(whole_file(path).data, str(path)), load_guests())
    except InputError:
        return UNKNOWN
    if not guest.recognised:
        return UNKNOWN
    version = f" {guest.version.detail}" if guest.version is not None else ""
    return f"{guest.system.title}{version}"
