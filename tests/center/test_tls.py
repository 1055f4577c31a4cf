# SPDX-License-Identifier: Apache-2.0
"""TLS 1.3 between a center and its clients, and certificates of institutions."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from chipcash.center.client import CenterClient
from chipcash.center.errors import CenterRefused, CenterUnreachable
from chipcash.center.http import ENDPOINTS
from chipcash.center.service import Service
from chipcash.tls import TlsError, client_context, server_context
from tests.center.world import World


@dataclass
class Edge:
    """A center behind TLS. folder: PEM files: ca, server, bank (certificate and key of an institution),
    stranger (of another authority), server.key."""

    world: World
    url: str
    folder: Path

    def client(self, own: str | None = None, ca: str = "ca") -> CenterClient:
        shown = None if own is None else self.folder / own
        tls = client_context(self.folder / ca, shown)
        return CenterClient(self.url, self.world.trust, timeout=10, tls=tls)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca")
    theirs.cert_pem.write_to_path(folder / "their-ca")
    server = ours.issue_cert("127.0.0.1", common_name="center.example")
    server.private_key_pem.write_to_path(folder / "server.key")
    for blob in server.cert_chain_pems:
        blob.write_to_path(folder / "server", append=True)
    for name, ca in (("bank", ours), ("stranger", theirs)):
        issued = ca.issue_cert("bank.example", common_name=f"{name}.example")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / name)
    world = World()
    tls = server_context(folder / "server", folder / "server.key", folder / "ca")
    with Service(world.center, tls=tls) as service:
        assert service.url.startswith("https://")
        yield Edge(world, service.url, folder)
    world.center.close()


def test_who_gets_what(edge: Edge) -> None:
    """Tills and cards without a certificate; institutions with one, and what is theirs only so."""
    world = edge.world
    coin = world.coin(100, "alice")
    with edge.client() as till, edge.client("bank") as bank:
        refused = [
            lambda: till.register_coin(coin),
            lambda: till.register_card(world.certificate("card")),
            lambda: till.coin(coin.serial),
            lambda: till.accounts(),
        ]
        for ask in refused:
            with pytest.raises(CenterRefused) as caught:
                ask()
            assert (caught.value.name, caught.value.status) == ("certificate", 403)
        assert world.center.accounts()["issued_fen"] == 0
        title = bank.register_coin(coin)
        assert bank.register_card(world.certificate("card")).sequence == 1
        assert bank.coin(coin.serial)["amount_fen"] == bank.accounts()["live_fen"] == 100
        claim = world.claim("alice", "shop", [(title, 0, 10)])
        receipt = till.settle(world.deposit(claim))
        assert till.titles(world.public("shop")) == receipt.titles
        assert till.claim(receipt.results[0].claim_id)["amount_fen"] == 10
        till.register_void(world.void("shop", claim))
        till.challenge(world.public("card"))
        assert till.blacklist()[0] == () and till.network() and till.signed_time()


def test_what_is_open_is_what_the_table_says(edge: Edge) -> None:
    description = httpx.get(f"{edge.url}/openapi.json", verify=client_context(edge.folder / "ca"))
    operations = {
        operation["operationId"]: operation.get("security")
        for path in description.json()["paths"].values()
        for operation in path.values()
    }
    for endpoint in ENDPOINTS:
        wanted = [{"mutualTLS": []}, {}] if endpoint.institutions else None
        assert operations[endpoint.name] == wanted


def test_the_numbers_are_for_who_has_a_certificate(edge: Edge) -> None:
    for own, status in ((None, 403), ("bank", 200)):
        tls = client_context(edge.folder / "ca", own and edge.folder / own)
        with httpx.Client(base_url=edge.url, verify=tls) as client:
            assert client.get("/metrics").status_code == status
            assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_a_certificate_of_somebody_else_is_none(edge: Edge) -> None:
    with edge.client("stranger") as stranger, pytest.raises(CenterUnreachable):
        stranger.signed_time()


def test_a_center_of_somebody_else_is_none(edge: Edge) -> None:
    with (
        edge.client(ca="their-ca") as client,
        pytest.raises(CenterUnreachable, match="CERTIFICATE"),
    ):
        client.signed_time()
    with CenterClient(edge.url, edge.world.trust) as client, pytest.raises(CenterUnreachable):
        client.signed_time()
    elsewhere = edge.url.replace("127.0.0.1", "localhost")
    with (
        CenterClient(elsewhere, edge.world.trust, tls=client_context(edge.folder / "ca")) as client,
        pytest.raises(CenterUnreachable),
    ):
        client.signed_time()


def test_nothing_older_than_tls_1_3_is_spoken(edge: Edge) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(edge.folder / "ca")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(httpx.ConnectError, match="SSL"):
        httpx.get(f"{edge.url}/health", verify=old)
    old.maximum_version = ssl.TLSVersion.TLSv1_3
    assert httpx.get(f"{edge.url}/health", verify=old).status_code == 200
    plain = edge.url.replace("https", "http")
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{plain}/health")


def test_who_says_in_a_header_who_he_is_is_nobody(edge: Edge) -> None:
    with httpx.Client(base_url=edge.url, verify=client_context(edge.folder / "ca")) as client:
        said = {
            "X-Client-Cert": "bank",
            "X-Forwarded-For": "10.0.0.1",
            "X-SSL-Client-Verify": "SUCCESS",
        }
        assert client.get("/v1/accounts", headers=said).status_code == 403


def test_without_client_certificates_it_is_as_open_as_it_was(edge: Edge) -> None:
    tls = server_context(edge.folder / "server", edge.folder / "server.key")
    with (
        Service(edge.world.center, tls=tls) as service,
        CenterClient(
            service.url, edge.world.trust, tls=client_context(edge.folder / "ca")
        ) as client,
    ):
        assert client.accounts()["redeemed_fen"] == 0


@pytest.mark.parametrize("own", ["nothing", "ca", "empty", "locked"])
def test_files_that_cannot_be_used_are_told(edge: Edge, own: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    certified = trustme.CA().issue_cert("bank.example")
    key = load_pem_private_key(certified.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a passphrase")
    )
    (tmp_path / "locked").write_bytes(locked + certified.cert_chain_pems[0].bytes())
    path = edge.folder / own if own == "ca" else tmp_path / own
    for make in (server_context, lambda path: client_context(edge.folder / "ca", path)):
        with pytest.raises(TlsError, match=str(path)):
            make(path)
    if own in ("nothing", "empty"):
        with pytest.raises(TlsError, match=str(path)):
            client_context(path)
