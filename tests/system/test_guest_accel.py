"""The trial of KVM itself, its program run by QEMU's translator; and KVM where it works."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from ringfence.guest import accel
from ringfence.guest.arch.x86 import X86
from ringfence.guest.confine import confinement
from tests.guests.build import kernel
from tests.system.conftest import program
from tests.system.guests import ask_on_serial, examined, values

pytestmark = pytest.mark.system


def test_the_program_of_the_trial_ends_as_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells a working accelerator is that this program comes to its end in time."""
    program("qemu-system-x86_64")
    started: list[list[str]] = []
    run = subprocess.run

    def translated(words: list[str], **more: Any) -> Any:
        started.append(words)
        more["timeout"] = 20
        return run(["tcg" if word == "kvm" else word for word in words], **more)

    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(subprocess, "run", translated)
    assert accel.trial("qemu64", confinement()) == 33
    assert started and started[0][0] == "setpriv"


def test_kvm_and_tcg_see_the_same() -> None:
    program("qemu-system-x86_64")
    if accel.accelerator("auto", "", X86, confinement())[0] != "kvm":
        pytest.skip("KVM does not work here")
    words = ("--boots", 2, "--memory", "64m", "--exercise", ask_on_serial("GET /", "200 hello"))
    for variant in ("ring3", "wx", "guard"):
        one = values(examined(kernel(variant), *words))
        other = values(examined(kernel(variant), *words, "--accel", "kvm"))
        for name in ("wp", "nx", "smep", "smap", "umip", "writable_executable_pages",
                     "page_zero_mapped", "stack_guard_page", "user_pages"):  # fmt: skip
            assert one[name] == other[name], name
        assert (one["ring3_share"] > 0) == (other["ring3_share"] > 0)
