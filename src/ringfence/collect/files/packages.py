"""Installed packages, from the databases that package managers keep.

dpkg (Debian policy and dpkg-query(1)), apk, Python's dist-info (PEP 376, PEP 566) and Node's
package.json. An rpm database is recognised and said not to be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import msgspec

from ringfence.model.evidence import Unseen
from ringfence.model.files import Package

MOST_BYTES = 64 << 20
"""A dpkg status file of ten thousand packages is some ten megabytes."""
MOST_HELD = 128 << 20
"""Bytes of all databases of one tree."""
TOO_LARGE = f"package databases of more than {MOST_HELD >> 20} MiB in all are not read"

DPKG = "var/lib/dpkg/status"
DPKG_PARTS = "var/lib/dpkg/status.d/"
APK = "lib/apk/db/installed"
RPM = re.compile(r"(?:var|usr)/lib/(?:sysimage/)?rpm/(?:rpmdb\.sqlite|Packages|Packages\.db)\Z")
_PYTHON = re.compile(r"\.(?:dist-info/METADATA|egg-info/PKG-INFO)\Z")
_NODE = re.compile(r"(?:^|/)node_modules/(?:@[^/]+/)?[^/]+/package\.json\Z")


def is_database(path: str) -> bool:
    """Whether the file at `path` (relative to the root) tells of packages."""
    if path.startswith("var/lib/dpkg/status"):
        # status.d of distroless images holds checksums beside the entries.
        return path == DPKG or (path.startswith(DPKG_PARTS) and not path.endswith(".md5sums"))
    if path.endswith(("/METADATA", "/PKG-INFO")):
        return _PYTHON.search(path) is not None
    if path.endswith("/package.json"):
        return _NODE.search(path) is not None
    return path in (APK, f"usr/{APK}")


def is_unread_database(path: str) -> bool:
    """Whether the file is an rpm database, which is not read here."""
    return "rpm" in path and RPM.match(path) is not None


def packages(bodies: Mapping[str, bytes]) -> tuple[tuple[Package, ...], list[Unseen]]:
    """Every package that the databases `bodies` (path -> content) name, and what was broken."""
    found: dict[Package, None] = {}
    unseen: list[Unseen] = []
    distribution = _distribution(bodies)
    for path, body in bodies.items():
        try:
            rows = list(_rows(path, body, distribution))
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            unseen.append(Unseen(f"packages in {path}", str(error)))
            continue
        found.update(dict.fromkeys(rows))
    return tuple(found), unseen


def _rows(path: str, body: bytes, distribution: str) -> Iterator[Package]:
    if path.startswith("var/lib/dpkg/"):
        return _dpkg(path, body, distribution)
    if path.endswith(APK):
        return _apk(path, body)
    if path.endswith("/package.json"):
        return _node(path, body)
    return _python(path, body) if _PYTHON.search(path) else iter(())


OS_RELEASE = ("etc/os-release", "usr/lib/os-release")


def _distribution(bodies: Mapping[str, bytes]) -> str:
    """The ID of os-release: the namespace of a Debian package's URL."""
    for path in OS_RELEASE:
        match = re.search(rb'^ID="?([a-z0-9._-]+)', bodies.get(path, b""), re.MULTILINE)
        if match:
            return match[1].decode()
    return "debian"


def _stanza(text: str, *names: str) -> dict[str, str]:
    """Wanted `Name: value` fields of one paragraph; continued lines are left out."""
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(": ")
        if colon and name in names:
            found[name] = value.strip()
    return found


def _dpkg(path: str, body: bytes, distribution: str) -> Iterator[Package]:
    # Paragraphs without a line are passed by before they cost anything: a file can be all of them.
    for paragraph in filter(None, body.decode("utf-8", "replace").split("\n\n")):
        entry = _stanza(paragraph, "Package", "Version", "Architecture", "Status")
        name, version = entry.get("Package"), entry.get("Version")
        if not name or not version or "not-installed" in entry.get("Status", ""):
            continue
        where = f"?arch={quote(entry.get('Architecture', ''))}"
        purl = f"pkg:deb/{distribution}/{quote(name)}@{quote(version, safe='')}{where}"
        yield Package(name, version, "deb", purl, path)


def _apk(path: str, body: bytes) -> Iterator[Package]:
    for paragraph in filter(None, body.decode("utf-8", "replace").split("\n\n")):
        entry = dict(line.split(":", 1) for line in paragraph.splitlines() if line[1:2] == ":")
        name, version = entry.get("P"), entry.get("V")
        if name and version:
            purl = f"pkg:apk/alpine/{quote(name)}@{quote(version, safe='')}"
            yield Package(name, version, "apk", purl, path)


def _python(path: str, body: bytes) -> Iterator[Package]:
    heading = body.partition(b"\n\n")[0].decode("utf-8", "replace")
    entry = _stanza(heading, "Name", "Version")
    name, version = entry.get("Name"), entry.get("Version")
    if name and version:
        plain = re.sub(r"[-_.]+", "-", name).lower()
        yield Package(name, version, "pypi", f"pkg:pypi/{quote(plain)}@{quote(version)}", path)


def _node(path: str, body: bytes) -> Iterator[Package]:
    document = msgspec.json.decode(body)
    if not isinstance(document, dict):
        return
    name, version = document.get("name"), document.get("version")
    if isinstance(name, str) and isinstance(version, str):
        purl = f"pkg:npm/{quote(name, safe='/')}@{quote(version)}"
        yield Package(name, version, "npm", purl, path)
