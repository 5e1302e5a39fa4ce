"""Packages from the databases that package managers keep; broken ones are said."""

from __future__ import annotations

from ringfence.collect.files.packages import is_database, is_unread_database, packages

STATUS = b"""Package: nginx-light
Status: install ok installed
Architecture: amd64
Version: 1.22.1-9+deb12u2
Description: small
 Package: not a field

Package: gone
Status: deinstall ok not-installed
Version: 1.0

Package: half
Status: install ok installed
"""
APK = b"P:musl\nV:1.2.4-r2\nA:x86_64\n\nP:busybox\nV:1.36.1-r5\n\n"
METADATA = b"Metadata-Version: 2.1\nName: Flask_Login\nVersion: 0.6.3\n\nName: body\n"
NODE = b'{"name": "@scope/left-pad", "version": "1.3.0"}'


def purls(**bodies: bytes) -> set[str]:
    found, unseen = packages({name.replace("__", "/"): body for name, body in bodies.items()})
    assert unseen == []
    return {package.purl for package in found}


def test_dpkg_and_the_distribution() -> None:
    wanted = "pkg:deb/{}/nginx-light@1.22.1-9%2Bdeb12u2?arch=amd64"
    assert purls(var__lib__dpkg__status=STATUS) == {wanted.format("debian")}
    found, _ = packages({"var/lib/dpkg/status": STATUS, "etc/os-release": b'NAME=x\nID="ubuntu"\n'})
    assert [package.purl for package in found] == [wanted.format("ubuntu")]


def test_distroless_parts() -> None:
    assert is_database("var/lib/dpkg/status.d/base")
    assert not is_database("var/lib/dpkg/status.d/base.md5sums")
    assert not is_database("var/lib/dpkg/status-old")
    found, _ = packages({"var/lib/dpkg/status.d/tzdata": b"Package: tzdata\nVersion: 2024a\n"})
    assert [(item.name, item.version) for item in found] == [("tzdata", "2024a")]


def test_apk_python_and_node() -> None:
    assert purls(lib__apk__db__installed=APK) == {
        "pkg:apk/alpine/musl@1.2.4-r2", "pkg:apk/alpine/busybox@1.36.1-r5"}  # fmt: skip
    found, _ = packages({"usr/lib/python3/dist-packages/flask.dist-info/METADATA": METADATA})
    assert [item.purl for item in found] == ["pkg:pypi/flask-login@0.6.3"]
    found, _ = packages({"app/node_modules/@scope/left-pad/package.json": NODE})
    assert [item.purl for item in found] == ["pkg:npm/%40scope/left-pad@1.3.0"]


def test_a_broken_database_is_said_and_the_others_are_read() -> None:
    found, unseen = packages(
        {
            "a/node_modules/x/package.json": b"{",
            "b/node_modules/y/package.json": b"[" * 100_000,
            "var/lib/dpkg/status": STATUS,
        }
    )
    assert [item.name for item in found] == ["nginx-light"]
    assert [note.what for note in unseen] == [
        "packages in a/node_modules/x/package.json",
        "packages in b/node_modules/y/package.json",
    ]


def test_bytes_that_are_no_text_end_nobody() -> None:
    found, unseen = packages({"var/lib/dpkg/status": bytes(range(256)) * 50})
    assert found == ()
    assert unseen == []


def test_a_name_that_goes_on_after_a_line_break_is_another_name() -> None:
    assert is_unread_database("var/lib/rpm/rpmdb.sqlite")
    assert not is_unread_database("var/lib/rpm/rpmdb.sqlite\n")


def test_packages_of_no_other_place() -> None:
    assert not is_database("srv/package.json")
    assert not is_database("node_modules/x/lib/package.json")
    assert not is_database("home/METADATA")


def test_empty_paragraphs_are_nothing() -> None:
    found, unseen = packages({"var/lib/dpkg/status": b"\n" * 99 + STATUS + b"\n" * 99})
    assert [item.name for item in found] == ["nginx-light"]
    assert unseen == []
