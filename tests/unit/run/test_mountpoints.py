"""What may be mounted inside, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import UsageError
from ringfence.run.fence import Fence, Volume, Writable, configuration
from ringfence.run.mountpoints import check_volumes

WRITABLE = (Writable("data"), Writable("var/lib/x"))


def test_volumes_are_in_place_of_writable_folders() -> None:
    check_volumes((), ())
    check_volumes((Volume("/a", "data"), Volume("/a", "var/lib/x", True)), WRITABLE)


@pytest.mark.parametrize("place", ["dat", "data/below", "var/lib", "nope/sub", "etc"])
def test_no_other_folder_is_taken(place: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_volumes((Volume("/a", "data"), Volume("/a", place)), WRITABLE)
    line = refused.value.line()
    assert line.startswith(f"/{place}: ") and "/data, /var/lib/x" in line
    assert f"--writable /{place}" in line


def test_no_folder_is_taken_twice() -> None:
    with pytest.raises(UsageError, match="two volumes for one folder"):
        check_volumes((Volume("/a", "data"), Volume("/b", "data")), WRITABLE)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_volume_is_mounted_in_place_of_its_folder_in_memory(read_only: bool) -> None:
    volume = Volume("/srv/a", "data", read_only)
    fence = Fence(Path("/r"), ("/x",), (), "/", 1, 1, writable=WRITABLE, volumes=(volume,))
    mounts = configuration(fence)["mounts"]
    (found,) = (mount for mount in mounts if mount["destination"] == "/data")
    assert (found["type"], found["source"]) == ("bind", "/srv/a")
    options = set(found["options"])
    assert {"rbind", "rnosuid", "rnodev", "rnoexec", "nosuid", "nodev", "noexec"} <= options
    assert {"ro", "rro", "rw"} & options == ({"ro", "rro"} if read_only else {"rw"})
    assert any(mount["destination"] == "/var/lib/x" for mount in mounts)
