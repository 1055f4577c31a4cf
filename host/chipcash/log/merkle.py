# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of RFC 9162 section 2.1 (the same as RFC 6962's) with SHA-256: hashes, proofs, verification.

A tree of n leaves is split at the largest power of two below n, so its complete subtrees never change: node
(height, index) is the root over the leaves [index << height, (index + 1) << height). Whoever makes proofs
gives a function that looks these up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "EMPTY",
    "SIZE",
    "Nodes",
    "Range",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "prefix_root",
    "root_of",
    "subtree",
    "verify_consistency",
    "verify_inclusion",
]

SIZE = 32
"""Bytes of a hash."""
EMPTY = hashlib.sha256(b"").digest()
"""Root of a tree without leaves."""

Nodes = Callable[[int, int], bytes]
"""The root of a complete subtree by its height and index."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of an entry."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of a node with two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def subtree(hashes: Sequence[bytes]) -> bytes:
    """Root over a power of two of neighbouring nodes of one height."""
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [node_hash(left, right) for left, right in pairs]
    return hashes[0]


def root_of(peaks: Iterable[bytes]) -> bytes:
    """Root over complete subtrees that get smaller from left to right."""
    found = None
    for peak in reversed(list(peaks)):
        found = peak if found is None else node_hash(peak, found)
    return EMPTY if found is None else found


class Range:
    """A tree that leaves are added to one by one; holds one hash for each bit of its size that is set."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add a leaf's hash."""
        size = self.size
        while size & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            size >>= 1
        self._peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root now."""
        return root_of(self._peaks)


def _split(size: int) -> int:
    """The largest power of two below size."""
    return 1 << ((size - 1).bit_length() - 1)


def _root(nodes: Nodes, lo: int, hi: int) -> bytes:
    """Root over the leaves [lo, hi), where lo is where a split of the tree has put it."""
    peaks = []
    while lo < hi:
        height = (hi - lo).bit_length() - 1
        peaks.append(nodes(height, lo >> height))
        lo += 1 << height
    return root_of(peaks)


def prefix_root(nodes: Nodes, size: int) -> bytes:
    """Root of the tree when it had that size."""
    return _root(nodes, 0, size)


def inclusion_proof(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """That a leaf is in the tree of that size: PATH of RFC 9162 section 2.1.3.1. Raises ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    path = []
    lo, hi = 0, size
    while hi - lo > 1:
        middle = lo + _split(hi - lo)
        if index < middle:
            path.append(_root(nodes, middle, hi))
            hi = middle
        else:
            path.append(_root(nodes, lo, middle))
            lo = middle
    return path[::-1]


def consistency_proof(nodes: Nodes, old: int, size: int) -> list[bytes]:
    """That the tree of size continues the one of old: PROOF of RFC 9162 section 2.1.4.1.

    Empty if old is 0 or size. Raises ValueError if old is larger.
    """
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {size} does not continue one of {old}")
    if old in (0, size):
        return []
    path = []
    lo, hi = 0, size
    while old != hi:
        middle = lo + _split(hi - lo)
        if old <= middle:
            path.append(_root(nodes, middle, hi))
            hi = middle
        else:
            path.append(_root(nodes, lo, middle))
            lo = middle
    if lo:  # else the old tree is a left edge of this one: the verifier has its root
        path.append(_root(nodes, lo, hi))
    return path[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether proof shows that the leaf with this hash is number index of the tree (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size or not _are_hashes([leaf, root, *proof]):
        return False
    at, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(step, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, step)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(
    old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether proof shows that the tree of size continues the one of old (RFC 9162 section 2.1.4.2).

    Every tree continues the one without leaves, and itself: with an empty proof.
    """
    if not 0 <= old <= size or not _are_hashes([old_root, root, *proof]):
        return False
    if old == size:
        return not proof and old_root == root
    if old == 0:
        return not proof and old_root == EMPTY
    steps = list(proof)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        return False
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, step)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == root


def _are_hashes(values: Iterable[bytes]) -> bool:
    return all(len(value) == SIZE for value in values)
