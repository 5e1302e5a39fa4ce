"""Merkle roots and proofs against published values, pymerkle, and the verifier of the docs."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.watch.ledger.tree import (
    EMPTY,
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of,
)
from tests.unit.watch.outside import VERIFIER

# The leaves and roots that Certificate Transparency's own tests use (merkle_tree_test.cc).
PUBLISHED_LEAVES = [
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]  # fmt: skip
PUBLISHED_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(sha256(str(number).encode()).digest()) for number in range(count)]


def test_published_roots() -> None:
    hashes = [leaf_hash(bytes.fromhex(text)) for text in PUBLISHED_LEAVES]
    roots = [root_of(hashes[:count]).hex() for count in range(9)]
    assert roots == PUBLISHED_ROOTS
    assert EMPTY.hex() == PUBLISHED_ROOTS[0]


@given(st.integers(1, 300), st.data())
def test_proofs_convince_the_outside_verifier_and_only_of_the_truth(
    size: int, data: st.DataObject
) -> None:
    all_leaves = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_path(all_leaves, index)
    root = root_of(all_leaves)
    included: Any = VERIFIER["root_from_inclusion"]
    assert included(index, size, all_leaves[index], path) == root
    assert included(index, size, leaf_hash(b"another"), path) != root
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        assert included(other, size, all_leaves[index], path) != root


@given(st.integers(1, 300), st.data())
def test_consistency_convinces_and_only_of_the_truth(size: int, data: st.DataObject) -> None:
    all_leaves = leaves(size)
    old = data.draw(st.integers(1, size))
    path = consistency_path(all_leaves, old)
    old_root, root = root_of(all_leaves[:old]), root_of(all_leaves)
    consistent: Any = VERIFIER["roots_from_consistency"]
    assert consistent(old, size, old_root, path) == (old_root, root)
    changed = [leaf_hash(b"another"), *all_leaves[1:]]
    if changed[:old] != all_leaves[:old]:
        assert consistent(old, size, root_of(changed[:old]), path) != (root_of(changed[:old]), root)


@given(st.integers(1, 130), st.data())
def test_pymerkle_agrees(size: int, data: st.DataObject) -> None:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for number in range(size):
        tree.append_entry(str(number).encode())
    ours = [leaf_hash(str(number).encode()) for number in range(size)]
    assert tree.get_root() == root_of(ours)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    # pymerkle counts from 1, and puts the leaf itself first.
    assert tree.prove_inclusion(index + 1, size).path[1:] == inclusion_path(ours, index)
    pymerkle.verify_consistency(
        root_of(ours[:old]), root_of(ours), tree.prove_consistency(old, size)
    )


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_frontier_goes_on_from_its_peaks(before: int, after: int) -> None:
    all_leaves = leaves(before + after)
    tree = Frontier()
    for leaf in all_leaves[:before]:
        tree.push(leaf)
    again = Frontier(before, tree.peaks)
    for leaf in all_leaves[before:]:
        again.push(leaf)
    assert again.root() == root_of(all_leaves)
    assert tree.root() == root_of(all_leaves[:before])


@pytest.mark.parametrize(("size", "count"), [(3, 1), (0, 1), (4, 2), (7, 0)])
def test_peaks_that_do_not_fit_are_refused(size: int, count: int) -> None:
    with pytest.raises(ValueError, match="peaks"):
        Frontier(size, [EMPTY] * count)
