# SPDX-License-Identifier: Apache-2.0
"""The committed files are what the generator makes, and have the form that the README promises."""

from __future__ import annotations

import json

import pytest

from chipcash import crypto
from chipcash.terminal import REASONS
from chipcash_wire import objects as o
from tests.vectors.generate import FOLDER, files
from tests.vectors.make_objects import KINDS
from tests.vectors.reading import SUITES, load, private
from tests.wire.strategies import OBJECTS


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return files()


def test_generating_again_gives_the_committed_bytes(made: dict[str, str]) -> None:
    committed = {file.name for file in FOLDER.iterdir() if file.suffix in (".json", ".ccn")}
    assert committed == set(made)
    for name, text in made.items():
        assert (FOLDER / name).read_text(encoding="ascii") == text, (
            f"{name} has drifted; run: python -m tests.vectors.generate"
        )


def test_each_vector_has_a_line_of_its_own(made: dict[str, str]) -> None:
    for name, text in made.items():
        if name.endswith(".json"):
            first, *lines, last = text.splitlines()
            assert (first, last) == ("[", "]")
            assert [json.loads(line.rstrip(",")) for line in lines] == json.loads(text)


def test_a_small_machine_can_hold_a_line(made: dict[str, str]) -> None:
    """What the card's side reads: tests/portable/test_vectors.py."""
    for name, text in made.items():
        if name.startswith(("keys", "objects", "bad-objects", "signatures", "card")):
            assert max(len(line) for line in text.splitlines()) < 5000, name


def test_every_object_is_there() -> None:
    assert set(KINDS.values()) == set(OBJECTS)
    for suite in SUITES:
        assert {line["object"] for line in load(f"objects-{suite}")} == set(KINDS)
        assert {line["object"] for line in load(f"bad-objects-{suite}")} == set(KINDS)


@pytest.mark.parametrize("suite", SUITES)
def test_every_way_to_be_wrong_is_there(suite: str) -> None:
    faults: dict[str, set[str]] = {}
    for line in load(f"bad-objects-{suite}"):
        faults.setdefault(line["fault"], set()).add(line["object"])
    every = set(KINDS)
    for fault in ("truncated", "bytes behind", "length not minimal", "indefinite length",
                  "tag not canonical", "another object's tag", "fields in another order",
                  "missing field", "unknown field"):  # fmt: skip
        assert faults[fault] == every, fault
    for fault, cls in (
        ("unknown suite", o.Coin),
        ("unknown version", o.Coin),
        ("integer not minimal", o.Coin),
        ("integer too large", o.Coin),
        ("no compressed key", o.Coin),
        ("wrong length", o.Coin),
        ("field twice", o.Coin),
        ("amount is zero", o.PayRequest),
        ("lo equals hi", o.Title),
        ("lo above hi", o.Input),
        ("interval exceeds the coin", o.Title),
        ("interval exceeds its title", o.Payment),
        ("sum overflows", o.Claim),
        ("amount is not the sum", o.Claim),
        ("title twice in a claim", o.Claim),
        ("too many", o.Claim),
        ("a card's fields for another role", o.Certificate),
        ("card without its fields", o.Certificate),
    ):
        assert any(KINDS[name] is cls for name in faults[fault]), fault


@pytest.mark.parametrize("suite", SUITES)
def test_every_reason_outcome_and_error_is_there(suite: str) -> None:
    assert {line["result"] for line in load(f"terminal-{suite}")} == {"accepted", *REASONS}
    center = load(f"center-{suite}")
    states = {
        outcome["state"]
        for step in center
        for result in step.get("results", ())
        for outcome in result["outcomes"]
    }
    assert states == set(o.OUTCOMES[1:])
    errors = {step["error"] for step in center if "error" in step}
    assert errors == {
        "malformed", "network", "signature", "void", "not-yet", "unknown", "conflict",
        "too-large", "role", "expired", "blacklisted", "subject", "challenge",
    }  # fmt: skip


@pytest.mark.parametrize("suite", SUITES)
def test_one_story_is_told_from_card_to_center(suite: str) -> None:
    """The claims that the card must make are those that the terminal takes and the center settles."""
    card = {step["payment"]["claim"] for step in load(f"card-{suite}") if "payment" in step}
    accepted = [
        o.Payment.decode(bytes.fromhex(line["answer"])).claim
        for line in load(f"terminal-{suite}")
        if line["name"] in ("the first payment", "the second payment, of two titles")
    ]
    assert len(accepted) == 2
    deposits = [
        claim
        for step in load(f"center-{suite}")
        if step.get("path") == "/v1/deposits" and step["status"] == 200
        for claim in o.Deposit.decode(bytes.fromhex(step["body"])).claims
    ]
    for claim in accepted:
        assert claim.message().hex() in card
        assert claim in deposits


def test_ecdsa_signatures_are_those_of_rfc_6979() -> None:
    """Another library makes the same ones: whoever has the keys can make the vectors again."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    checked = 0
    for line in load("objects-p256"):
        if "signer" in line and "anew" not in line["name"]:
            number = int.from_bytes(private("p256", line["signer"]).private_bytes(), "big")
            key = ec.derive_private_key(number, ec.SECP256R1())
            how = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
            r, s = decode_dss_signature(key.sign(bytes.fromhex(line["message"]), how))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
            assert line["fields"]["signature"] == signature.hex()
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("suite", SUITES)
def test_keys_belong_together(suite: str) -> None:
    for line in load("keys"):
        if line["suite"] == suite:
            key = private(suite, line["name"])
            assert (key.public.hex(), key.key_id.hex()) == (line["public"], line["key_id"])
            assert crypto.suite(suite).hash(key.public)[:8].hex() == line["key_id"]
