"""Which refusals are a Landlock domain's: those that a process beside it does not meet.

A process that has joined the workload has all that a clone of it has but its domain, descriptors
and terminal. What is refused to the clone by a call that Landlock looks at, and not to that one,
the domain refuses, whatever else the errno could mean.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

import msgspec

from ringfence.errors import InputError, MissingError
from ringfence.probe.attempts import Result, attempted
from ringfence.probe.definition import Probe, Seen
from ringfence.probe.domain import layers
from ringfence.probe.driven import Driven
from ringfence.probe.join import joined
from ringfence.probe.layers import by_filter
from ringfence.probe.view import View
from ringfence.run.tracee import InjectionFailed

LANDLOCK = "Landlock"
HELD = frozenset({
    "open", "openat", "openat2", "creat", "truncate", "ftruncate", "ioctl", "mq_open",
    "open_by_handle_at", "mknod", "mknodat", "mkdir", "mkdirat", "link", "linkat", "symlink",
    "symlinkat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "execve",
    "execveat", "uselib", "swapon", "acct", "mount", "umount2", "move_mount", "pivot_root",
    "mount_setattr", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise",
    "process_mrelease", "pidfd_getfd", "kcmp", "perf_event_open", "kill", "tgkill", "tkill",
    "rt_sigqueueinfo", "pidfd_send_signal", "bind", "connect", "sendto", "sendmsg", "sendmmsg",
})  # fmt: skip
"""Calls that may come to a check of Landlock's (security/landlock/: fs.c, task.c, net.c)."""


def told_apart(
    results: dict[str, Result], probes: Iterable[Probe], zygote: Driven, view: View, pid: int
) -> dict[str, Result]:
    """The results of a clone of the process `pid`, with the layers of refusals by what a process
    beside it meets; as they are where it is in no domain, or none can stand beside it."""
    refused = [probe for probe in probes if _refused(results[probe.id])]
    if not refused or not _confined(zygote):
        return results
    try:
        with joined(pid) as (other, _):
            found = attempted(other, msgspec.structs.replace(view, owns=False), refused)
    except (InputError, MissingError, InjectionFailed):
        return results
    named = {name: _named(results[name], beside, view) for name, beside in found.items()}
    return {**results, **named}


def _refused(result: Result) -> bool:
    """By something after the filters, that might be Landlock."""
    tried = result.outcome.tried
    return (
        result.outcome.seen is Seen.CLOSED and tried is not None and tried.name in HELD
        and tried.errno in (errno.EPERM, errno.EACCES) and not by_filter(result.layer)
    )  # fmt: skip


def _confined(zygote: Driven) -> bool:
    with zygote.fork() as child:
        return bool(layers(child))


def _named(result: Result, beside: Result, view: View) -> Result:
    """Where it is closed without the domain, too, by what closes it there. A label that could not
    be taken on would be missing there as the domain is."""
    if beside.outcome.seen is Seen.CLOSED:
        return beside
    if beside.outcome.seen is not Seen.OPEN:
        return result
    label = view.process.mac_label.value
    by = f"{LANDLOCK} or security module ({label})" if label else LANDLOCK
    return msgspec.structs.replace(result, layer=by)
