"""`ringfence watch log [LEDGER]`"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ringfence.cli.delivery import put, say
from ringfence.errors import InputError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from ringfence.watch.ledger.checkpoint import Checkpoint
    from ringfence.watch.ledger.listing import Wanted
    from ringfence.watch.ledger.segments import Segment
    from ringfence.watch.ledger.verify import Verdict

DEFAULT = Path("/var/lib/ringfence/ledger")
KINDS = ("event", "denial", "run", "probe", "policy", "ledger")
PAUSE = 0.2
"""Seconds between two looks with --follow."""
MOST_NOTES = 20
"""Notes of a verification that a terminal shows."""
MOST_TEXT = 300
"""Characters of each text of a verification that a terminal shows."""


@click.command("log")
@click.argument("ledger", type=click.Path(path_type=Path), default=DEFAULT)
@click.option("--since", metavar="TIME", default=None,
              help="2026-11-24T20:00, which is UTC as in the log, or 15m, 2h, 7d ago.")  # fmt: skip
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Repeatable.")
@click.option(
    "--format", "form", type=click.Choice(["terminal", "json"]),
    help="Default terminal; json: one object a line, as it stands in the ledger.",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="Go on with what is added.")
@click.option("--to", "sink", metavar="SINK", default="", help="Send the records there instead.")
@click.option("--verify", "verifying", is_flag=True, help="Exit 1 at the first broken place.")
@click.option("--public-key", type=click.Path(path_type=Path), help="The writer's, in PEM.")
@click.option(
    "--head", "heads", multiple=True, type=click.Path(path_type=Path), metavar="HEADFILE",
    help="A head that was kept elsewhere: the ledger must go on from it. Repeatable.",
)  # fmt: skip
@click.option("--archived", is_flag=True, help="The first segments were moved away on purpose.")
@click.option("--print-head", is_flag=True, help="The last signed head, to keep elsewhere.")
@click.option("--inclusion", type=int, metavar="N", help="Prove that record N is in the ledger.")
@click.option("--consistency", type=int, metavar="M", help="Prove that it began with M records.")
def command(
    ledger: Path,
    since: str | None,
    kinds: tuple[str, ...],
    form: str | None,
    follow: bool,
    sink: str,
    verifying: bool,
    public_key: Path | None,
    heads: tuple[Path, ...],
    archived: bool,
    print_head: bool,
    inclusion: int | None,
    consistency: int | None,
) -> None:
    """Show the records of LEDGER, verify it, or prove to others what stands in it.

    Proofs and heads are made only of a ledger that verifies. LEDGER is a directory; default
    /var/lib/ringfence/ledger.
    """
    from ringfence.watch.ledger.segments import segments

    whole = _only({
        "--verify": verifying, "--print-head": print_head,
        "--inclusion": inclusion is not None, "--consistency": consistency is not None,
    })  # fmt: skip
    listing = _given(
        {"--since": since is not None, "--kind": kinds, "--follow": follow, "--to": sink}
    )
    if whole and listing:
        raise UsageError(f"{whole} is of the whole ledger", remedy=f"leave out {listing[0]}")
    if form and (sink or whole not in ("", "--verify")):
        raise UsageError(f"{whole or '--to'} has one form", remedy="leave out --format")
    found = segments(ledger)
    if whole:
        if public_key is None:
            raise UsageError("no key", remedy="name the writer's with --public-key FILE")
        verified = _Verified(found, public_key, heads, archived)
        if inclusion is not None:
            verified.inclusion(inclusion)
        elif consistency is not None:
            verified.consistency(consistency)
        elif print_head:
            verified.print_head()
        else:
            verified.report(form or "terminal")
        return
    if heads or archived or public_key:
        raise UsageError("nothing to check these against", remedy="add --verify")
    if follow:
        from ringfence.watch.ledger.segments import covered, growing

        found = (*found[:-1], covered(found[-1]))
        added = growing(ledger, found[-1], PAUSE)
    else:
        added = iter(())
    lines = itertools.chain(*(segment.lines() for segment in found), added)
    _show(lines, _wanted(since, kinds), form or "terminal", sink, now=follow)


def _given(options: dict[str, object]) -> list[str]:
    return [name for name, value in options.items() if value]


def _only(options: dict[str, object]) -> str:
    """The one that is given, or none: of two, one would be passed over in silence."""
    given = _given(options)
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} do not go together", remedy="one at a time")
    return "".join(given)


def _wanted(since: str | None, kinds: tuple[str, ...]) -> Wanted:
    from ringfence.watch.ledger.clock import read_clock
    from ringfence.watch.ledger.listing import Wanted, moment

    start = moment(since, read_clock().wall) if since is not None else ""
    return Wanted(start, frozenset(kinds))


def _show(lines: Iterator[bytes], wanted: Wanted, form: str, sink: str, *, now: bool) -> None:
    from ringfence.watch.ledger.listing import records, terminal
    from ringfence.watch.ledger.record import encode

    if sink:
        _send(lines, wanted, sink)
        return
    for record in records(lines, wanted):
        text = terminal(record) if form == "terminal" else encode(record).decode()
        if not put(text + "\n", now=now):
            return
    put("")


def _send(lines: Iterator[bytes], wanted: Wanted, sink: str) -> None:
    """Send what another sink missed, or a first time; the first failure ends it."""
    from ringfence.watch.ledger.listing import records
    from ringfence.watch.ledger.sinks.choose import choose

    place = choose(sink)
    try:
        for record in records(lines, wanted):
            place.send([record])
    except (OSError, ValueError, RecursionError) as error:
        # The latter two: a detail that is nested too deep, or a line that grows beyond its limit.
        raise InputError(
            f"record {record.index} not sent: {error}", where=sink, remedy="is it listening?"
        ) from None
    finally:
        place.close()


class _Verified:
    """A ledger after its verification; what needs a whole one ends the command otherwise."""

    def __init__(
        self, found: tuple[Segment, ...], key: Path, heads: tuple[Path, ...], archived: bool
    ) -> None:
        from ringfence.watch.ledger.keys import public_key
        from ringfence.watch.ledger.verify import Source, verify

        self.segments = found
        self.key = public_key(key)
        kept = [_kept(self.key, path) for path in heads]
        sources = [Source(segment.number, segment.lines) for segment in found]
        self.verdict = verify(sources, self.key, kept, archived=archived)

    def report(self, form: str) -> None:
        """Print the verdict; exit 1 if the ledger is broken."""
        from ringfence.report import json_format
        from ringfence.watch.ledger.listing import escaped

        if form == "json":
            put(escaped(json_format.text(self.verdict)))
        else:
            put(_words(self.verdict) + "\n")
        sys.exit(1 if self.verdict.broken else 0)

    def print_head(self) -> None:
        """Print the last head as a signed note."""
        from ringfence.watch.ledger.checkpoint import note

        put(note(self.key, self._head()))

    def inclusion(self, index: int) -> None:
        """Print the proof for one record."""
        from ringfence.watch.ledger.proofs import inclusion

        _print(inclusion(self._lines(), index, self._head(), self.key))

    def consistency(self, size: int) -> None:
        """Print the proof that the first records are still the same."""
        from ringfence.watch.ledger.proofs import consistency

        _print(consistency(self._lines(), size, self._head(), self.key))

    def _head(self) -> Checkpoint:
        if self.verdict.broken or self.verdict.head is None:
            say(f"broken: {_clean(self.verdict.broken or 'no head')}")
            sys.exit(1)
        return self.verdict.head

    def _lines(self) -> Iterator[bytes]:
        self._head()
        return itertools.chain.from_iterable(segment.lines() for segment in self.segments)


def _kept(key: Ed25519PublicKey, path: Path) -> Checkpoint:
    from ringfence.watch.ledger.checkpoint import NotSigned, parse_note
    from ringfence.watch.ledger.keys import small_file

    try:
        return parse_note(key, small_file(path).decode(errors="replace"))
    except NotSigned as error:
        raise InputError(
            str(error), where=str(path), remedy="keep what `watch log --print-head` prints"
        ) from None


def _print(proof: object) -> None:
    from ringfence.report import json_format

    put(json_format.text(proof))


def _words(verdict: Verdict) -> str:
    where = f"{verdict.size - verdict.first} records in {verdict.segments} segments"
    if verdict.broken:
        first = f"BROKEN: {_clean(verdict.broken)}\n  {where} before that fit together"
    else:
        ledger, root = _clean(verdict.ledger), _clean(verdict.root)
        first = f"whole: {where}\n  ledger {ledger}\n  root   {root}"
    notes = [f"  note: {_clean(note)}" for note in verdict.notes[:MOST_NOTES]]
    if len(verdict.notes) > MOST_NOTES:
        notes.append(f"  and {len(verdict.notes) - MOST_NOTES} more notes: --format json has all")
    return "\n".join([first, *notes])


def _clean(text: str) -> str:
    """For a terminal: what stands in a ledger comes from whoever could write there."""
    from ringfence.watch.ledger.listing import one_line

    return one_line(text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + " ...")
