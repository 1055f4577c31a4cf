# SPDX-License-Identifier: Apache-2.0
"""A TROPIC01 secure element as the bus sees it: SPI transfers, frames, the encrypted session, its commands.

By the vendor's published user API. All arithmetic is OpenSSL's, by `cryptography`: independent of the
driver's. `Server` offers the bus over TCP in the format of the vendor's own model of the chip, so that
whoever drives that drives this: the firmware on MicroPython, pytropicsquare."""

from __future__ import annotations

import datetime
import os
import socketserver
import threading
from collections.abc import Callable
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

GET_RESPONSE = 0xAA
READY, ALARM, STARTING = 1, 2, 4
"""Bits of the chip's status, the first byte of each transfer."""

GET_INFO, HANDSHAKE, ENCRYPTED_COMMAND, ABORT_SESSION, RESEND = 0x01, 0x02, 0x04, 0x08, 0x10
REQUEST_OK, RESULT_OK, REQUEST_CONT, RESULT_CONT = 0x01, 0x02, 0x03, 0x04
HANDSHAKE_ERROR, NO_SESSION, TAG_ERROR, CRC_ERROR, UNKNOWN, GENERAL_ERROR = (
    0x79, 0x7A, 0x7B, 0x7C, 0x7E, 0x7F,
)  # fmt: skip
NO_RESPONSE = 0xFF

PING, RANDOM, KEY_GENERATE, KEY_STORE, KEY_READ, KEY_ERASE, ECDSA_SIGN = (
    0x01, 0x50, 0x60, 0x61, 0x62, 0x63, 0x70,
)  # fmt: skip
OK, FAIL, INVALID_COMMAND, INVALID_KEY = b"\xc3", b"\x3c", b"\x02", b"\x12"

FACTORY_KEY = bytes.fromhex("f975eb3c2fd790c96f294f1557a5031780c9aafa140da28f55e7515737b2502c")
"""What production chips have in pairing slot 0."""

_PROTOCOL = b"Noise_KK1_25519_AESGCM_SHA256".ljust(32, b"\0")
_P256 = 1
_GENERATED, _STORED = 1, 2
_SLOTS = 32
_CHUNK = 128
_BLOCK = 128
_STORE = 3840


def crc(data: bytes) -> bytes:
    """The remainder of the division by x^16 + x^15 + x^2 + 1, its lower byte first."""
    rest = int.from_bytes(data, "big") << 16
    while rest.bit_length() > 16:
        rest ^= 0x18005 << rest.bit_length() - 17
    return rest.to_bytes(2, "little")


def frame(head: int, data: bytes) -> bytes:
    """A request (head: its code) or a response (head: its status)."""
    body = bytes((head, len(data))) + data
    return body + crc(body)


