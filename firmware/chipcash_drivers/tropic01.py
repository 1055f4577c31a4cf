# SPDX-License-Identifier: Apache-2.0
"""Tropic Square's TROPIC01 as the place of the card's P-256 key, on SPI.

By the vendor's published user API, in its three layers: SPI transfers (L1), frames with a check (L2), and
commands within an encrypted session (L3), whose handshake is Noise_KK1_25519_AESGCM_SHA256 with a pairing
key. The card's key is in slot 0 of 32, made by the chip, and never leaves it. A session is opened once for
each power on, for it takes a microcontroller seconds, and anew after whatever went wrong."""

import time

from chipcash_card.busy import working
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable

    from chipcash_drivers.gcm import Gcm

    Pairing = tuple[int, bytes, bytes]
    """The chip's slot for it, and an X25519 key: private, public."""

FACTORY: "tuple[Pairing, ...]" = (
    (
        0,
        b"\x28\x3f\x5a\x0f\xfc\x41\xcf\x50\x98\xa8\xe1\x7d\xb6\x37\x2c\x3c"
        b"\xaa\xd1\xee\xee\xdf\x0f\x75\xbc\x3f\xbf\xcd\x9c\xab\x3d\xe9\x72",
        b"\xf9\x75\xeb\x3c\x2f\xd7\x90\xc9\x6f\x29\x4f\x15\x57\xa5\x03\x17"
        b"\x80\xc9\xaa\xfa\x14\x0d\xa2\x8f\x55\xe7\x51\x57\x37\xb2\x50\x2c",
    ),
    (
        0,
        b"\xd0\x99\x92\xb1\xf1\x7a\xbc\x4d\xb9\x37\x17\x68\xa2\x7d\xa0\x5b"
        b"\x18\xfa\xb8\x56\x13\xa7\x84\x2c\xa6\x4c\x79\x10\xf2\x2e\x71\x6b",
        b"\xe7\xf7\x35\xba\x19\xa3\x3f\xd6\x73\x23\xab\x37\x26\x2d\xe5\x36"
        b"\x08\xca\x57\x85\x76\x53\x43\x52\xe1\x8f\x64\xe6\x13\xd3\x8d\x54",
    ),
)
"""The pairing keys that chips are delivered with, production and engineering samples: published by the
vendor, so no secrets. hardware/README.md says what that is worth."""

PATIENCE_MS = 500
"""More than the slowest command takes, and the chip to start. Counted in polls and not by a clock, so that
whatever interrupts us takes none of the chip's time."""
_POLL_MS = 2
_TRIES = 3

# L1
_GET_RESPONSE = b"\xaa\x00\x00"  # with room for status and length
_READY = 0x01
_ALARM = 0x02
_STARTING = 0x04
_NOBODY = 0xFF  # the line is high

# L2
_GET_INFO = 0x01
_CERTIFICATES = 0x00
_FIRMWARE_VERSION = 0x02
_HANDSHAKE = 0x02
_ENCRYPTED_COMMAND = 0x04
_RESEND = 0x10
_REQUEST_DONE = 0x01
_RESULT_DONE = 0x02
_REQUEST_GOES_ON = 0x03
_RESULT_GOES_ON = 0x04
_HANDSHAKE_FAILED = 0x79
_CHECK_FAILED = 0x7C
_NO_RESPONSE = 0xFF
_CHUNK = 252
_BLOCKS = 30  # of the certificates, 128 bytes each
_X25519_KEY = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00"
"""What stands before such a key in a certificate (RFC 8410)."""

# L3
PING = 0x01
"""A command whose result is its data."""
_KEY_GENERATE = 0x60
_KEY_READ = 0x62
_KEY_ERASE = 0x63
_SIGN = 0x70
_SLOT = b"\x00\x00"
_P256 = 0x01
_MADE_BY_THE_CHIP = 0x01
_OK = 0xC3
_TAG = 16
_LONGEST = 2 + 4097 + _TAG

_PROTOCOL = b"Noise_KK1_25519_AESGCM_SHA256\x00\x00\x00"


class Refused(OSError):
    """The chip understood, and does not do it: to try again is of no use."""


def _check_table() -> "tuple[int, ...]":
    table = []
    for value in range(16):
        value <<= 12
        for _ in range(4):
            value = value << 1 ^ (0x8005 if value & 0x8000 else 0)
        table.append(value & 0xFFFF)
    return tuple(table)


_CHECKS = _check_table()


def crc(data: bytes) -> bytes:
    """The check of a frame: CRC-16 with polynomial 0x8005 from 0, the most significant bits first, in two
    bytes, the lower first."""
    found = 0
    for byte in data:
        found = (found << 4 & 0xFFFF) ^ _CHECKS[found >> 12 ^ byte >> 4]
        found = (found << 4 & 0xFFFF) ^ _CHECKS[found >> 12 ^ byte & 15]
    return found.to_bytes(2, "little")


