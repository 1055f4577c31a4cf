# SPDX-License-Identifier: Apache-2.0
"""Hashes and proofs: vectors of others, and a second implementation straight from the RFC's definitions."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipcash.log import merkle
from chipcash.log.merkle import Range, leaf_hash
from tests.vectors.make_log import mth, path, subproof

VECTORS = Path(__file__).parents[1] / "vectors" / "merkle"


def load(name: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_bytes())
    return lines


def decode(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def steps(line: dict[str, Any]) -> list[bytes]:
    return [decode(step) for step in line["proof"] or ()]


@pytest.mark.parametrize("line", load("inclusion"), ids=lambda line: line["file"])
def test_inclusion_vectors(line: dict[str, Any]) -> None:
    good = merkle.verify_inclusion(
        decode(line["leafHash"]), line["leafIdx"], line["treeSize"], steps(line), decode(line["root"])
    )  # fmt: skip
    assert good != line["wantErr"]


@pytest.mark.parametrize("line", load("consistency"), ids=lambda line: line["file"])
def test_consistency_vectors(line: dict[str, Any]) -> None:
    good = merkle.verify_consistency(
        line["size1"], decode(line["root1"]), line["size2"], decode(line["root2"]), steps(line)
    )
    assert good != line["wantErr"]


# ---- the definitions of RFC 9162, section 2.1, word by word: tests/vectors/make_log.py -----------------


def entries(size: int) -> list[bytes]:
    return [b"%d" % number for number in range(size)]


def nodes(data: list[bytes]) -> merkle.Nodes:
    def find(height: int, index: int) -> bytes:
        found = data[index << height : (index + 1) << height]
        assert len(found) == 1 << height, "not a complete subtree"
        return mth(found)

    return find


@pytest.mark.parametrize("size", range(1, 40))
def test_every_proof_of_small_trees(size: int) -> None:
    data = entries(size)
    root = mth(data)
    tree = Range()
    for entry in data:
        tree.add(leaf_hash(entry))
    assert (tree.size, tree.root()) == (size, root)
    for index in range(size):
        proof = merkle.inclusion_proof(nodes(data), index, size)
        assert proof == path(index, data)
        assert merkle.verify_inclusion(leaf_hash(data[index]), index, size, proof, root)
    for old in range(size + 1):
        proof = merkle.consistency_proof(nodes(data), old, size)
        assert merkle.prefix_root(nodes(data), old) == mth(data[:old])
        if old:
            assert proof == subproof(old, data, True)
        assert merkle.verify_consistency(old, mth(data[:old]), size, root, proof)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 60), st.data())
def test_no_other_proof_verifies(size: int, draw: st.DataObject) -> None:
    """One change of anything that is not the proof of something else that is true."""
    data = entries(size)
    root = mth(data)
    index = draw.draw(st.integers(0, size - 1))
    proof = path(index, data)
    changed = list(proof)
    how = draw.draw(st.sampled_from(["drop", "twice", "flip", "other leaf", "other index"]))
    leaf, at = leaf_hash(data[index]), index
    step = draw.draw(st.integers(0, len(proof) - 1))
    if how == "drop":
        del changed[step]
    elif how == "twice":
        changed.insert(step, changed[step])
    elif how == "flip":
        changed[step] = bytes((changed[step][0] ^ 1,)) + changed[step][1:]
    elif how == "other leaf":
        leaf = leaf_hash(b"another")
    else:
        at = (index + 1) % size
    assert not merkle.verify_inclusion(leaf, at, size, changed, root)
    old = draw.draw(st.integers(1, size - 1))
    good = subproof(old, data, True)
    assert not merkle.verify_consistency(old, mth(data[:old]), size, root, [*good, root])
    assert not merkle.verify_consistency(old, mth([b"x", *data[1:old]]), size, root, good)
    assert not merkle.verify_consistency(old, mth(data[:old]), size, mth([*data, b"x"]), good)


def test_what_is_not_there_has_no_proof() -> None:
    data = entries(5)
    for index in (-1, 5):
        with pytest.raises(ValueError):
            merkle.inclusion_proof(nodes(data), index, 5)
    with pytest.raises(ValueError):
        merkle.consistency_proof(nodes(data), 6, 5)
    root = mth(data)
    assert not merkle.verify_inclusion(root, 0, 0, [], root)
    assert not merkle.verify_inclusion(leaf_hash(data[0]), -1, 5, path(0, data), root)
    assert not merkle.verify_consistency(6, root, 5, root, [])
    assert not merkle.verify_consistency(0, root, 5, root, [])
