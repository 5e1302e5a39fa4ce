"""A CycloneDX bill of the packages that the remaining files come from."""

from __future__ import annotations

import datetime
import uuid

from ringfence import __version__
from ringfence.harden.packages import Owner


def write_sbom(name: str, digest: str, owners: list[Owner], base_time: int) -> str:
    """The bill as JSON, the same for the same image (`digest`) and base time."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot5
    from packageurl import PackageURL

    subject = Component(name=name, type=ComponentType.CONTAINER, version=digest, bom_ref=digest)
    tool = Component(name="ringfence", type=ComponentType.APPLICATION, version=__version__)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{name}@{digest}"))
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(base_time, datetime.UTC)
    bom.metadata.component = subject
    bom.metadata.tools.components.add(tool)
    parts = [
        Component(
            name=owner.name,
            version=owner.version,
            type=ComponentType.LIBRARY,
            purl=PackageURL.from_string(owner.purl),
            bom_ref=owner.purl,
        )
        for owner in owners
    ]
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(subject, parts)
    return JsonV1Dot5(bom).output_as_string(indent=1) + "\n"
