# SPDX-License-Identifier: Apache-2.0
"""What a terminal, a POS, a bank or an auditor trusts: one network, its suite, its certification key.

The certification key is the root; the certificates of the issuing library and the registration center
hang from it. They travel together in one public file, `network.ccn`, which is JSON:

    {"format": "chipcash-network-1", "network": "54455354", "suite": "p256",
     "certification_key": "02…", "certificates": ["e3…", "e3…"]}

network, certification_key and certificates are lower-case hex; a certificate is the whole object. The
file holds no secret, but whoever can change it decides which money is accepted: install it like a key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from chipcash import crypto
from chipcash.errors import ChipcashError
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError

__all__ = ["FILE_NAME", "Trust", "TrustError", "object_id"]

FILE_NAME = "network.ccn"
FORMAT = "chipcash-network-1"


class TrustError(ChipcashError):
    """The network file cannot be used: nothing in it, or signed by it, may be trusted."""

    exit_code = 9


def object_id(obj: o.Object) -> bytes:
    """title_id, claim_id or digest, 32 bytes (protocols/spec/objects.md, Identifiers).

    The suite's hash of what is signed, or of the whole encoding where the object has no signature.
    """
    signed = bool(obj.FIELDS) and obj.FIELDS[-1] == "signature"
    data = obj.message() if signed else obj.encode()
    return crypto.suite(o.suite_of(obj)).hash(data)


@dataclass(frozen=True)
class Trust:
    """A network as its participants know it.

    network: 4 bytes; suite: 1 gm, 2 p256; certification_key: 33 bytes; certificates: of the issuing
    library and the registration center, each verified under the certification key. Raises TrustError
    if one of them is missing, there twice or not signed by that key.
    """

    network: bytes
    suite: int
    certification_key: bytes
    certificates: tuple[o.Certificate, ...]

    def __post_init__(self) -> None:
        for certificate in self.certificates:
            if not self.signed_by_certification(certificate):
                raise TrustError(
                    "A certificate in the network file is not signed by its certification key.",
                    hint="Get the file again from whoever runs the network.",
                )
        for role in (o.ROLE_ISSUER, o.ROLE_CENTER):
            self.certificate(role)

    @cached_property
    def header(self) -> bytes:
        """First field of every object of this network, 6 bytes."""
        return o.make_header(self.network, self.suite)

    @cached_property
    def issuer_key(self) -> bytes:
        """Public key of the issuing library, 33 bytes; also the payee of a redemption."""
        return self.certificate(o.ROLE_ISSUER).subject

    @cached_property
    def center_key(self) -> bytes:
        """Public key of the registration center, 33 bytes."""
        return self.certificate(o.ROLE_CENTER).subject

    def certificate(self, role: int) -> o.Certificate:
        """The certificate of the issuing library or the center (role 1, 2). Raises TrustError."""
        found = [certificate for certificate in self.certificates if certificate.role == role]
        if len(found) != 1:
            raise TrustError(
                f"The network file has {len(found)} certificates of the {o.ROLES[role]}, not one.",
                hint="Get the file again from whoever runs the network.",
            )
        return found[0]

    def accepts(self, header: bytes) -> bool:
        """Whether an object with this header is of this network, version and suite."""
        return header == self.header

    def signed_by(self, obj: Any, key: bytes) -> bool:
        """Whether obj is of this network and its signature verifies under key (33 bytes).

        Where the object names its signer, the name must be that key's too.
        """
        if not self.accepts(obj.header) or obj.signature is None:
            return False
        signer = getattr(obj, "signer", None)
        if signer is not None and signer != crypto.key_id(self.suite, key):
            return False
        return crypto.verify(self.suite, key, obj.message(), obj.signature)

    def signed_by_certification(self, obj: Any) -> bool:
        """Whether the certification center signed obj (a certificate)."""
        return self.signed_by(obj, self.certification_key)

    def signed_by_center(self, obj: Any) -> bool:
        """Whether the registration center signed obj (title, receipt, time, blacklist, risk)."""
        return self.signed_by(obj, self.center_key)

    def signed_by_issuer(self, obj: Any) -> bool:
        """Whether the issuing library signed obj (a coin)."""
        return self.signed_by(obj, self.issuer_key)

    def save(self, path: Path) -> None:
        """Write the network file."""
        path.write_text(json.dumps(self.as_dict(), indent=1) + "\n", encoding="ascii")

    def as_dict(self) -> dict[str, Any]:
        """What the network file holds."""
        return {
            "format": FORMAT,
            "network": self.network.hex(),
            "suite": crypto.suite(self.suite).name,
            "certification_key": self.certification_key.hex(),
            "certificates": [certificate.encode().hex() for certificate in self.certificates],
        }

    @classmethod
    def load(cls, path: Path) -> Trust:
        """Read and verify a network file. Raises TrustError, or OSError if it cannot be read."""
        try:
            data = json.loads(path.read_bytes())
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                raise ValueError("it is not of this format")
            network = bytes.fromhex(data["network"])
            suite = o.SUITES[data["suite"]]
            o.make_header(network, suite)
            certificates = decode_certificates(data["certificates"])
            return cls(network, suite, bytes.fromhex(data["certification_key"]), certificates)
        except (ValueError, KeyError, TypeError, WireError) as error:
            raise TrustError(
                f"{path} is no network file of chipcash: {error}.",
                hint="Get the file again from whoever runs the network.",
                path=str(path),
            ) from None


def decode_certificates(texts: Iterable[str]) -> tuple[o.Certificate, ...]:
    """Certificates from their hex. Raises ValueError (WireError is one)."""
    return tuple(o.Certificate.decode(bytes.fromhex(text)) for text in texts)
