"""The image: read back by our own reader, and the same bytes each time."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from ringfence.collect.files.image import read_image
from ringfence.errors import InputError
from ringfence.harden.image.layer import write_layer
from ringfence.harden.image.oci import ImageConfiguration, write_image
from ringfence.harden.image.sbom import write_sbom
from ringfence.harden.layout import Entry
from ringfence.harden.packages import Packages
from tests.unit.harden.trees import planted

CONFIG = ImageConfiguration(
    ("/bin/web",), ("PATH=/bin",), "/", "33:33", ("80/tcp",), ("run",), "SIGTERM", {"a": "b"}
)
STATUS = """\
Package: web
Status: install ok installed
Architecture: amd64
Source: websource (1.0)
Version: 1.0-1
Conffiles:
 /etc/web.conf 0123
 /etc/old.conf 4567 obsolete
Description: a server
 with more lines

Package: other
Status: install ok installed
Architecture: amd64
Version: 2
"""


def image(root: Path, base_time: int = 0) -> bytes:
    tree = planted(root, {"bin/web*": "program"})
    entries = [Entry("bin", "folder", 0o755), Entry("bin/web", "file", 0o755, source="bin/web"),
               Entry("sbin", "link", 0o777, target="bin"), Entry("etc", "folder", 0o755),
               Entry("etc/x", "file", 0o640, gid=33, content=b"made")]  # fmt: skip
    layer, whole = io.BytesIO(), io.BytesIO()
    write_layer(entries, tree, base_time, layer)
    write_image(layer.getvalue(), CONFIG, "ringfence/web:latest", base_time, whole)
    return whole.getvalue()


def test_it_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(image(tmp_path / "root"))
    found = read_image(path)
    assert found.config.user == "33:33"
    assert found.config.program == "/bin/web"
    assert found.config.ports == ("80/tcp",)
    assert found.tree.counts.files == 3
    assert found.tree.counts.executables == 1


def test_both_forms_are_in_it(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(image(tmp_path))) as archive:
        names = archive.getnames()
        docker = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert {"oci-layout", "index.json"} <= set(names)
    assert docker[0]["Layers"][0] in names and docker[0]["Config"] in names


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    assert image(tmp_path / "a") == image(tmp_path / "b")
    assert image(tmp_path / "a") != image(tmp_path / "b", base_time=1)


def test_packages_own_their_files_and_keep_their_entries(tmp_path: Path) -> None:
    tree = planted(
        tmp_path,
        {
            "var/lib/dpkg/status": STATUS,
            "var/lib/dpkg/info/web.list": "/.\n/bin\n/bin/web\n/etc/web.conf\n",
            "var/lib/dpkg/info/other.list": "/.\n/usr/bin/other\n",
            "usr/bin/web*": "", "usr/bin/other*": "",
            "usr/share/doc/web/copyright": "see /usr/share/common-licenses/GPL-2.",
            "usr/share/common-licenses/GPL-2": "text",
            "usr/lib/python3/dist-packages/thing/a.py": "",
            "usr/lib/python3/dist-packages/thing-1.dist-info/METADATA": "Name: thing\nVersion: 1\n",
            "usr/lib/python3/dist-packages/thing-1.dist-info/RECORD": "thing/a.py,,\n",
            "app/node_modules/left/package.json": '{"name": "left", "version": "3"}',
        },
        {"bin": "usr/bin"},
    )  # fmt: skip
    packages = Packages(tree)
    found = packages.of(["usr/bin/web", "usr/lib/python3/dist-packages/thing/a.py",
                         "app/node_modules/left/index.js", "srv/own"])  # fmt: skip
    assert [(item.kind, item.name, item.version) for item in found] == [
        ("deb", "web", "1.0-1"), ("npm", "left", "3"), ("pypi", "thing", "1"),
    ]  # fmt: skip
    web = found[0]
    assert (web.source, web.conffiles) == ("websource", ("etc/web.conf",))
    assert web.licences == ("usr/share/doc/web/copyright", "usr/share/common-licenses/GPL-2")
    assert web.record[0] == "var/lib/dpkg/status.d/web" and b"other" not in web.record[1]
    bill = json.loads(write_sbom("web", "sha256:0", found, 0))
    assert {item["purl"] for item in bill["components"]} == {item.purl for item in found}
    assert write_sbom("web", "sha256:0", found, 0) == write_sbom("web", "sha256:0", found, 0)


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("libstdc++6", True), ("0ad", True), ("../../../../etc/evil", False), ("a/b", False),
        ("..", False), ("a b", False), (".hidden", False), ("é", False),
    ],
)  # fmt: skip
def test_a_package_has_a_name_that_its_kind_can_have(
    name: str, fitting: bool, tmp_path: Path
) -> None:
    """It becomes the name of a file in the image."""
    tree = planted(
        tmp_path,
        {
            "var/lib/dpkg/status": f"Package: {name}\nStatus: install ok installed\nVersion: 1\n",
            "var/lib/dpkg/status.d/x": f"Package: {name}\nVersion: 1\n",
            "var/lib/dpkg/info/x.list": "/bin/web\n",
            "lib/apk/db/installed": f"P:{name}\nV:1\nF:bin\nR:web\n",
            "bin/web*": "",
        },
    )  # fmt: skip
    packages = Packages(tree)
    assert [owner.name for owner in packages.of(["bin/web"])] == [name] * fitting


@pytest.mark.parametrize(
    ("name", "fitting"),
    [("@scope/left-pad", True), ("Left.pad", True), ("../x", False), ("a b", False)],
)
def test_so_has_one_of_node(name: str, fitting: bool, tmp_path: Path) -> None:
    body = json.dumps({"name": name, "version": "1"})
    tree = planted(tmp_path, {"app/node_modules/x/package.json": body})
    found = Packages(tree).of(["app/node_modules/x/index.js"])
    assert [owner.name for owner in found] == [name] * fitting


def test_a_file_that_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Sparse, it costs its author nothing."""
    tree = planted(tmp_path, {"data/small": "1234"})
    with (tmp_path / "data/big").open("wb") as file:
        file.truncate(200 << 30)
    small, big = (Entry(f"data/{name}", "file", 0o644, source=f"data/{name}")
                  for name in ("small", "big"))  # fmt: skip
    with pytest.raises(InputError, match="in memory") as caught:
        write_layer([small, big], tree, 0, io.BytesIO())
    assert caught.value.where == "/data/big"
    write_layer([small, small], tree, 0, io.BytesIO(), most=8)
    with pytest.raises(InputError):
        write_layer([small, small], tree, 0, io.BytesIO(), most=7)