class Tropic01:
    """The chip. pairing: X25519 public keys by slot, from 0.

    Faults. busy: so often it is asked in vain before each answer. silent: nobody drives the line. alarm: as
    after an attack. starting: so often it is asked before it has started. spoil: as many of its next answers
    arrive with a wrong bit, and deaf: as many of its next requests. forge: as many of its next results are
    sealed under another key. sessions: handshakes so far; requests, commands: codes of all that it took."""

    def __init__(self, pairing: tuple[bytes, ...] = (FACTORY_KEY,)) -> None:
        self.pairing = dict(enumerate(pairing))
        self.static = X25519PrivateKey.generate()
        self.certificates = _certificate_store(self.static.public_key())
        self._keys: dict[int, tuple[ec.EllipticCurvePrivateKey, int]] = {}
        self.busy = 2
        self.silent = self.alarm = False
        self.spoil = self.deaf = self.forge = 0
        self.sessions = 0
        self.requests: list[int] = []
        self.commands: list[int] = []
        self._selected = False
        self.reset()

    def reset(self) -> None:
        """As by a dip of the supply: keys stay, the session is gone."""
        self.starting = 3
        self._waiting: list[bytes] = []
        self._last = b""
        self._asked = 0
        self._received = b""
        self._saying = b""
        self._session: tuple[AESGCM, AESGCM] | None = None
        self._count = 0
        self._command = b""

    # L1: transfers ------------------------------------------------------------------------------

    def select(self, level: int) -> None:
        """The line CSN: low begins a transfer, high ends it."""
        if level and self._selected:
            self._end()
        self._selected = not level
        self._received = b""
        self._saying = b""

    def transfer(self, data: bytes) -> bytes:
        """Bytes in, as many out at the same time."""
        if not self._selected or self.silent:
            return b"\xff" * len(data)
        said = b""
        for byte in data:
            if not self._received:
                self._saying = self._first(byte)
            self._received += bytes((byte,))
            said += self._saying[:1] or b"\0"
            self._saying = self._saying[1:]
        return said

    def _first(self, byte: int) -> bytes:
        """What is said in a transfer that begins so, from the chip's status on."""
        if self.alarm:
            return bytes((ALARM,))
        if self.starting:
            self.starting -= 1
            return bytes((READY | STARTING, NO_RESPONSE))
        if byte != GET_RESPONSE:
            return bytes((READY,))
        self._asked += 1
        if self._asked <= self.busy and self._waiting:
            return b"\0"
        if not self._waiting:
            return bytes((READY, NO_RESPONSE))
        self._asked = 0
        self._last = said = self._waiting.pop(0)
        if self.spoil:
            self.spoil -= 1
            said = said[:-1] + bytes((said[-1] ^ 4,))
        return bytes((READY,)) + said

    def _end(self) -> None:
        """A transfer is over: if it was a request, it is carried out."""
        data = self._received
        if not data or data[0] == GET_RESPONSE or self.silent or self.alarm or self.starting:
            return
        if self.deaf:
            self.deaf -= 1
            data = data[:-1] + bytes((data[-1] ^ 1,))
        if len(data) < 4 or len(data) != data[1] + 4 or crc(data[:-2]) != data[-2:]:
            self._waiting = [frame(CRC_ERROR, b"")]
            return
        self.requests.append(data[0])
        self._waiting = self._answers(data[0], data[2:-2])

    # L2: requests -------------------------------------------------------------------------------

    def _answers(self, code: int, data: bytes) -> list[bytes]:
        if code == RESEND and not data:
            return [self._last or frame(GENERAL_ERROR, b""), *self._waiting]
        if code == GET_INFO and len(data) == 2:
            return [self._info(data[0], data[1])]
        if code == HANDSHAKE and len(data) == 33:
            return [self._handshake(data[:32], data[32])]
        if code == ENCRYPTED_COMMAND and data:
            return self._encrypted(data)
        if code == ABORT_SESSION and not data:
            self._session = None
            return [frame(REQUEST_OK, b"")]
        return [frame(UNKNOWN, b"")]

    def _info(self, what: int, block: int) -> bytes:
        if what == 0 and block < _STORE // _BLOCK:
            found = self.certificates[block * _BLOCK :][:_BLOCK].ljust(_BLOCK, b"\0")
        elif what == 1:
            found = bytes(128)
        elif what in (2, 4):
            found = bytes((0, 0, 0, 2))  # version 2.0.0
        else:
            return frame(GENERAL_ERROR, b"")
        return frame(REQUEST_OK, found)

    def _handshake(self, host: bytes, slot: int) -> bytes:
        """Noise KK1: the host knows the chip's static key, and the chip the host's, of that slot."""
        self._session = None
        self._command = b""
        paired = self.pairing.get(slot)
        if paired is None:
            return frame(HANDSHAKE_ERROR, b"")
        mine = X25519PrivateKey.generate()
        my_public, static_public = _raw(mine.public_key()), _raw(self.static.public_key())
        transcript = sha256(_PROTOCOL).digest()
        for part in (paired, static_public, host, bytes((slot,)), my_public):
            transcript = sha256(transcript + part).digest()
        its = X25519PublicKey.from_public_bytes(host)
        key = _derive(_PROTOCOL, mine.exchange(its))[:32]
        key = _derive(key, mine.exchange(X25519PublicKey.from_public_bytes(paired)))[:32]
        keys = _derive(key, self.static.exchange(its))
        proof = AESGCM(keys[32:]).encrypt(bytes(12), b"", transcript)
        keys = _derive(keys[:32], b"")
        self._session = AESGCM(keys[:32]), AESGCM(keys[32:])
        self._count = 0
        self.sessions += 1
        return frame(REQUEST_OK, my_public + proof)

    def _encrypted(self, chunk: bytes) -> list[bytes]:
        if self._session is None:
            return [frame(NO_SESSION, b"")]
        self._command += chunk
        size = int.from_bytes(self._command[:2], "little") + 2 + 16
        if len(self._command) < size:
            return [frame(REQUEST_CONT, b"")]
        packet, self._command = self._command, b""
        nonce = self._count.to_bytes(12, "little")
        try:
            text = self._session[0].decrypt(nonce, packet[2:], b"")
        except InvalidTag:
            self._session = None
            return [frame(TAG_ERROR, b"")]
        self.commands.append(text[0])
        result = self._result(text[0], text[1:])
        sealing = self._session[1]
        if self.forge:
            self.forge -= 1
            sealing = AESGCM(os.urandom(32))
        sealed = len(result).to_bytes(2, "little") + sealing.encrypt(nonce, result, b"")
        self._count += 1
        parts = [sealed[at : at + _CHUNK] for at in range(0, len(sealed), _CHUNK)]
        return [
            frame(REQUEST_OK, b""),
            *(frame(RESULT_CONT, part) for part in parts[:-1]),
            frame(RESULT_OK, parts[-1]),
        ]

    # L3: commands -------------------------------------------------------------------------------

    def _result(self, code: int, data: bytes) -> bytes:
        if code == PING:
            return OK + data
        if code == RANDOM and len(data) == 1:
            return OK + bytes(3) + os.urandom(data[0])
        slot = int.from_bytes(data[:2], "little")
        if code not in (KEY_GENERATE, KEY_STORE, KEY_READ, KEY_ERASE, ECDSA_SIGN):
            return INVALID_COMMAND
        if len(data) < 2 or slot >= _SLOTS:
            return FAIL
        rest = data[2:]
        if code == KEY_ERASE and not rest:
            self._keys.pop(slot, None)
            return OK
        if code == KEY_GENERATE and rest == bytes((_P256,)) and slot not in self._keys:
            self._keys[slot] = ec.generate_private_key(ec.SECP256R1()), _GENERATED
            return OK
        if code == KEY_STORE and rest[:1] == bytes((_P256,)) and len(rest) == 45:
            if slot in self._keys:
                return FAIL
            private = ec.derive_private_key(int.from_bytes(rest[13:], "big"), ec.SECP256R1())
            self._keys[slot] = private, _STORED
            return OK
        if code == KEY_READ and not rest:
            return self._read(slot)
        if code == ECDSA_SIGN and len(rest) == 45:
            return self._sign(slot, rest[13:])
        return FAIL

    def _read(self, slot: int) -> bytes:
        if slot not in self._keys:
            return INVALID_KEY
        private, origin = self._keys[slot]
        point = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return OK + bytes((_P256, origin)) + bytes(13) + point[1:]

    def _sign(self, slot: int, digest: bytes) -> bytes:
        if slot not in self._keys:
            return INVALID_KEY
        made = self._keys[slot][0].sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        r, s = decode_dss_signature(made)
        return OK + bytes(15) + r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _raw(key: X25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _derive(chaining: bytes, secret: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 64, salt=chaining, info=None).derive(secret)


def _certificate_store(static: X25519PublicKey) -> bytes:
    """Four certificates behind a head of version, number and lengths: the chip's, and those up to a root."""
    begun = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    found: list[bytes] = []
    issuer = ec.generate_private_key(ec.SECP256R1())
    issued_by = _name("emulated root")
    subject = issuer.public_key()
    for each in ("emulated root", "emulated CA", "emulated series", "emulated chip"):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(each))
            .issuer_name(issued_by)
            .public_key(static if each == "emulated chip" else subject)
            .serial_number(1)
            .not_valid_before(begun)
            .not_valid_after(begun + datetime.timedelta(days=7300))
            .sign(issuer, hashes.SHA256())
        )
        found.insert(0, certificate.public_bytes(serialization.Encoding.DER))
        issuer, issued_by, subject = key, certificate.subject, key.public_key()
    lengths = b"".join(len(each).to_bytes(2, "big") for each in found)
    return b"\x01\x04" + lengths + b"".join(found)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


