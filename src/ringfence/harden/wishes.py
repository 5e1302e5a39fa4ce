"""What the user asked of a hardening: the options of the command line and of ringfence.toml."""

from __future__ import annotations

import msgspec

from ringfence.collect.seccomp.question import parse


class Wishes(msgspec.Struct, frozen=True):
    """`http` are URLs on localhost, `exercise` shell commands; `allow` system calls, also with
    arguments, as `socket[AF_ALG]`; `keep`, `drop` and `writable` paths of the tree; `base_time`
    seconds since 1970, the date of all that is written; `wait` seconds for the service to come
    up; `env` words NAME=value of the service's environment."""

    http: tuple[str, ...] = ()
    exercise: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    keep_shell: bool = False
    env: tuple[str, ...] = ()
    user: str = ""
    ports: tuple[int, ...] = ()
    base_time: int = 0
    phases: bool = False
    name: str = ""
    engine: str = ""
    wait: float = 30.0

    @property
    def allowed_calls(self) -> tuple[str, ...]:
        """The names of the calls that are allowed."""
        return tuple(dict.fromkeys(parse(text).call for text in self.allow))
