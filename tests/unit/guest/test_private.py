"""The folder of an examination: where QEMU's user gets to it, and no room for it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.errors import InputError, MissingError
from ringfence.guest import private
from ringfence.guest.confine import Confinement
from ringfence.guest.examine import efi_folder
from ringfence.guest.image import Image
from ringfence.guest.kinds import Kind
from ringfence.guest.private import private_folder

STRANGER = Confinement(0x71000005)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """TMPDIR, in a folder that others cannot enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # a short one, for sockets
        place = Path(name, "tmp")
        place.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(place))
        yield place


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_qemus_user_can_get_to_its_folder(closed: Path) -> None:
    with private_folder(STRANGER) as folder:
        assert closed not in folder.parents
        assert all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))
        assert (folder / "qemu").stat().st_uid == STRANGER.uid
        assert stat.S_IMODE((folder / "qemu").stat().st_mode) == 0o700
    assert not folder.exists()
    closed.parent.chmod(0o755)
    with private_folder(STRANGER) as folder:
        assert closed in folder.parents


def test_where_qemu_is_ourselves_a_closed_folder_will_do(closed: Path) -> None:
    with private_folder(Confinement(None)) as folder:
        assert closed in folder.parents


def test_no_folder_that_will_do(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "passable", lambda place: False)
    with pytest.raises(MissingError, match="set TMPDIR"), private_folder(STRANGER):
        pass


@pytest.mark.parametrize("at", ["mkdtemp", "gettempdir"])
def test_no_room_is_told_of_the_folder(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, at, full)
    with (
        pytest.raises(InputError, match="temporary folder: cannot be written: no space left"),
        private_folder(Confinement(None)),
    ):
        pass


@pytest.mark.parametrize("full", [False, True])
def test_no_room_for_an_efi_program(
    full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "program").write_bytes(b"MZ")
    with open(tmp_path / "program", "rb") as file:
        image = Image(Kind.EFI, file.fileno())
        if not full:
            top = efi_folder(image, tmp_path, Confinement(None))
            assert (top / "EFI" / "BOOT" / "BOOTX64.EFI").read_bytes() == b"MZ"
            return
        monkeypatch.setattr(shutil, "copyfileobj", write)
        with pytest.raises(InputError, match="temporary folder: cannot be written: no space left"):
            efi_folder(image, tmp_path, Confinement(None))
