"""Merkle tree hashing and proofs as RFC 9162, section 2.1 (the same as RFC 6962's) defines them.

Why it is written here: docs/decisions/0014-ledger.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY = sha256(b"").digest()
"""Root of the tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256 of 0x00 and the leaf's bytes."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and the hashes of both children."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """A growing tree of which only the roots of its perfect subtrees are kept, largest first.

    They are what the binary digits of `size` say: 6 leaves are a subtree of 4 and one of 2.
    """

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """An empty tree, or one of `size` leaves. Raises ValueError if the peaks do not fit."""
        if len(peaks) != size.bit_count() or any(len(peak) != len(EMPTY) for peak in peaks):
            raise ValueError(f"{len(peaks)} peaks for a tree of {size}")
        self.size = size
        self.peaks = list(peaks)

    def push(self, leaf: bytes) -> None:
        """Add one leaf by its hash: one merge for each trailing one of `size`."""
        full = self.size
        while full & 1:
            leaf = node_hash(self.peaks.pop(), leaf)
            full >>= 1
        self.peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root of all leaves so far."""
        if not self.peaks:
            return EMPTY
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def copy(self) -> Frontier:
        """The same tree, to grow apart from this one."""
        return Frontier(self.size, self.peaks)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root of a tree of these leaf hashes."""
    tree = Frontier()
    for leaf in leaves:
        tree.push(leaf)
    return tree.root()


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """What proves that leaf `index` is in the tree of `leaves`, from the leaf up (2.1.3.1)."""
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if index < split:
        return [*inclusion_path(left, index), root_of(right)]
    return [*inclusion_path(right, index - split), root_of(left)]


def consistency_path(leaves: Sequence[bytes], size: int) -> list[bytes]:
    """What proves that the tree of the first `size` leaves is a beginning of this one (2.1.4.1);
    `size` is from 1 to all of them."""
    return _subproof(leaves, size, whole=True)


def _subproof(leaves: Sequence[bytes], size: int, *, whole: bool) -> list[bytes]:
    """SUBPROOF of 2.1.4.1; `whole` says that the verifier knows the root of this subtree."""
    if size == len(leaves):
        return [] if whole else [root_of(leaves)]
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if size <= split:
        return [*_subproof(left, size, whole=whole), root_of(right)]
    return [*_subproof(right, size - split, whole=False), root_of(left)]


def _split(count: int) -> int:
    """The largest power of two below `count` (of at least 2)."""
    return 1 << (count - 1).bit_length() - 1
