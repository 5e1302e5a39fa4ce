"""Whom the modes and ACLs of a Unix socket's file and of the folders above it let connect: it takes
write permission on the file, search permission on each folder (unix(7))."""

from __future__ import annotations

import stat

from ringfence import acl
from ringfence.model.deployment import Reach
from ringfence.model.evidence import Grade
from ringfence.model.files import Step
from ringfence.model.process import Listener

SEARCH, WRITE = 1, 2


def admitted(item: Listener, own: frozenset[int]) -> tuple[Reach, Grade, str]:
    """How far away may stand who connects by the file of `item`, whose way was seen, how well that
    is known, and in words. Root and the service's `own` users are no strangers."""
    way = item.way
    shown = _shown(way)
    if _pass(way, None, frozenset()):
        if all(step.acl is not None for step in way):
            return Reach.LOCAL, Grade.OBSERVED, f"{shown}: everybody may connect"
        return Reach.LOCAL, Grade.ASSUMED, f"{shown}: not every ACL could be read"
    gids = _named(way, acl.GROUP) | {step.gid for step in way}
    for some in (*({gid} for gid in sorted(gids)), gids):
        if _pass(way, None, frozenset(some)):
            groups = ", ".join(map(str, sorted(some)))
            detail = f"{shown}: gid {groups} may connect; who else is in it was not looked for"
            return Reach.LOCAL, Grade.ASSUMED, detail
    uids = _named(way, acl.USER) | {step.uid for step in way}
    for uid in sorted(uids - own):
        if _pass(way, uid, frozenset()) or _pass(way, uid, frozenset(gids)):
            return Reach.LOCAL, Grade.OBSERVED, f"{shown}: uid {uid} may connect"
    return Reach.INSIDE, Grade.OBSERVED, f"{shown}: only root and the service itself may connect"


def _shown(way: tuple[Step, ...]) -> str:
    """The file, and the folders that keep somebody out."""
    *folders, file = way
    closed = [folder for folder in folders if not folder.mode & stat.S_IXOTH or folder.acl]
    text = f"{_words(file)} {file.uid}:{file.gid}"
    if closed:
        text += f", in a folder {_words(closed[-1])} {closed[-1].uid}:{closed[-1].gid}"
    return text


def _words(step: Step) -> str:
    rights = f", ACL {acl.text(step.acl)}" if step.acl else ""
    return f"mode {stat.S_IMODE(step.mode):04o}{rights}"


def _named(way: tuple[Step, ...], tag: int) -> set[int]:
    """Users or groups that ACLs on the way name."""
    return {entry.number for step in way for entry in step.acl or () if entry.tag == tag}


def _pass(way: tuple[Step, ...], uid: int | None, gids: frozenset[int]) -> bool:
    """Whether a user (None: one that nothing names) gets to the end; an ACL that could not be read
    may let anybody."""
    *folders, file = way
    return _may(file, WRITE, uid, gids) and all(
        _may(folder, SEARCH, uid, gids) for folder in folders
    )


def _may(step: Step, bit: int, uid: int | None, gids: frozenset[int]) -> bool:
    if step.acl is None:
        return True
    if step.acl:
        return acl.permits(step.acl, step.uid, step.gid, uid, gids, bit)
    if uid == step.uid:
        return bool(step.mode >> 6 & bit)
    return bool((step.mode >> 3 if step.gid in gids else step.mode) & bit)
