"""How tests read a sample: from bytes, or through a file as the command does."""

from __future__ import annotations

from pathlib import Path

from ringfence.collect.guest.image import read_guest, read_image
from ringfence.collect.guest.recognise import Guest
from ringfence.collect.guest.source import Source
from ringfence.knowledge.guests import load_guests
from ringfence.knowledge.loader import load
from ringfence.model.deployment import Deployment


def read(data: bytes) -> Guest:
    """What the sample is. Raises InputError."""
    return read_guest(Source(data, "sample"), load_guests())


def placed(data: bytes, folder: Path) -> Deployment:
    """The deployment that the sample becomes."""
    path = folder / "sample"
    path.write_bytes(data)
    deployment = read_image(path, load()).declared
    assert deployment is not None
    return deployment
