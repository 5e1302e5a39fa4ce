"""The probes: one file a group, each with a tuple PROBES. To add one, copy `kernel.py`."""

from __future__ import annotations

from ringfence.probe.battery import (
    calls,
    execution,
    files,
    information,
    kernel,
    network,
    privileges,
    processes,
    resources,
    sending,
    sockets,
    ways_out,
)
from ringfence.probe.battery import namespaces as spaces
from ringfence.probe.definition import Probe

GROUPS = (privileges, processes, files, ways_out, spaces, kernel, sockets, execution, network,
          sending, resources, information, calls)  # fmt: skip
PROBES: tuple[Probe, ...] = tuple(probe for group in GROUPS for probe in group.PROBES)
