"""--ledger, --key and --sink: what a command saw and did, kept in the append-only ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ringfence.errors import UsageError

if TYPE_CHECKING:
    from ringfence.watch.ledger.writer import Ledger

F = TypeVar("F", bound=Callable[..., Any])
Record = Callable[[str, str, dict[str, Any]], None]
"""Keep one record: kind, subject, detail (docs/ledger.md). No secret is ever a part of it."""
KEY, OWN_KEY = "--key", "--ledger-key"
"""The latter where --key is what a baseline is sealed with."""


def ledgered(function: F) -> F:
    """The options of a command that keeps records."""
    return _ledgered(function, KEY)


def ledgered_beside_a_seal(function: F) -> F:
    """The same where --key is another one's."""
    return _ledgered(function, OWN_KEY)


def _ledgered(function: F, key: str) -> F:
    for option in (
        click.option("--sink", "sinks", multiple=True, metavar="SINK",
                     help="journald, syslog... get the ledger's records. Repeatable."),
        click.option(key, type=click.Path(path_type=Path),
                     help="The ledger's private key, in PEM."),
        click.option("--ledger", type=click.Path(path_type=Path),
                     help="Keep what is seen and done in this ledger, too."),
    ):  # fmt: skip
        function = option(function)
    return function


@contextlib.contextmanager
def recording(ledger: Path | None, key: Path | None, sinks: tuple[str, ...]) -> Iterator[Record]:
    """A function that keeps records while this lasts; it keeps none without --ledger. Raises
    UsageError, InputError; keeping raises NotWritten when the disk is full."""
    with opened(ledger, key, sinks) as found:

        def record(kind: str, subject: str, detail: dict[str, Any]) -> None:
            if found is not None:
                found.append(kind, subject, detail)

        yield record


@contextlib.contextmanager
def opened(
    ledger: Path | None, key: Path | None, sinks: tuple[str, ...], option: str = KEY
) -> Iterator[Ledger | None]:
    """The ledger while this lasts, None without --ledger; `option` is its key's. Raises
    UsageError, InputError."""
    if (ledger is None) != (key is None):
        raise UsageError(f"--ledger and {option} belong together")
    if sinks and ledger is None:
        raise UsageError("--sink takes a ledger", remedy=f"add --ledger DIR {option} FILE")
    if ledger is None or key is None:
        yield None
        return
    from ringfence.watch.ledger.keys import private_key
    from ringfence.watch.ledger.sinks.choose import choose
    from ringfence.watch.ledger.writer import Ledger

    with Ledger.open(ledger, private_key(key), [choose(sink) for sink in sinks]) as found:
        yield found
