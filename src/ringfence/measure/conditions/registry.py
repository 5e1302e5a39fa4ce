"""Which function decides which kind of condition: one row a kind."""

from __future__ import annotations

from collections.abc import Callable

from ringfence.measure.conditions import files, kernel, process
from ringfence.measure.conditions.scene import Scene
from ringfence.model.deployment import Condition
from ringfence.model.position import Level

Decider = Callable[[str, Scene, Level], Condition]

DECIDERS: dict[str, Decider] = {
    "account": kernel.account,
    "cap": process.cap,
    "code": files.code,
    "device": kernel.device,
    "feature": kernel.feature,
    "file": files.file,
    "guard": kernel.guard,
    "kernel": kernel.kernel,
    "limit": process.limit,
    "mac": process.mac,
    "monitor": kernel.monitor,
    "mount": files.mount,
    "namespace": process.namespace,
    "net": kernel.net,
    "nscap": process.nscap,
    "path": files.path,
    "process": process.process,
    "ring": kernel.ring,
    "seccomp": process.seccomp,
    "syscall": process.syscall,
    "sysctl": kernel.sysctl,
}


def decide_condition(condition: str, scene: Scene, level: Level) -> Condition:
    """The state of `condition` (`kind:subject`) for code at `level`, with its evidence."""
    kind, _, subject = condition.partition(":")
    return DECIDERS[kind](subject, scene, level)
