"""Which package each file comes from, and the entries that scanners read for what remains."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from ringfence.collect.files.packages import APK, DPKG, DPKG_PARTS, OS_RELEASE, packages
from ringfence.harden.tree import Tree
from ringfence.model.files import Package

_LICENCE = re.compile(r"(?:^|/)(?:copying|licen[cs]e|copyright|notice)[^/]*\Z", re.IGNORECASE)
_COMMON = re.compile(rb"/usr/share/common-licenses/[\w.+-]*[\w+]")
_DIST_INFO = re.compile(r"(.*/(?:site|dist)-packages)/([^/]+)\.dist-info\Z")
_NAMES = {
    "deb": r"[A-Za-z0-9][A-Za-z0-9+._-]*",
    "apk": r"[A-Za-z0-9_][A-Za-z0-9+._-]*",
    "pypi": r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?",
    "npm": r"(?:@[A-Za-z0-9_~-][A-Za-z0-9._~-]*/)?[A-Za-z0-9_~-][A-Za-z0-9._~-]*",
}
"""Kind -> the names that its own tools take: dpkg's own reader takes more than Debian's policy."""
MOST_LIST = 32 << 20


class Owner(msgspec.Struct, frozen=True):
    """A package: `kind` is deb, apk, pypi or npm; `source` the name of what it was built from.

    `record` is its entry for scanners as (path, content); `licences` are paths in the tree;
    `depends` names packages that it does not work without, alternatives included.
    """

    kind: str
    name: str
    version: str
    purl: str
    source: str
    record: tuple[str, bytes]
    conffiles: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()


class Packages:
    """The packages of a tree, by file."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._owners: dict[str, Owner] = {}
        self._sites: set[str] = set()
        self.release = {path: tree.read(path, 1 << 16) for path in OS_RELEASE}
        self._dpkg()
        self._apk()

    def owner(self, path: str) -> Owner | None:
        """The package that a file or folder (real path) came with."""
        found = self._owners.get(path)
        return found if found is not None else self._language(path)

    def of(self, paths: Iterable[str]) -> list[Owner]:
        """The packages of some files, each once, by name."""
        found = {owner for path in paths if (owner := self.owner(path)) is not None}
        return sorted(found, key=lambda owner: (owner.kind, owner.name, owner.version))

    def _dpkg(self) -> None:
        text = self.tree.read(DPKG, MOST_LIST).decode("utf-8", "replace")
        parts = [(DPKG, stanza) for stanza in text.split("\n\n")]
        for name in self.tree.names(DPKG_PARTS):
            if not name.endswith(".md5sums"):
                place = DPKG_PARTS + name
                parts.append((place, self.tree.read(place, 1 << 20).decode("utf-8", "replace")))
        info = "var/lib/dpkg/info"
        lists = {name.removesuffix(".list") for name in self.tree.names(info)
                 if name.endswith(".list")}  # fmt: skip
        for place, stanza in parts:
            owner = self._debian(place, stanza)
            if owner is None:
                continue
            field = dict(_fields(stanza))
            qualified = f"{owner.name}:{field.get('Architecture', '')}"
            listed = qualified if qualified in lists else owner.name
            body = self.tree.read(f"{info}/{listed}.list", MOST_LIST).decode("utf-8", "replace")
            for line in body.splitlines():
                self._owners.setdefault(self.tree.resolve(line)[0], owner)

    def _debian(self, place: str, stanza: str) -> Owner | None:
        found = _described({DPKG: stanza.encode(), **self.release})
        if found is None:
            return None
        fields = dict(_fields(stanza))
        name = found.name
        conffiles = tuple(
            line.split()[0].strip("/")
            for line in fields.get("Conffiles", "").splitlines()
            if line.split() and not line.endswith(" obsolete")
        )
        licence = f"usr/share/doc/{name}/copyright"
        return Owner(
            kind="deb",
            name=name,
            version=found.version,
            purl=found.purl,
            source=fields.get("Source", name).split(" ")[0],
            record=(f"{DPKG_PARTS}{name}", f"{stanza.strip()}\n".encode()),
            conffiles=conffiles,
            depends=_depends(fields),
            licences=self._licences(licence),
        )

    def _licences(self, path: str) -> tuple[str, ...]:
        """A copyright file and the common licences that it refers to."""
        if not self.tree.is_file(path):
            return ()
        common = {match.decode().strip("/") for match in _COMMON.findall(self.tree.read(path))}
        present = sorted(file for file in common if self.tree.is_file(file))
        return (path, *present)

    def _apk(self) -> None:
        for place in (APK, f"usr/{APK}"):
            text = self.tree.read(place, MOST_LIST).decode("utf-8", "replace")
            for stanza in text.split("\n\n"):
                found = _described({APK: stanza.encode()})
                if found is None:
                    continue
                fields = dict(line.split(":", 1) for line in stanza.splitlines() if ":" in line)
                owner = Owner(
                    "apk", found.name, found.version, found.purl,
                    fields.get("o", found.name), (place, f"{stanza.strip()}\n\n".encode()),
                )  # fmt: skip
                folder = ""
                for line in stanza.splitlines():
                    if line.startswith("F:"):
                        folder = line[2:]
                    elif line.startswith("R:"):
                        path = f"{folder}/{line[2:]}".strip("/")
                        self._owners.setdefault(self.tree.resolve(path)[0], owner)

    def _language(self, path: str) -> Owner | None:
        """Packages of Python and Node, found from the file: their metadata lies beside it."""
        match = re.match(r"(.*/node_modules/(?:@[^/]+/)?[^/]+)(?:/|\Z)", path)
        if match:
            return self._remembered(match[1], f"{match[1]}/package.json", "npm")
        match = re.match(r"(.*/(?:site|dist)-packages)/([^/]+)", path)
        if match and match[1] not in self._sites:
            self._sites.add(match[1])
            self._python(match[1])
        return self._owners.get(match[0]) if match else None

    def _remembered(self, key: str, file: str, kind: str) -> Owner | None:
        if key not in self._owners and self.tree.is_file(file):
            body = self.tree.read(file, 1 << 20)
            found = _described({file: body})
            if found is not None:
                licences = tuple(
                    f"{key}/{name}" for name in self.tree.names(key) if _LICENCE.search(name)
                )
                self._owners[key] = Owner(
                    kind, found.name, found.version, found.purl, found.name,
                    (file, body), licences=licences,
                )  # fmt: skip
        return self._owners.get(key)

    def _python(self, site: str) -> None:
        """Every distribution of one site-packages: its top-level names, from RECORD."""
        for name in self.tree.names(site):
            if not _DIST_INFO.match(f"{site}/{name}"):
                continue
            place = f"{site}/{name}"
            owner = self._remembered(place, f"{place}/METADATA", "pypi")
            if owner is None:
                continue
            record = self.tree.read(f"{place}/RECORD", MOST_LIST).decode("utf-8", "replace")
            for line in record.splitlines():
                top = f"{site}/{line.partition('/')[0].partition(',')[0]}"
                self._owners.setdefault(top, owner)


def _described(bodies: dict[str, bytes]) -> Package | None:
    """The package that an entry describes; None where there is none, or none that can be: its name
    becomes one of a file in the image, and stands in the bill."""
    rows = packages(bodies)[0]
    fitting = bool(rows) and re.fullmatch(_NAMES[rows[0].kind], rows[0].name) is not None
    return rows[0] if fitting else None


def _depends(fields: dict[str, str]) -> tuple[str, ...]:
    """Names in Depends and Pre-Depends, without versions and architectures."""
    rows = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}"
    words = (row.split()[0].partition(":")[0] for row in re.split(r"[,|]", rows) if row.strip())
    return tuple(dict.fromkeys(words))


def _fields(stanza: str) -> list[tuple[str, str]]:
    """`Name: value` fields of a Debian paragraph, continued lines joined."""
    found: list[tuple[str, str]] = []
    for line in stanza.splitlines():
        if line[:1] in " \t" and found:
            name, value = found[-1]
            found[-1] = (name, f"{value}\n{line.strip()}".strip())
        elif ":" in line:
            name, _, value = line.partition(":")
            found.append((name, value.strip()))
    return found