class Server:
    """The chip's bus over TCP, until the end of the with statement; port: where, on 127.0.0.1.

    A message is a tag, a length (two bytes, little endian) and data, and is answered in the same form: 01 CSN
    low, 02 CSN high, 03 transfer, 06 wait, 10 reset, as the vendor's model has them. Ours is 20:
    `name=number` sets a fault of the chip, `new=1` puts another chip in its place, `name` alone asks."""

    def __init__(self) -> None:
        self.chip = Tropic01()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self) -> None:
                while len(head := self.rfile.read(3)) == 3:
                    data = self.rfile.read(int.from_bytes(head[1:], "little"))
                    said = outer._carry_out(head[0], data)
                    self.wfile.write(head[:1] + len(said).to_bytes(2, "little") + said)

        class Listener(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self.port: int = self._listener.server_address[1]
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,))

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()

    def _carry_out(self, tag: int, data: bytes) -> bytes:
        simple: dict[int, Callable[[], None]] = {
            0x01: lambda: self.chip.select(0),
            0x02: lambda: self.chip.select(1),
            0x06: lambda: None,
            0x10: lambda: self.chip.reset(),
        }
        if tag in simple:
            simple[tag]()
            return b""
        if tag == 0x03:
            return self.chip.transfer(data)
        name, _, value = data.decode().partition("=")
        if name == "new":
            self.chip = Tropic01()
        elif value:
            setattr(self.chip, name, int(value))
        else:
            return str(getattr(self.chip, name)).encode()
        return b""
