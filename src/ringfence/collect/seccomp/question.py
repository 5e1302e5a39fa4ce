"""Questions to a filter: a system call, with fixed arguments where they matter.

`socket[AF_INET,SOCK_RAW]` fixes the first two arguments; `*` leaves one open. A flag argument is
asked with each value that a program would really pass.
"""

from __future__ import annotations

import functools
import itertools
import re

import msgspec

from ringfence.errors import KnowledgeError

CONSTANTS = {
    "AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_KEY": 15, "AF_NETLINK": 16, "AF_PACKET": 17,
    "AF_RDS": 21, "AF_CAN": 29, "AF_TIPC": 30, "AF_BLUETOOTH": 31, "AF_ALG": 38, "AF_VSOCK": 40,
    "AF_KCM": 41, "AF_QIPCRTR": 42, "AF_SMC": 43, "AF_XDP": 44,
    "SOCK_STREAM": 1, "SOCK_DGRAM": 2, "SOCK_RAW": 3, "SOCK_SEQPACKET": 5, "SOCK_DCCP": 6,
    "NETLINK_ROUTE": 0, "NETLINK_XFRM": 6, "NETLINK_AUDIT": 9, "NETLINK_NETFILTER": 12,
    "NETLINK_KOBJECT_UEVENT": 15, "NETLINK_GENERIC": 16, "NETLINK_CRYPTO": 21,
    "IPPROTO_ICMP": 1, "IPPROTO_DCCP": 33, "IPPROTO_SCTP": 132, "IPPROTO_RAW": 255,
    "CLONE_NEWTIME": 0x80, "CLONE_NEWNS": 0x20000, "CLONE_NEWCGROUP": 0x2000000,
    "CLONE_NEWUTS": 0x4000000, "CLONE_NEWIPC": 0x8000000, "CLONE_NEWUSER": 0x10000000,
    "CLONE_NEWPID": 0x20000000, "CLONE_NEWNET": 0x40000000,
    "TIOCSTI": 0x5412, "TIOCLINUX": 0x541C,
}  # fmt: skip
"""include/linux/socket.h, net.h, uapi/linux/{netlink,in,sched}.h, asm-generic/ioctls.h"""

NARROW: dict[str, tuple[int, ...]] = {
    "socket": (0, 1, 2), "socketpair": (0, 1, 2), "ioctl": (0, 1), "fcntl": (0, 1),
    "setsockopt": (0, 1, 2, 4), "getsockopt": (0, 1, 2), "clone": (0,), "prctl": (0,),
    "personality": (0,), "keyctl": (0,), "setns": (0, 1), "userfaultfd": (0,),
    "memfd_create": (1,), "open": (1, 2), "openat": (0, 2, 3), "kill": (0, 1),
    "fanotify_init": (0,), "mq_open": (1, 2), "shmget": (0, 2), "semget": (0, 1, 2),
    "msgget": (0, 1),
    "setuid": (0,), "setreuid": (0, 1), "setresuid": (0, 1, 2),
    "setgid": (0,), "setregid": (0, 1), "setresgid": (0, 1, 2),
}  # fmt: skip
"""Arguments of which the kernel takes the low 32 bits: int and unsigned int in its SYSCALL_DEFINE,
and the flags of clone(2) (lower_32_bits). A filter sees all 64 of them."""

SIGCHLD = 17
SOCK_CLOEXEC = 0o2000000
_FORM = re.compile(r"([a-z0-9_]+)(?:\[([^\[\]]+)\])?")


class Question(msgspec.Struct, frozen=True):
    """A call and the argument sets to try: each maps an argument's index to its value."""

    call: str
    tries: tuple[tuple[tuple[int, int], ...], ...]


@functools.cache
def parse(text: str) -> Question:
    """The question that `text` asks. Raises KnowledgeError when it is malformed."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise KnowledgeError(f"{text!r} is no question to a filter")
    words = match[2].split(",") if match[2] else []
    if len(words) > 6:
        raise KnowledgeError(f"{text!r}: a system call has six arguments")
    choices = [
        [(index, value) for value in _values(match[1], index, _constant(word, text))]
        for index, word in enumerate(words)
        if word != "*"
    ]
    return Question(match[1], tuple(itertools.product(*choices)))


def narrow(call: str) -> tuple[int, ...]:
    """The arguments of a call whose upper 32 bits mean nothing to the kernel, by their index."""
    return NARROW.get(call, ())


def _constant(word: str, text: str) -> int:
    if word in CONSTANTS:
        return CONSTANTS[word]
    try:
        return int(word, 0)
    except ValueError:
        raise KnowledgeError(f"{text!r}: no constant {word!r}") from None


def _values(call: str, index: int, value: int) -> tuple[int, ...]:
    """The values a program would pass for this meaning: flags come with their usual company."""
    if call == "clone" and index == 0:
        return (value | SIGCHLD, value)
    if call == "socket" and index == 1:
        return (value, value | SOCK_CLOEXEC)
    return (value,)
