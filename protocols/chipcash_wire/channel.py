# SPDX-License-Identifier: Apache-2.0
"""The secure channel between a host and a card (protocols/spec/channel.md): keys, sealing, opening.

Card and host bring the suite's hash, block cipher and key agreement; this is what they have in common. CCM is
that of NIST SP 800-38C (RFC 3610) with nonces of 13 bytes, tags of 16, and no associated data.
"""

from chipcash_wire.compat import TYPE_CHECKING, equal

if TYPE_CHECKING:
    from typing import Callable

    Cipher = Callable[[bytes], bytes]
    """A block cipher under one key: whole blocks of 16 bytes in, each enciphered by itself, out."""

_BLOCK = 16
_KEY = 16
_NONCE = 13
_PIECE = 8 * _BLOCK
TAG = 16
"""Bytes that a sealed message is longer."""
_MAX_TEXT = 0xFFFF


class ChannelBroken(Exception):
    """A sealed message is not the other side's next one: changed, repeated, lost, or under another key."""


class Channel:
    """One end of a secure channel. Each side seals and opens by turns; after ChannelBroken it is of no use.

    hash: the suite's; cipher(key): the suite's block cipher under a key of 16 bytes; secret: the agreed
    x-coordinate, 32 bytes; proof: what the card signed of the agreement (ChannelProof.message()); card: which
    end this is.
    """

    def __init__(
        self,
        hash: "Callable[[bytes], bytes]",
        cipher: "Callable[[bytes], Cipher]",
        secret: bytes,
        proof: bytes,
        card: bool,
    ) -> None:
        # The key derivation of ANSI X9.63 and GB/T 32918.4; one hash is two keys.
        keys = hash(secret + b"\x00\x00\x00\x01" + proof)
        commands = cipher(keys[:_KEY])
        replies = cipher(keys[_KEY : 2 * _KEY])
        self._outward, self._inward = (replies, commands) if card else (commands, replies)
        self._sealed = 0
        self._opened = 0

    def seal(self, text: bytes) -> bytes:
        """Encipher and authenticate our next message, at most 65,535 bytes."""
        nonce = self._sealed.to_bytes(_NONCE, "big")
        self._sealed += 1
        return bytes(_crypt(self._outward, nonce, text) + _tag(self._outward, nonce, text))

    def open(self, data: bytes) -> bytes:
        """The other side's next message. Raises ChannelBroken."""
        if not TAG <= len(data) <= _MAX_TEXT + TAG:
            raise ChannelBroken()
        nonce = self._opened.to_bytes(_NONCE, "big")
        self._opened += 1
        text = bytes(_crypt(self._inward, nonce, data[:-TAG]))
        if not equal(_tag(self._inward, nonce, text), bytes(data[-TAG:])):
            raise ChannelBroken()
        return text


def _xor(a: bytes, b: bytes) -> bytes:
    n = len(a)
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(n, "big")


def _crypt(cipher: "Cipher", nonce: bytes, text: bytes) -> bytearray:
    """Encipher or decipher: counter mode from block 1 on. Piece by piece, since a card has little memory."""
    out = bytearray(text)
    counter = 0
    for at in range(0, len(out), _PIECE):
        piece = bytes(out[at : at + _PIECE])
        n = len(piece)
        counters = b""
        for _ in range(0, n, _BLOCK):
            counter += 1
            counters += b"\x01" + nonce + counter.to_bytes(2, "big")
        out[at : at + n] = _xor(piece, cipher(counters)[:n])
    return out


def _tag(cipher: "Cipher", nonce: bytes, text: bytes) -> bytes:
    """CBC-MAC over length and text, enciphered with counter block 0."""
    n = len(text)
    # 0x39: no associated data, a tag of 16 bytes, a length field of 2 (SP 800-38C, appendix A.2.1).
    mac = cipher(b"\x39" + nonce + n.to_bytes(2, "big"))
    for at in range(0, n, _BLOCK):
        block = bytes(text[at : at + _BLOCK])
        mac = cipher(_xor(mac, block + bytes(_BLOCK - len(block))))
    return _xor(mac, cipher(b"\x01" + nonce + b"\x00\x00"))
