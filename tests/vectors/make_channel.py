# SPDX-License-Identifier: Apache-2.0
"""A secure channel from both ends: keys, and commands and replies as they travel.

CCM is put together here from CBC and counter mode of another library, not by what is to be tested.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, CipherAlgorithm, algorithms, modes

from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.vectors.signing import Key, Network


def ccm(algorithm: CipherAlgorithm, nonce: bytes, text: bytes) -> bytes:
    """AES-CCM or SM4-CCM (SP 800-38C) without associated data; a nonce of 13 bytes, a tag of 16."""
    padded = text + bytes(-len(text) % 16)
    chain = Cipher(algorithm, modes.CBC(bytes(16))).encryptor()
    mac = chain.update(b"\x39" + nonce + len(text).to_bytes(2, "big") + padded)[-16:]
    counter = Cipher(algorithm, modes.CTR(b"\x01" + nonce + bytes(2))).encryptor()
    tag = counter.update(mac)
    return counter.update(text) + tag


def channel(net: Network) -> list[dict[str, Any]]:
    """The one agreement of a suite, and what passes through its channel in order."""
    host, card = (Key(net.suite, f"{side} channel") for side in ("host", "card"))
    proof = net.channel_proof()
    point = net.suite.curve.decompress(card.public)
    assert point is not None
    secret = net.suite.curve.agree(int.from_bytes(host.private, "big"), point)
    keys = net.suite.hash(secret + b"\x00\x00\x00\x01" + proof.message())
    algorithm = algorithms.AES if net.suite.id == o.SUITE_P256 else algorithms.SM4
    outward, inward = algorithm(keys[:16]), algorithm(keys[16:])
    found: list[dict[str, Any]] = [
        {
            "host_private": host.private.hex(),
            "card_private": card.private.hex(),
            "proof": proof.encode().hex(),
            "secret": secret.hex(),
            "command_key": keys[:16].hex(),
            "reply_key": keys[16:].hex(),
        }
    ]
    exchanges = (
        (c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, b"123456", le=0), b"\x90\x00"),
        (c.command(c.INS_GET_DATA, c.DATA_TITLE, 0, le=65536),
         o.TitleRecord(title=net.small_title, lo=1_200).encode() + b"\x90\x00"),
        (c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, b"1111", le=0), b"\x63\xc2"),
    )  # fmt: skip
    for number, (command, reply) in enumerate(exchanges):
        nonce = number.to_bytes(13, "big")
        sealed = ccm(outward, nonce, command)
        found.append(
            {
                "command": command.hex(),
                "sealed_command": sealed.hex(),
                "apdu": c.command(c.INS_ENVELOPE, data=sealed, le=65536).hex(),
                "reply": reply.hex(),
                "sealed_reply": ccm(inward, nonce, reply).hex(),
            }
        )
    return found
