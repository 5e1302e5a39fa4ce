"""What the three processes of enforcement agree upon: terms, and messages to the watcher."""

from __future__ import annotations

import os

import msgspec

from ringfence.watch.live.allowed import Learned
from ringfence.watch.live.who import Process, Who

UNMARKED = "unmarked"
"""What the standby says where the kernel refused a mark."""
BEAT = 0.1
"""Seconds between two signs of life of the decider."""
READY, ALIVE, GO = b"ready", b"alive", b"go"
"""The decider says the first two to the standby, which answers `ready` with `go`."""
STOP, MARK, MARK_WHOLE = b"stop", b"mark", b"mark its file system"
"""The watcher says them to the standby: the end is wanted; a mount (its descriptor comes along) has
come to be, of which it alone, or all of its file system, is to be marked."""


class Terms(msgspec.Struct, frozen=True):
    """How to decide. Paths are bytes, `public` the key that sealed the baseline; `group`, `beat`
    and `report` are inherited descriptors.

    `prefix`: what names in the target begin with in /proc/self/fd. `learn`: allow all, and say
    what ran. `deny`: what happens while nobody decides, and to what takes longer than `patience`
    seconds. `watcher`: the process whose descendants may open, and not execute, anything: they are
    the ones that look at files. `upper`: where the target's overlay keeps what was changed, if it
    is one; `since`: when the watch began, in nanoseconds.
    """

    group: int
    beat: int
    report: int
    prefix: bytes
    baseline: bytes
    public: bytes
    learned: bytes
    learn: bool
    deny: bool
    patience: float
    watcher: Process
    upper: bytes = b""
    since: int = 0


class Point(msgspec.Struct, frozen=True):
    """What to mark: a descriptor of O_PATH, and whether its whole file system is the target's."""

    handle: int
    whole: bool


class Asker(msgspec.Struct, frozen=True):
    """A `Who` on its way: names and words need not be UTF-8, and MessagePack refuses such text.

    `numbers` is it without its text, which is in `texts`, as bytes.
    """

    numbers: Who
    texts: tuple[bytes, ...]

    @classmethod
    def of(cls, who: Who) -> Asker:
        """To be sent."""
        texts = (who.user, who.executable, who.container, who.parent, *who.command)
        numbers = msgspec.structs.replace(
            who, user="", executable="", container="", parent="", command=()
        )
        return cls(numbers, tuple(map(os.fsencode, texts)))

    def who(self) -> Who:
        """As it was before it was sent."""
        user, executable, container, parent, *command = map(os.fsdecode, self.texts)
        return msgspec.structs.replace(
            self.numbers, user=user, executable=executable, container=container, parent=parent,
            command=tuple(command),
        )  # fmt: skip


class Denied(msgspec.Struct, frozen=True, tag="denied"):
    """Code that was not let run. `how`: execute or open. `gone`: by the standby."""

    path: bytes
    why: str
    how: str
    who: Asker
    gone: bool = False


class Ran(msgspec.Struct, frozen=True, tag="ran"):
    """Something that ran while learning, or was refused the reading `why`."""

    file: Learned


class Said(msgspec.Struct, frozen=True, tag="said"):
    """Something about enforcement itself: ready (with the decider's `pid`), gone, lost (of the
    standby), unmarked, dropped, unopened (the kernel could not open a file for the decider)."""

    what: str
    why: str = ""
    pid: int = 0


Message = Denied | Ran | Said
decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
encode = msgspec.msgpack.encode
MOST_MESSAGE = 1 << 16
EXECUTE, OPEN = "execute", "open"
