"""The SELinux module beside Debian's reference policy, whose neverallow rules are all checked."""

from __future__ import annotations

import bz2
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from ringfence.harden.policy import selinux
from tests.system.conftest import program
from tests.system.test_guest_static import package
from tests.unit.harden.test_policies import NEEDS

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The policy in CIL: its base, and the modules of unconfined users and of web servers."""
    folder = tmp_path_factory.mktemp("reference")
    modules = package("selinux-policy-default") / "usr/share/selinux/default"
    convert = package("policycoreutils") / "usr/libexec/selinux/hll/pp"
    found = []
    for name in ("base", "unconfined", "apache"):
        packed = folder / f"{name}.pp"
        packed.write_bytes(bz2.decompress((modules / f"{name}.pp.bz2").read_bytes()))
        found.append(folder / f"{name}.cil")
        subprocess.run([str(convert), str(packed), str(found[-1])], check=True)
    # Which user logs in as which is no matter here, and names users of other modules.
    text = found[0].read_text()
    found[0].write_text(re.sub(r"^\(selinuxuser .*$", "", text, flags=re.M))
    return found


def compiled(parts: list[Path], folder: Path) -> tuple[int, str]:
    words = [program("secilc"), "-vv", "-o", str(folder / "policy"), "-f", str(folder / "contexts")]
    done = subprocess.run([*words, *map(str, parts)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_it_fits_and_finds_what_it_names(reference: list[Path], tmp_path: Path) -> None:
    module = tmp_path / "module.cil"
    module.write_text(selinux.write(msgspec.structs.replace(NEEDS, ports=(80, 8443, 9000, 600))))
    status, said = compiled([*reference, module], tmp_path)
    assert status == 0, said[-2000:]
    lines = module.read_text().splitlines()
    left_out = {int(found) for found in re.findall(rf"optional '\w+' at {module}:(\d+)", said)}
    kinds = {re.search(r"\(allow (\w+) web_t", lines[number - 1]) for number in left_out}
    # Debian's base has no container engines: nothing else may be missing there.
    assert {found[1] for found in kinds if found} == {
        "container_engine_t", "container_runtime_t", "dockerd_t",
    }  # fmt: skip
    assert len(left_out) == 3


def test_a_domain_outside_the_groups_would_be_refused(
    reference: list[Path], tmp_path: Path
) -> None:
    module = tmp_path / "module.cil"
    text = selinux.write(NEEDS)
    module.write_text(text.replace("(typeattributeset domain (web_t))", ""))
    assert module.read_text() != text
    status, said = compiled([*reference, module], tmp_path)
    assert status != 0 and "neverallow check failed" in said
