# SPDX-License-Identifier: Apache-2.0
"""TLS 1.3 for the toolkit's HTTP services and their clients: who they are, and whom they believe.

Certificates and keys are PEM files. Nothing older than TLS 1.3 is spoken. What money rests on are the
signatures inside; TLS keeps others from reading along, and tells institutions from everybody else.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from cryptography import x509

from chipcash.errors import ChipcashError

__all__ = ["TlsError", "client_context", "names", "peer", "server_context", "verifying"]


class TlsError(ChipcashError):
    """A certificate, a key, or whom to believe cannot be used as it stands; nothing was sent."""

    exit_code = 29


def server_context(
    certificate: Path, key: Path | None = None, client_ca: Path | None = None
) -> ssl.SSLContext:
    """What a service shows, and whose clients it knows. Raises TlsError.

    certificate: its chain, its own first; key: its private key, where it is not in the same file;
    client_ca: who certifies clients. With it a client may show a certificate, and a wrong one ends the
    connection; whether one is needed is for the application to say, by `peer()`.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load_own(context, certificate, key)
    # A session taken up again would bring back a certificate that is not looked at again.
    context.num_tickets = 0
    if client_ca is not None:
        _load_ca(context, client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(ca: Path | None = None, own: Path | None = None) -> ssl.SSLContext:
    """Whom a client believes, and what it shows. Raises TlsError.

    ca: who certifies services, the system's authorities if None; own: the client's certificate and its
    private key, in one file.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.load_default_certs()
    else:
        _load_ca(context, ca)
    if own is not None:
        _load_own(context, own)
    return context


def verifying(*urls: str) -> ssl.SSLContext | bool:
    """httpx's argument `verify` for these URLs: what it does by itself, unless none of them is https:.

    Then it believes nobody: to read all the authorities takes as long as many a command."""
    if any(url.lower().startswith("https:") for url in urls):
        return True
    return _context(ssl.PROTOCOL_TLS_CLIENT)


def peer(scope: Any) -> str:
    """The name in the certificate that the client of an ASGI request has shown, or "" if it has shown none.

    It was checked before the application heard of it. The name is RFC 4514's of the certificate's subject.
    """
    extension = scope.get("extensions", {}).get("tls") or {}
    return str(extension.get("client_cert_name") or "")


def names(certificate: Path) -> list[str]:
    """The hosts that a certificate is for, as its subject's alternative names say. Raises TlsError."""
    try:
        own = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        found = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (OSError, ValueError) as error:
        raise TlsError(
            f"{certificate} cannot be read as a certificate: {_why(error)}.", path=str(certificate)
        ) from None
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    names = found.get_values_for_type(x509.DNSName)
    # Of wildcards browsers take a whole first label only.
    return [*(name for name in names if "*" not in name.removeprefix("*.")), *addresses]


def extension(connection: ssl.SSLObject) -> dict[str, Any]:
    """The TLS extension of ASGI (its specification, version 0.2) for a connection that stands."""
    shown = connection.getpeercert(binary_form=True)
    name = None
    if shown is not None:
        name = x509.load_der_x509_certificate(shown).subject.rfc4514_string()
    return {
        "server_cert": None,  # what the specification lets be unknown, and nobody here asks for
        "client_cert_chain": [] if shown is None else [ssl.DER_cert_to_PEM_cert(shown)],
        "client_cert_name": name,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": None,
    }


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path | None = None) -> None:
    try:
        # A key with a passphrase must not have OpenSSL ask for it on the terminal of a service.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        where = certificate if key is None else f"{certificate} with {key}"
        raise TlsError(
            f"{where} cannot be used for TLS: {_why(error)}.",
            hint="It takes a certificate and the private key that belongs to it, as PEM,"
            " without a passphrase.",
            path=str(certificate),
        ) from None


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise TlsError(
            f"{ca} does not say whom to believe: {_why(error)}.",
            hint="It takes the certificates of authorities, as PEM.",
            path=str(ca),
        ) from None


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return str(error.strerror)
    return str(error)
