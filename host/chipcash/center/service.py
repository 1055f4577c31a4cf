# SPDX-License-Identifier: Apache-2.0
"""A network's home directory, and the registration center as a service over it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from chipcash import crypto
from chipcash.bank.issuing import IssuingLibrary
from chipcash.bank.library import BankLibrary
from chipcash.center.client import CenterApi
from chipcash.center.errors import CenterError
from chipcash.center.http import create_app
from chipcash.center.ledger import Center, Parameters
from chipcash.certification import Authority
from chipcash.clock import Clock, system_clock
from chipcash.trust import FILE_NAME, Trust
from chipcash_wire import objects as o

__all__ = ["Home", "Service", "init", "serve"]


@dataclass(frozen=True)
class Home:
    """The directory of a small network that one operator runs: keys (0600), network file, databases.

    A large network keeps the same files on different machines; nothing here needs more than its own.
    """

    directory: Path

    @property
    def network_file(self) -> Path:
        """The public file that terminals, banks and auditors get."""
        return self.directory / FILE_NAME

    def trust(self) -> Trust:
        """The network. Raises TrustError, or OSError if the file cannot be read."""
        return Trust.load(self.network_file)

    def key(self, role: str) -> crypto.PrivateKey:
        """Private key of certification, issuer, center or bank. Raises CryptoError."""
        return crypto.PrivateKey.load(self.directory / f"{role}.key")

    def authority(self, clock: Clock = system_clock) -> Authority:
        """The certification center."""
        return Authority(self.key("certification"), self.trust().network, clock)

    def center(self, parameters: Parameters | None = None, clock: Clock = system_clock) -> Center:
        """The registration center over ledger.db."""
        path = self.directory / "ledger.db"
        return Center(path, self.key("center"), self.trust(), parameters, clock)

    def issuing(self) -> IssuingLibrary:
        """The issuing library over issuing.db."""
        return IssuingLibrary(self.directory / "issuing.db", self.key("issuer"), self.trust())

    def bank(self, center: CenterApi, clock: Clock = system_clock) -> BankLibrary:
        """The bank's library over bank.db, working against a center."""
        path = self.directory / "bank.db"
        return BankLibrary(path, self.key("bank"), self.trust(), center, clock)


def init(
    directory: str | Path,
    suite: int | str,
    network: bytes,
    clock: Clock = system_clock,
) -> Home:
    """Create a network: keys of certification center, issuing library, registration center and one bank,
    their certificates, the network file and an empty ledger.

    network: 4 bytes, beginning with "T" for test networks. Raises CryptoError if a key exists already,
    WireError if the network id has not 4 bytes.
    """
    home = Home(Path(directory))
    found = crypto.suite(suite)
    o.make_header(network, found.id)
    if home.network_file.exists():
        raise CenterError(
            f"{home.directory} holds a network already; nothing was changed.",
            hint="Choose another directory.",
        )
    home.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = {}
    for role in ("certification", "issuer", "center", "bank"):
        keys[role] = crypto.PrivateKey.generate(found)
        keys[role].save(home.directory / f"{role}.key")
    authority = Authority(keys["certification"], network, clock)
    bank = authority.certify_institution(keys["bank"].public, o.ROLE_BANK)
    (home.directory / "bank.certificate").write_bytes(bank.encode())
    certificates = (
        authority.certify_institution(keys["issuer"].public, o.ROLE_ISSUER),
        authority.certify_institution(keys["center"].public, o.ROLE_CENTER),
    )
    # Written last: a directory with a network file is complete.
    Trust(network, found.id, keys["certification"].public, certificates).save(home.network_file)
    home.center(clock=clock).close()
    return home


class Service:
    """A center listening on a TCP port: `run()` in this thread, or `with` it in a thread of its own.

    host, port: where to listen; port 0 takes a free one. Listening begins at once. Raises CenterError if
    the address cannot be used.
    """

    def __init__(self, center: Center, host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._socket = socket.create_server(address[:2], family=family)
            # Connections inherit it. Without it an answer's body waits 40 ms for an acknowledgement of
            # its head: asyncio does not set it here, as create_server names no protocol.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise CenterError(
                f"The center cannot listen on {host} port {port}: {error.strerror}.",
                hint="Choose another address or port, or end what uses it.",
            ) from None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(center),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until stop() or, in the main thread, an interrupt."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Finish what is being answered, then end run()."""
        self._server.should_exit = True

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run, name="center", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()


def serve(
    directory: str | Path,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], None] = lambda url: None,
    parameters: Parameters | None = None,
) -> None:
    """Run the center of a home directory until interrupted.

    on_ready gets the URL once the port accepts connections. Raises CenterError, TrustError or CryptoError
    if it cannot start.
    """
    center = Home(Path(directory)).center(parameters)
    try:
        service = Service(center, host, port)
        on_ready(service.url)
        service.run()
    finally:
        center.close()
