# SPDX-License-Identifier: Apache-2.0
"""`chipcash evidence`: proofs of repeat payment, checkable by anyone who has the network's public file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chipcash.center.errors import CenterRefused
from chipcash.cli.base import (
    Group,
    Hex,
    Report,
    center_at,
    center_option,
    network_option,
    progress,
    yuan,
)
from chipcash.errors import ChipcashError
from chipcash.evidence import verify_evidence
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o


class NoEvidence(ChipcashError):
    """There is not the one piece of evidence that was asked for."""


@click.group("evidence", cls=Group)
def command() -> None:
    """Proofs of repeat payment."""


@command.command("verify")
@click.argument("evidence", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@network_option
def verify(evidence: Path, network_file: Path) -> Report:
    """Check that one key signed two different claims on overlapping money of one title."""
    found = o.Evidence.decode(evidence.read_bytes())
    data = _facts(found, Trust.load(network_file))
    lo, hi = data["overlap"]
    return Report(
        {"valid": True, **data},
        [
            f"Valid: the key {data['payer']} paid {yuan(hi - lo)} yuan twice,",
            f"fen {lo} to {hi} of title {data['title_id']},",
            *[f"  in claim {claim}" for claim in data["claims"]],
        ],
    )


@command.command("fetch")
@click.argument("ident", metavar="DIGEST|CLAIM", type=Hex(32))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, which must not be there yet.",
)
@network_option
@center_option
def fetch(ident: bytes, output: Path, network_file: Path, url: str) -> Report:
    """Get evidence by its digest, or by the claim that repeated a payment, verify it and write it."""
    trust = Trust.load(network_file)
    with center_at(url, trust) as center, progress(f"Asking {url}"):
        try:
            evidence = center.evidence(ident)
        except CenterRefused as refused:
            if refused.name != "unknown":
                raise
            evidence = center.evidence(_only(ident, center.claim(ident)["evidence"]))
    data = _facts(evidence, trust)
    with output.open("xb") as file:
        file.write(evidence.encode())
    digest = object_id(evidence).hex()
    return Report(
        {"file": str(output), "digest": digest, **data},
        [f"{output}: evidence {digest} against {data['payer']}, verified"],
    )


def _only(claim_id: bytes, digests: list[str]) -> bytes:
    """The digest of a claim's only piece of evidence."""
    if len(digests) == 1:
        return bytes.fromhex(digests[0])
    if not digests:
        raise NoEvidence(
            "This claim repeated no payment: there is no evidence against its payer by it.",
            hint="Ask for the later of the two claims.",
            claim_id=claim_id.hex(),
        )
    raise NoEvidence(
        f"There are {len(digests)} pieces of evidence by this claim, one for each title.",
        hint="Fetch each by its digest: " + ", ".join(digests),
        claim_id=claim_id.hex(),
        digests=digests,
    )


def _facts(evidence: o.Evidence, trust: Trust) -> dict[str, Any]:
    """What the evidence proves, as JSON. Raises EvidenceInvalid."""
    facts = verify_evidence(evidence, trust)
    return {
        "payer": facts.payer.hex(),
        "serial": facts.serial.hex(),
        "title_id": facts.title_id.hex(),
        "overlap": [facts.lo, facts.hi],
        "overlap_fen": facts.hi - facts.lo,
        "claims": [claim.hex() for claim in facts.claim_ids],
    }
