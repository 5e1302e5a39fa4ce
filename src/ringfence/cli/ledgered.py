"""--ledger, --key and --sink: what a command saw and did, kept in the append-only ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from ringfence.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
Record = Callable[[str, str, dict[str, Any]], None]
"""Keep one record: kind, subject, detail (docs/ledger.md). No secret is ever a part of it."""


def ledgered(function: F) -> F:
    """The options of a command that keeps records."""
    for option in (
        click.option("--sink", "sinks", multiple=True, metavar="SINK",
                     help="journald, syslog... get the ledger's records. Repeatable."),
        click.option("--key", type=click.Path(path_type=Path),
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
    if (ledger is None) != (key is None):
        raise UsageError("--ledger and --key belong together")
    if sinks and ledger is None:
        raise UsageError("--sink takes a ledger", remedy="add --ledger DIR --key FILE")
    if ledger is None or key is None:
        yield lambda kind, subject, detail: None
        return
    from ringfence.watch.ledger.keys import private_key
    from ringfence.watch.ledger.sinks.choose import choose
    from ringfence.watch.ledger.writer import Ledger

    with Ledger.open(ledger, private_key(key), [choose(sink) for sink in sinks]) as opened:

        def record(kind: str, subject: str, detail: dict[str, Any]) -> None:
            opened.append(kind, subject, detail)

        yield record
