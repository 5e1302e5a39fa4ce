"""Tools of the host that only list: asked with a limit of time, refusals kept as evidence."""

from __future__ import annotations

import shutil
import subprocess

from ringfence.model.evidence import Evidence, Grade

PATIENCE = 5.0
"""Seconds that a tool may take to answer."""


def asked(command: list[str]) -> str | Evidence:
    """The output of a tool, or the evidence of why there is none."""
    if shutil.which(command[0]) is None:
        detail = f"install {command[0]} to see this"
        return Evidence(Grade.ASSUMED, command[0], detail)
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Evidence(Grade.ASSUMED, command[0], "did not answer")
    if done.returncode != 0:
        return Evidence(Grade.ASSUMED, command[0], "refused: run as root to see this")
    return done.stdout.decode("utf-8", "replace")
