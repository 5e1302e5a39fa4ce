"""`ringfence watch init TARGET... -o BASELINE`"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ringfence.cli.delivery import say
from ringfence.cli.ledgered import OWN_KEY, ledgered_beside_a_seal, opened
from ringfence.cli.progress import progress
from ringfence.errors import UsageError

if TYPE_CHECKING:
    from ringfence.watch.baseline.making import Made
    from ringfence.watch.baseline.seal import Signer

KINDS = ("directory", "host", "container", "process", "image", "archive")
NAMED = 5
"""Unseen paths that are named on standard error."""
FILE = click.Path(path_type=Path)


@click.command("init")
@click.argument("target", nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, required=True, help="Where the baseline goes.")
@click.option("--key", default="", metavar="FILE|command:CMD",
              help="The private key, or a command that signs its standard input.")  # fmt: skip
@click.option(
    "--public-key", type=FILE, help="The public key that belongs to --key: command:CMD needs it."
)
@click.option("--generate-key", type=FILE, help="Make a key pair FILE and FILE.pub, and use it.")
@click.option("--rule", "rule", multiple=True, metavar="GLOB=MODE",
              help="exact, grows, metadata-only or ignored; the last match wins. Repeatable.",
)  # fmt: skip
@click.option("--rules", type=FILE, help="A TOML file of rules; --rule comes after them.")
@click.option(
    "--only", multiple=True, metavar="PATH", help="Only this path below the target. Repeatable."
)
@click.option("--with", "chosen", multiple=True, type=click.Choice(["mtime", "ctime", "inode"]),
              help="Compare this attribute, too. Repeatable.")  # fmt: skip
@click.option("--hash", "algorithm", type=click.Choice(["sha256", "blake3"]), default=None,
              help="Default sha256.")  # fmt: skip
@click.option("--from-aide", multiple=True, type=FILE, metavar="FILE",
              help="Take over an aide.conf, or an AIDE database as the baseline. Repeatable.",
)  # fmt: skip
@click.option("--kind", type=click.Choice(KINDS), default=None, help="What the target is.")
@ledgered_beside_a_seal
def command(
    target: tuple[str, ...],
    output: Path,
    key: str,
    public_key: Path | None,
    generate_key: Path | None,
    rule: tuple[str, ...],
    rules: Path | None,
    only: tuple[str, ...],
    chosen: tuple[str, ...],
    algorithm: str | None,
    from_aide: tuple[Path, ...],
    kind: str | None,
    ledger: Path | None,
    ledger_key: Path | None,
    sinks: tuple[str, ...],
) -> None:
    """A baseline of TARGET: what every file is, sealed with a signature.

    TARGET is a directory, a root file system, an image or tar archive, a running container, a
    process, `host`, or several paths of this host.
    """
    from ringfence.watch.baseline.making import Wishes, make
    from ringfence.watch.baseline.rules import parse_rule, read_rules
    from ringfence.watch.baseline.targets import find_target

    stated = (*(read_rules(rules) if rules else ()), *map(parse_rule, rule))
    if from_aide and only:
        raise UsageError("AIDE's files say which paths are looked at", remedy="leave out --only")
    wishes = Wishes(algorithm or "sha256", tuple(dict.fromkeys(chosen)), stated)
    found = find_target(target, kind or "", only)
    with (
        opened(ledger, ledger_key, sinks, OWN_KEY) as kept,
        _signer(key, public_key, generate_key) as signer,
        progress("looking at every file"),
    ):
        if from_aide:
            from ringfence.watch.baseline.aide import take_over

            looks = {"--hash": algorithm, "--with": chosen}
            given = tuple(name for name, value in looks.items() if value)
            made = take_over(found, wishes, signer, output, from_aide, given)
        else:
            made = make(found, wishes, signer, output)
        if kept is not None:
            from ringfence.watch.baseline.kept import keep_made

            keep_made(kept, found, made, wishes, output, signer)
    _tell(made, output)


def _signer(
    key: str, public: Path | None, generate: Path | None
) -> contextlib.AbstractContextManager[Signer]:
    from ringfence.watch.baseline import seal

    if bool(key) == bool(generate):
        raise UsageError(
            "a baseline is sealed with one key", remedy="give --key, or --generate-key FILE"
        )
    if not generate:
        return contextlib.nullcontext(seal.signer(key, public))
    if public is not None:
        raise UsageError(
            f"--generate-key writes the public key to {generate}.pub",
            remedy="leave out --public-key",
        )
    return seal.generated(generate)


def _tell(made: Made, output: Path) -> None:
    size = made.bytes_read / 1e6
    _say(f"{output}: {made.entries} entries, {size:.0f} MB read, {made.algorithm}, sealed")
    if made.unseen:
        from ringfence.watch.baseline.items import shown
    for path, why in made.unseen[:NAMED]:
        _say(f"not seen: {shown(b'/' + path)[0]}: {why}")
    if len(made.unseen) > NAMED:
        _say(f"not seen: {len(made.unseen) - NAMED} more")
    for note in made.notes:
        _say(note)


def _say(text: str) -> None:
    line = "".join(char if char.isprintable() else "?" for char in text)
    say(line)
