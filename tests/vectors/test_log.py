# SPDX-License-Identifier: Apache-2.0
"""The vectors of the log: tree, proofs, checkpoint and audit."""

from __future__ import annotations

from typing import Any

import pytest

from chipcash.log import merkle
from chipcash.log.audit import Replay
from chipcash.log.errors import AuditFailed
from chipcash.log.note import COSIGNATURE, SIGNATURE, Key, open_checkpoint
from tests.vectors.reading import SUITES, load, trust


def entries(lines: list[dict[str, Any]]) -> list[bytes]:
    return [bytes.fromhex(line["entry"]) for line in lines if "leaf" in line]


@pytest.mark.parametrize("suite", SUITES)
def test_tree_and_proofs(suite: str) -> None:
    lines = load(f"log-{suite}")
    tree = merkle.Range()
    roots = [tree.root()]
    leaves = []
    for line in lines:
        if "leaf" in line:
            leaves.append(merkle.leaf_hash(bytes.fromhex(line["entry"])))
            tree.add(leaves[-1])
            roots.append(tree.root())
            assert (leaves[-1].hex(), tree.size, tree.root().hex()) == (
                line["leaf"], line["size"], line["root"],
            )  # fmt: skip
        proof = [bytes.fromhex(step) for step in line.get("proof", ())]
        if line["name"] == "inclusion":
            leaf = leaves[line["index"]]
            assert merkle.verify_inclusion(leaf, line["index"], line["size"], proof, roots[-1])
        if line["name"] == "consistency":
            old = line["old"]
            assert merkle.verify_consistency(old, roots[old], line["size"], roots[-1], proof)
    (line,) = [line for line in lines if line["name"] == "checkpoint"]
    log, witness = Key.parse(line["log"], SIGNATURE), Key.parse(line["witness"], COSIGNATURE)
    checkpoint, cosigned = open_checkpoint(line["note"].encode(), log, [witness])
    assert (checkpoint.size, checkpoint.root) == (len(leaves), roots[-1])
    assert [found.key for found in cosigned] == [witness]


@pytest.mark.parametrize("suite", SUITES)
def test_audit(suite: str) -> None:
    lines = load(f"log-{suite}")
    with Replay(trust(suite)) as replay:
        for entry in entries(lines):
            replay.add(entry)
        totals = replay.finish()
    assert (totals.issued_fen, totals.redeemed_fen, totals.evidence) == (1_000_000, 6_200, 1)
    refused = [line for line in lines if "instead" in line]
    assert len(refused) == 9
    for line in refused:
        spoilt = entries(lines)
        spoilt[line["instead"]] = bytes.fromhex(line["entry"])
        with Replay(trust(suite)) as replay, pytest.raises(AuditFailed) as failed:
            for entry in spoilt:
                replay.add(entry)
        assert failed.value.entry == line["refused"], line["name"]
