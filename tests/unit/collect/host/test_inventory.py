"""What dpkg's own lists say is installed."""

from __future__ import annotations

from pathlib import Path

from ringfence.collect.host.inventory import installed
from ringfence.model.kernel import Installed


def test_files_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "info").mkdir()
    status = "Package: a\nInstalled-Size: 3\n\nPackage: b\nInstalled-Size: 5\n"
    (tmp_path / "status").write_text(f"{status}Description: Installed-Size: 7\n")
    (tmp_path / "info/a.list").write_text(
        "/.\n/usr\n/usr/bin\n/usr/bin/a\n/usr/bin/aa\n/etc\n/etc/a\n"
    )
    (tmp_path / "info/b.list").write_text("/.\n/usr\n/usr/bin\n/usr/bin/b\n")
    assert installed(tmp_path).value == Installed(files=4, bytes=8 << 10)


def test_without_dpkg_nothing_is_claimed(tmp_path: Path) -> None:
    found = installed(tmp_path)
    assert found.value is None
    assert found.evidence.grade == "assumed"
