"""Labels that confine nothing, and users of images who are root under another name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ringfence.measure.conditions.process import _confined_by
from tests.command import ringfence
from tests.images import Entry, layer, oci_archive


@pytest.mark.parametrize(
    ("label", "module"),
    [("system_u:system_r:container_t:s0:c1,c2", "selinux"), ("nginx (enforce)", "apparmor"),
     ("nginx (complain)", ""), ("unconfined", ""), ("", ""), (None, "")]
    + [(f"system_u:system_r:{kind}:s0", "") for kind in
       ("spc_t", "unconfined_t", "unconfined_service_t", "init_t", "initrc_t", "kernel_t")],
)  # fmt: skip
def test_which_module_confines(label: str | None, module: str) -> None:
    assert _confined_by(label) == module


@pytest.mark.parametrize(
    ("user", "level", "said"),
    [("web", "user", "user web (uid 7)"), ("admin", "admin", "user admin (uid 0)"),
     ("00", "admin", "user 00 (uid 0)"), ("7", "user", "user 7"), ("", "admin", "no user is set"),
     ("gone", "admin", "user gone, whom the image's accounts do not have")],
)  # fmt: skip
def test_who_serves(tmp_path: Path, user: str, level: str, said: str) -> None:
    accounts = layer([Entry("etc/passwd", b"admin:x:0:0\nweb:x:7:7\n"), Entry("bin/x", b"x")])
    image = oci_archive(tmp_path / "i.tar", [accounts], {"User": user})
    answer = ringfence("measure", image, "--format", "json", "--no-plan")
    (entry,) = json.loads(answer.out)["entry_points"]
    assert entry["handler"]["level"] == level
    assert said in entry["handler"]["evidence"]["detail"]
