# SPDX-License-Identifier: Apache-2.0
"""`chipcash evidence`: proofs of repeat payment, checkable by anyone who has the network's trust file."""

from __future__ import annotations

from pathlib import Path

import click

from chipcash.cli.base import Group, Report, yuan
from chipcash.evidence import verify_evidence
from chipcash.trust import Trust
from chipcash_wire import objects


@click.group("evidence", cls=Group)
def command() -> None:
    """Proofs of repeat payment."""


@command.command("verify")
@click.argument("evidence", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--trust",
    "trust_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The network's trust file.",
)
def verify(evidence: Path, trust_path: Path) -> Report:
    """Check that one key signed two different claims on overlapping money of one title."""
    facts = verify_evidence(objects.Evidence.decode(evidence.read_bytes()), Trust.load(trust_path))
    data = {
        "valid": True,
        "payer": facts.payer.hex(),
        "title_id": facts.title_id.hex(),
        "overlap": [facts.lo, facts.hi],
        "overlap_fen": facts.hi - facts.lo,
        "claims": [claim.hex() for claim in facts.claim_ids],
    }
    return Report(
        data,
        [
            f"Valid: the key {facts.payer.hex()} paid {yuan(facts.hi - facts.lo)} yuan twice,",
            f"fen {facts.lo} to {facts.hi} of title {facts.title_id.hex()},",
            *[f"  in claim {claim.hex()}" for claim in facts.claim_ids],
        ],
    )