class _Session:
    """Both keys of an encrypted session, and how many commands it has carried."""

    def __init__(self, outward: "Gcm", inward: "Gcm") -> None:
        self.outward = outward
        self.inward = inward
        self.count = 0

    def nonce(self) -> bytes:
        """For the next command and its result."""
        return self.count.to_bytes(4, "little") + bytes(8)

    def wipe(self) -> None:
        """Forget the keys."""
        self.outward.wipe()
        self.inward.wipe()


class Tropic01:
    """The chip: a secure element as chipcash_card.keys has it.

    spi: as machine.SPI, mode 0; select: as machine.Pin, its CSN; random(n): for the session's keys; pairing:
    keys to try, one after the other."""

    def __init__(
        self,
        spi: "Any",
        select: "Any",
        random: "Callable[[int], bytes]",
        pairing: "tuple[Pairing, ...]" = FACTORY,
    ) -> None:
        self._spi = spi
        self._select = select
        self._random = random
        self._pairing = pairing
        self._session: "_Session | None" = None
        self._chip_key = b""
        select(1)

    def present(self) -> bool:
        """Whether a chip answers there."""
        try:
            self._wait(False)
            self._request(_GET_INFO, bytes((_FIRMWARE_VERSION, 0)), _REQUEST_DONE)
        except OSError:
            return False
        return True

    def generate(self) -> None:
        """Make a new key in the slot, instead of the one that is there. Raises OSError."""
        self.run(((_KEY_ERASE, _SLOT, 0), (_KEY_GENERATE, _SLOT + bytes((_P256,)), 0)))

    def public(self) -> bytes:
        """x and y of the slot's public key, 64 bytes. Raises OSError."""
        found = self.run(((_KEY_READ, _SLOT, 79),))
        if found[0] != _P256 or found[1] != _MADE_BY_THE_CHIP:
            raise Refused("the key in the secure element was not made there")
        return found[15:]

    def sign(self, digest: bytes) -> bytes:
        """ECDSA over 32 bytes: r and s, 64 bytes. Raises OSError."""
        return self.run(((_SIGN, _SLOT + bytes(13) + digest, 79),))[15:]

    def run(self, commands: "tuple[tuple[int, bytes, int], ...]") -> bytes:
        """Carry out commands, each (code, data, bytes of the result), in the session, which is opened if
        there is none; the last one's result. Where something is lost, all of them are given another chance
        in a new session: none of ours does harm twice. Raises OSError."""
        for left in (1, 0):
            # Taken out, so that whatever breaks off leaves none whose nonces may not be those of the chip.
            session = self._session
            self._session = None
            try:
                if session is None:
                    session = self._open()
                result = b""
                for code, data, size in commands:
                    result = self._command(session, code, data, size)
                self._session = session
                return result
            except Refused:
                self._session = session
                raise
            except OSError:
                if not left:
                    raise
            finally:
                if self._session is None and session is not None:
                    session.wipe()
        raise AssertionError

    # L3: commands in a session ------------------------------------------------------------------

    def _command(self, session: _Session, code: int, data: bytes, size: int) -> bytes:
        nonce = session.nonce()
        text = session.outward.seal(nonce, bytes((code,)) + data)
        packet = (len(text) - _TAG).to_bytes(2, "little") + text
        for at in range(0, len(packet), _CHUNK):
            more = at + _CHUNK < len(packet)
            self._request(
                _ENCRYPTED_COMMAND,
                packet[at : at + _CHUNK],
                _REQUEST_GOES_ON if more else _REQUEST_DONE,
            )
        answer = b""
        status = _RESULT_GOES_ON
        while status == _RESULT_GOES_ON and len(answer) < _LONGEST:
            status, part = self._answer()
            answer += part
        if status != _RESULT_DONE or int.from_bytes(answer[:2], "little") != len(answer) - 2 - _TAG:
            raise OSError("the secure element cannot be understood: %02x" % status)
        try:
            result = session.inward.open(nonce, answer[2:])
        except ValueError:
            raise OSError("what came from the secure element is not its own")
        session.count += 1
        if result[:1] != bytes((_OK,)):
            raise Refused("the secure element refused a command: %02x" % result[0])
        if len(result) != size + 1:
            raise Refused("the secure element cannot be understood")
        return result[1:]

    def _open(self) -> _Session:
        """Open a session. Raises OSError; Refused if the chip knows none of our pairing keys."""
        self._wait(False)
        if not self._chip_key:
            self._chip_key = self._read_chip_key()
        for slot, private, public in self._pairing:
            session = self._shake_hands(slot, private, public)
            if session is not None:
                return session
        raise Refused("the secure element does not know our pairing key")

    def _read_chip_key(self) -> bytes:
        """The chip's X25519 key, out of its certificate, which is not verified: see hardware/README.md."""
        seen = b""
        for block in range(_BLOCKS):
            seen += self._request(_GET_INFO, bytes((_CERTIFICATES, block)), _REQUEST_DONE)
            at = seen.find(_X25519_KEY)
            if 0 <= at <= len(seen) - len(_X25519_KEY) - 32:
                at += len(_X25519_KEY)
                return seen[at : at + 32]
            seen = seen[-(len(_X25519_KEY) + 32) :]
        raise Refused("the secure element has no certificate")

    def _shake_hands(self, slot: int, private: bytes, public: bytes) -> "_Session | None":
        """A session by that pairing key, or None if the chip has another one. Raises OSError."""
        # Imported here, since a card that has no such chip has no use for them.
        from chipcash_card.suites import P256, hmac
        from chipcash_drivers import x25519
        from chipcash_drivers.gcm import Gcm

        sha256 = P256.hash

        def derived(chaining: bytes, secret: bytes) -> "tuple[bytes, bytes]":
            """HKDF (RFC 5869) as Noise has it, with two outputs."""
            key = hmac(sha256, chaining, secret)
            first = hmac(sha256, key, b"\x01")
            return first, hmac(sha256, key, first + b"\x02")

        mine = self._random(32)
        if len(mine) != 32 or mine == bytes(32):
            raise OSError("the random source has failed")
        my_public = x25519.public(mine)
        status, answer = self._ask(_HANDSHAKE, my_public + bytes((slot,)))
        if status == _HANDSHAKE_FAILED:  # the slot is empty, or invalid
            return None
        if status != _REQUEST_DONE or len(answer) != 48:
            raise OSError("the secure element refused a session: %02x" % status)
        its_public = answer[:32]
        transcript = sha256(_PROTOCOL)
        for part in (public, self._chip_key, my_public, bytes((slot,)), its_public):
            transcript = sha256(transcript + part)
        try:
            chaining, _ = derived(_PROTOCOL, x25519.agree(mine, its_public))
            chaining, _ = derived(chaining, x25519.agree(private, its_public))
            chaining, proof = derived(chaining, x25519.agree(mine, self._chip_key))
            Gcm(proof).open(bytes(12), answer[32:], transcript)
        except ValueError:
            return None
        commands, results = derived(chaining, b"")
        return _Session(Gcm(commands), Gcm(results))

    # L2: requests and answers -------------------------------------------------------------------

    def _request(self, code: int, data: bytes, expected: int) -> bytes:
        """One request, and what it is answered. Raises OSError, too if the status is not the expected one."""
        status, answer = self._ask(code, data)
        if status != expected:
            raise OSError("the secure element refused a request: %02x" % status)
        return answer

    def _ask(self, code: int, data: bytes) -> "tuple[int, bytes]":
        """One request, and the status and data that it is answered. Raises OSError."""
        frame = bytes((code, len(data))) + data
        frame += crc(frame)
        for _ in range(_TRIES):
            self._write(frame)
            status, answer = self._answer()
            if status != _CHECK_FAILED:
                return status, answer
        raise OSError("the secure element does not understand")

    def _answer(self) -> "tuple[int, bytes]":
        """The chip's next answer: status and data. Raises OSError."""
        for left in range(_TRIES - 1, -1, -1):
            said = self._wait(True)
            if crc(said[:-2]) == said[-2:]:
                return said[0], said[2:-2]
            if left:
                again = bytes((_RESEND, 0))
                self._write(again + crc(again))
        raise OSError("the secure element cannot be understood")

    # L1: transfers ------------------------------------------------------------------------------

    def _wait(self, answer: bool) -> bytes:
        """The chip's next answer, from its status to its check. Or, without answer, until the chip has
        started and said what it was asked before we were here. Raises OSError."""
        said = None
        for _ in range(PATIENCE_MS // _POLL_MS):
            said = self._poll()
            if said is not None and bool(said) == answer:
                return said
            working()
            time.sleep(_POLL_MS / 1000)
        if said:
            return said  # it is there, and says the same again and again
        raise OSError("the secure element does not answer")

    def _poll(self) -> "bytes | None":
        """What the chip has to say; empty for nothing, None if it is busy or nobody is there."""
        head = bytearray(3)
        self._select(0)
        try:
            self._spi.write_readinto(_GET_RESPONSE, head)
            if head[0] == _NOBODY:
                return None
            if head[0] & _ALARM:
                raise OSError("the secure element is in alarm")
            if not head[0] & _READY or head[0] & _STARTING:
                return None
            if head[1] == _NO_RESPONSE:
                return b""
            rest = bytearray(head[2] + 2)
            self._spi.readinto(rest)
            return bytes(head[1:]) + bytes(rest)
        finally:
            self._select(1)

    def _write(self, frame: bytes) -> None:
        self._select(0)
        try:
            self._spi.write(frame)
        finally:
            self._select(1)
