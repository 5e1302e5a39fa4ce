"""Facts: all that collectors read of one target, before anyone judges it."""

from __future__ import annotations

import msgspec

from ringfence.model.deployment import Deployment
from ringfence.model.evidence import Evidence, Seen, Unseen
from ringfence.model.files import SudoRules, Tree
from ringfence.model.guest import ExaminedGuest
from ringfence.model.kernel import Host
from ringfence.model.process import Listener, Process


class Target(msgspec.Struct, frozen=True):
    """What was measured: `kind` is a collector's kind, `name` what the user typed."""

    kind: str
    name: str


class ImageConfig(msgspec.Struct, frozen=True):
    """What an image's or bundle's configuration says. `program` is the first word of its command,
    '' where there is none: other words may be secrets, and are never kept, nor is the environment.
    `uid` is the number of `user`, None where neither it nor the image's accounts say.
    """

    user: str
    program: str
    ports: tuple[str, ...]
    layers: int
    digest: str
    evidence: Evidence
    uid: int | None = None


class Facts(msgspec.Struct, frozen=True):
    """One target as it was read.

    A live target has processes, listeners and the host; an artefact has a tree and a
    configuration; a container has both; a hand-written one has `declared` alone, a guest that was
    booted and looked at from outside `examined`. `container`
    is True when the processes stand in a container (engine state or namespaces say so), and
    `sudo` are the rules in that container's own files, as its first process has them. `silent`
    is the number of processes that do not show which sockets they hold.
    """

    target: Target
    processes: tuple[Process, ...] = ()
    listeners: tuple[Listener, ...] = ()
    host: Host | None = None
    tree: Tree | None = None
    config: ImageConfig | None = None
    declared: Deployment | None = None
    examined: ExaminedGuest | None = None
    container: bool = False
    silent: int = 0
    sudo: Seen[SudoRules] | None = None
    unseen: tuple[Unseen, ...] = ()
