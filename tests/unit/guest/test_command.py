"""`ringfence guest` where the words, the machine or the accelerator do not fit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ringfence.errors import InputError, MissingError, UsageError
from ringfence.guest import accel
from ringfence.guest.arch.aarch64 import AARCH64
from ringfence.guest.arch.x86 import X86
from ringfence.guest.confine import Confinement
from tests.command import ringfence

BOX = Confinement(None)


@pytest.mark.parametrize(
    ("start", "package"),
    [(bytes(0x202) + b"HdrS", "qemu-system-x86"), (bytes(56) + b"ARM\x64", "qemu-system-arm")],
)
def test_without_qemu_its_package_is_named(
    start: bytes, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    image = tmp_path / "image"
    image.write_bytes(start.ljust(1024, b"\0"))
    done = ringfence("guest", image)
    assert done.code == 3
    assert done.err.endswith(f"apt-get install {package}\n")


@pytest.mark.parametrize(
    ("there", "missing"), [((), "setpriv"), (("setpriv",), "prlimit"), (("prlimit",), "setpriv")]
)
def test_without_what_encloses_qemu_it_is_named(
    there: tuple[str, ...], missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("qemu-system-x86_64", *there):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    image = tmp_path / "image"
    image.write_bytes((bytes(0x202) + b"HdrS").ljust(1024, b"\0"))
    done = ringfence("guest", image)
    assert done.code == 3
    assert done.err == f"ringfence: {missing} is not installed; apt-get install util-linux\n"


@pytest.mark.parametrize(
    ("said", "status", "word"),
    [(b"qemu-system-x86_64: unable to find CPU model 'x'\n", 1, "unable to find CPU model 'x'"),
     (b"", 1, "refused by QEMU"), (b"warning: slow\n", 0, "")],
)  # fmt: skip
def test_a_processor_that_qemu_does_not_have_is_told_as_such(
    said: bytes, status: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        assert words[words.index("-cpu") + 1] == "x" and "-kernel" not in words
        return subprocess.CompletedProcess(words, status, b"", said)

    monkeypatch.setattr(subprocess, "run", run)
    if not word:
        accel.check_model("x", X86, BOX)
        return
    with pytest.raises(InputError) as refused:
        accel.check_model("x", X86, BOX)
    assert refused.value.line().startswith(f"--cpu x: {word}; qemu-system-x86_64 -cpu help")


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
    assert accel.accelerator("auto", "", X86, BOX) == ("kvm", "max")
    assert accel.accelerator("auto", "host", X86, BOX) == ("kvm", "host")
    tried(monkeypatch, None)
    assert accel.accelerator("auto", "", X86, BOX) == ("tcg", "max")
    assert accel.accelerator("kvm", "", X86, BOX) == ("kvm", "max")
    asked = tried(monkeypatch, -6)
    assert accel.accelerator("auto", "", X86, BOX) == ("tcg", "max")
    assert asked == ["max", "max,arch-capabilities=off"]
    with pytest.raises(MissingError, match="mode 660"):
        accel.accelerator("kvm", "", X86, BOX)


def test_tcg_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tried(monkeypatch, 33)
    assert accel.accelerator("tcg", "Nehalem", X86, BOX) == ("tcg", "Nehalem")
    assert accel.accelerator("auto", "", AARCH64, BOX) == ("tcg", AARCH64.cpu)
    assert asked == []
    with pytest.raises(UsageError, match="use --accel tcg"):
        accel.accelerator("kvm", "", AARCH64, BOX)
