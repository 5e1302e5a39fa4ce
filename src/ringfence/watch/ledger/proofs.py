"""Proofs as JSON for somebody who has no ledger: docs/ledger.md has a verifier. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ringfence.errors import InputError, UsageError
from ringfence.watch.ledger.checkpoint import Checkpoint, note
from ringfence.watch.ledger.record import Record, decode
from ringfence.watch.ledger.tree import consistency_path, inclusion_path, leaf_hash, root_of


class Inclusion(msgspec.Struct, frozen=True, tag_field="proof", tag="inclusion"):
    """That `record` (the bytes of its line, as text) is number `index` of `size`; `path` are
    hashes in hexadecimal as RFC 9162, section 2.1.3, has them; `checkpoint` is a signed note."""

    schema: int
    index: int
    size: int
    record: str
    path: list[str]
    root: str
    checkpoint: str


class Consistency(msgspec.Struct, frozen=True, tag_field="proof", tag="consistency"):
    """That the first `old_size` records are still the same (section 2.1.4)."""

    schema: int
    old_size: int
    old_root: str
    size: int
    root: str
    path: list[str]
    checkpoint: str


Proof = Inclusion | Consistency


def leaves_of(lines: Iterable[bytes]) -> list[bytes]:
    """The leaf hashes of all records among lines that were verified before."""
    bare = (data.removesuffix(b"\n") for data in lines)
    return [leaf_hash(data) for data in bare if isinstance(decode(data), Record)]


def inclusion(
    lines: Iterable[bytes], index: int, head: Checkpoint, key: Ed25519PublicKey
) -> Inclusion:
    """Prove record `index` of a ledger that was verified, from record 0 on. Raises UsageError."""
    record = b""
    leaves: list[bytes] = []
    for data in lines:
        bare = data.removesuffix(b"\n")
        if isinstance(decode(bare), Record):
            record = bare if len(leaves) == index else record
            leaves.append(leaf_hash(bare))
    _whole(leaves, head)
    if not 0 <= index < head.size:
        raise UsageError(f"no record {index}", remedy=f"there are {head.size}, from 0 on")
    path = [item.hex() for item in inclusion_path(leaves, index)]
    return Inclusion(1, index, head.size, record.decode(), path, head.root, note(key, head))


def consistency(
    lines: Iterable[bytes], size: int, head: Checkpoint, key: Ed25519PublicKey
) -> Consistency:
    """Prove that the ledger goes on from its first `size` records. Raises UsageError."""
    leaves = leaves_of(lines)
    _whole(leaves, head)
    if not 1 <= size <= head.size:
        raise UsageError(f"no head over {size} records", remedy=f"1 to {head.size}")
    path = [item.hex() for item in consistency_path(leaves, size)]
    return Consistency(
        1, size, root_of(leaves[:size]).hex(), head.size, head.root, path, note(key, head)
    )


def _whole(leaves: list[bytes], head: Checkpoint) -> None:
    """Archived segments, or a writer that went on since the verification."""
    if len(leaves) != head.size:
        raise InputError(
            f"{len(leaves)} records of {head.size} are here",
            remedy="proofs need every segment from 0 on: put the archived ones back",
        )
