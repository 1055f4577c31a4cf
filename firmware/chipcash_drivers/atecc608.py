# SPDX-License-Identifier: Apache-2.0
"""Microchip's ATECC608 (A, B, C) as the place of the card's P-256 key, on I2C.

By the data sheets of the pre-provisioned chips, ATECC608-TNGTLS and -TFLXTLS: their configuration is locked
as they come, and slot 2 holds a key that the chip makes itself, signs with, and never gives out; nothing
here writes to a configuration. Such a chip costs a payment some 50 ms more than a coupon would."""

import time

from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

ADDRESS = 0x35
"""Of the -TNGTLS; the -TFLXTLS has 0x36."""
HZ = 100000
"""What the bus may have at most: eight bits of nothing have to be long enough to wake the chip."""

_SLOT = 2
_COMMAND = 0x03
_SLEEP = b"\x01"
_RANDOM = 0x1B
_NONCE = 0x16
_GENKEY = 0x40
_SIGN = 0x41
_PUBLIC_OF = 0x00
_NEW_PRIVATE = 0x04
_TO_DIGEST_BUFFER = 0x43  # pass these 32 bytes through
_EXTERNAL_FROM_DIGEST_BUFFER = 0xA0
_AWAKE = b"\x11"
_DONE = b"\x00"
_WAKE_S = 0.0015
_POLL_MS = 2
_PATIENCE_MS = 300
"""More than the slowest command takes, which is to make a key. Counted in polls, as in tropic01."""
_TRIES = 3


def crc(data: bytes) -> bytes:
    """The chip's check: CRC-16 with polynomial 0x8005, each byte's least bit first, in two bytes."""
    found = 0
    for byte in data:
        for shift in range(8):
            feedback = (byte >> shift & 1) ^ found >> 15
            found = found << 1 & 0xFFFF
            if feedback:
                found ^= 0x8005
    return found.to_bytes(2, "little")


class Atecc608:
    """The chip: a secure element as chipcash_card.keys has it. i2c: as machine.I2C, at HZ at most."""

    def __init__(self, i2c: "Any", address: int = ADDRESS) -> None:
        self._i2c = i2c
        self._address = address

    def present(self) -> bool:
        """Whether a chip answers there."""
        try:
            self._wake()
            self._sleep()
        except OSError:
            return False
        return True

    def generate(self) -> None:
        """Make a new key in the slot, instead of the one that is there. Raises OSError."""
        self._run(((_GENKEY, _NEW_PRIVATE, _SLOT, b"", 64),))

    def public(self) -> bytes:
        """x and y of the slot's public key, 64 bytes. Raises OSError."""
        return self._run(((_GENKEY, _PUBLIC_OF, _SLOT, b"", 64),))

    def sign(self, digest: bytes) -> bytes:
        """ECDSA over 32 bytes: r and s, 64 bytes. Raises OSError."""
        return self._run(
            (
                (_RANDOM, 0, 0, b"", 32),  # the generator's seed is renewed by this
                (_NONCE, _TO_DIGEST_BUFFER, 0, digest, 1),
                (_SIGN, _EXTERNAL_FROM_DIGEST_BUFFER, _SLOT, b"", 64),
            )
        )

    def _run(self, commands: "tuple[tuple[int, int, int, bytes, int], ...]") -> bytes:
        """Carry these out without a pause: asleep, the chip forgets what it was given. The last one's
        answer. A line that spoilt a byte is given another chance: none of them does harm twice."""
        for left in range(_TRIES - 1, -1, -1):
            try:
                self._wake()
                answer = b""
                for code, mode, param, data, size in commands:
                    answer = self._command(code, mode, param, data, size)
                self._sleep()
                return answer
            except OSError:
                if not left:
                    raise
        raise AssertionError

    def _wake(self) -> None:
        try:
            self._i2c.writeto(0, b"")  # nobody has that address; SDA is low for long enough
        except OSError:
            pass
        time.sleep(_WAKE_S)
        try:
            answer = self._i2c.readfrom(self._address, 4)
        except OSError:
            raise OSError("the secure element does not answer")
        # A chip that was awake already says something else, or what it said last.
        if answer[:1] != b"\x04" or answer[1:2] != _AWAKE or crc(answer[:2]) != answer[2:]:
            self._sleep()
            raise OSError("the secure element does not wake")

    def _sleep(self) -> None:
        self._i2c.writeto(self._address, _SLEEP)

    def _command(self, code: int, mode: int, param: int, data: bytes, size: int) -> bytes:
        """One command, and its answer of this size. Raises OSError."""
        body = bytes((len(data) + 7, code, mode)) + param.to_bytes(2, "little") + data
        self._i2c.writeto(self._address, bytes((_COMMAND,)) + body + crc(body))
        for left in range(_PATIENCE_MS // _POLL_MS - 1, -1, -1):
            time.sleep(_POLL_MS / 1000)
            try:
                answer = self._i2c.readfrom(self._address, size + 3)
                break
            except OSError:  # busy: it does not acknowledge its address
                if not left:
                    raise
        length = answer[0]
        if (
            not 4 <= length <= len(answer)
            or crc(answer[: length - 2]) != answer[length - 2 : length]
        ):
            raise OSError("the secure element cannot be understood")
        if length != size + 3 or (size == 1 and answer[1:2] != _DONE):
            raise OSError("the secure element refused a command: %02x" % answer[1])
        return bytes(answer[1 : length - 2])
