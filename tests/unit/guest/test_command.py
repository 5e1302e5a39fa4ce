"""`ringfence guest` where the words, the machine or the accelerator do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import MissingError
from ringfence.guest import accel
from ringfence.guest.confine import Confinement
from tests.command import ringfence

BOX = Confinement(None)


def test_without_qemu_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = ringfence("guest", tmp_path / "image")
    assert done.code == 3
    assert "apt-get install qemu-system-x86" in done.err


@pytest.mark.parametrize("size", ["1k", "99999g", "much", "-5m", ""])
def test_sizes_that_are_none(size: str) -> None:
    done = ringfence("guest", "image", f"--memory={size}")
    assert done.code == 2
    assert "is no size" in done.err and not done.out


def tried(monkeypatch: pytest.MonkeyPatch, status: int | None) -> list[str]:
    """Pretend that the trial of KVM ends so; the processors that it was asked for."""
    asked: list[str] = []

    def trial(cpu: str, box: Confinement) -> int | None:
        asked.append(cpu)
        return status

    monkeypatch.setattr(accel, "trial", trial)
    return asked


def test_kvm_is_taken_only_if_its_trial_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    tried(monkeypatch, 33)
    assert accel.accelerator("auto", "", BOX) == ("kvm", "max")
    assert accel.accelerator("auto", "host", BOX) == ("kvm", "host")
    tried(monkeypatch, None)
    assert accel.accelerator("auto", "", BOX) == ("tcg", "max")
    assert accel.accelerator("kvm", "", BOX) == ("kvm", "max")
    asked = tried(monkeypatch, -6)
    assert accel.accelerator("auto", "", BOX) == ("tcg", "max")
    assert asked == ["max", "max,arch-capabilities=off"]
    with pytest.raises(MissingError, match="mode 660"):
        accel.accelerator("kvm", "", BOX)


def test_tcg_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tried(monkeypatch, 33)
    assert accel.accelerator("tcg", "Nehalem", BOX) == ("tcg", "Nehalem")
    assert asked == []
