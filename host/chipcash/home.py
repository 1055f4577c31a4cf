# SPDX-License-Identifier: Apache-2.0
"""A network's home directory: the keys and books of its institutions."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chipcash import crypto, files
from chipcash.bank.accounts import Accounts
from chipcash.bank.issuing import IssuingLibrary
from chipcash.bank.library import BankLibrary
from chipcash.center.client import CenterApi
from chipcash.center.errors import CenterError
from chipcash.center.inquiry import Inquiry
from chipcash.center.parameters import Parameters
from chipcash.center.partitions import PARTITIONS_FILE, Partition
from chipcash.center.registration import Center
from chipcash.center.storage import Storage, open_storage
from chipcash.certification import Authority
from chipcash.clock import Clock, system_clock
from chipcash.database import DatabaseError
from chipcash.log.errors import LogError
from chipcash.log.note import SIGNATURE, Key, SigningKey
from chipcash.log.reader import Folder, LogReader
from chipcash.log.scope import HOME, WHOLE, Scope
from chipcash.log.store import Log
from chipcash.trust import FILE_NAME, Trust
from chipcash_wire import objects as o

if TYPE_CHECKING:
    from chipcash.center.cluster import Cluster  # needs what only a center of several ledgers has

__all__ = ["Home", "LogFiles", "init"]


@dataclass(frozen=True)
class LogFiles:
    """Folders of a log, its private key, and its key string."""

    public: Path
    entries: Path
    key: Path
    key_string: Path


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
        """The registration center over its ledger, or the gateway of one that has several.

        parameters: by default those of its file. Raises DatabaseError if the ledger is gone; CenterError
        where the gateway cannot be.
        """
        trust = self.trust()  # first: a directory without it is no home at all
        parameters = parameters or self.parameters()
        values = (self.ledger(), self.key("center"), trust, parameters, clock)
        cluster = self.cluster()
        if cluster is None:
            return Center(*values)
        from chipcash.center.cluster import ClusterGateway

        return ClusterGateway(cluster, *values)

    def home_ledger(self) -> Center:
        """The ledger of this directory alone, of a center that may have several. Raises DatabaseError."""
        return Center(self.ledger(), self.key("center"), self.trust(), self.parameters())

    def cluster(self) -> Cluster | None:
        """Where the ledgers are of a center that has several; None if it has one. Raises CenterError."""
        if not (self.directory / PARTITIONS_FILE).is_file():
            return None
        from chipcash.center.cluster import Cluster

        return Cluster.load(self.directory / PARTITIONS_FILE)

    def partition(self, number: int, of: int, storage: Storage) -> Partition:
        """One partition's ledger, as its worker uses it."""
        return Partition(number, of, storage, self.key("center"), self.trust(), self.parameters())

    def parameters(self) -> Parameters:
        """What who runs the center decided. Raises CenterError if the file is damaged."""
        return Parameters.load(self.parameters_file)

    @property
    def parameters_file(self) -> Path:
        """The file of what who runs the center decided; without it the defaults hold."""
        return self.directory / "parameters.json"

    def inquiry(self) -> Inquiry:
        """The center's ledger to be read: without its key, but for a center that has several ledgers. Raises
        DatabaseError if it is gone; CenterError where the gateway cannot be."""
        if self.cluster() is not None:
            return self.center()
        return Inquiry(open_storage(self.ledger()))

    def ledger(self) -> str | Path:
        """Where the center's ledger is: ledger.db, or what ledger.url says, which may hold a password. Raises
        DatabaseError if both are gone."""
        if self.ledger_url_file.is_file():
            return self.ledger_url_file.read_text().strip()
        return self._books("ledger.db")

    @property
    def ledger_url_file(self) -> Path:
        """The file that says where a ledger is that is not in this directory."""
        return self.directory / "ledger.url"

    @property
    def staff_file(self) -> Path:
        """Accounts of the center's staff, and the record of what they did."""
        return self.directory / "staff.db"

    @property
    def log_key_file(self) -> Path:
        """The key string of the center's log, for auditors and witnesses."""
        return self.directory / "log.pub"

    @property
    def log_public(self) -> Path:
        """The folder of the center's log that everybody may read."""
        return self.directory / "log" / "public"

    def log(self, partition: int | None = None) -> Log:
        """The center's log, or a partition's, to be written.

        Raises LogError if it is gone, or another process writes it.
        """
        there = self.log_files(partition)
        return Log(there.public, there.entries, SigningKey.load(there.key, SIGNATURE))

    def log_reader(self, partition: int | None = None) -> LogReader:
        """The center's log, or a partition's, to be read."""
        there = self.log_files(partition)
        return LogReader(self.log_key(partition), Folder(there.public), Folder(there.entries))

    def log_key(self, partition: int | None = None) -> Key:
        """The public key of the center's log, or of a partition's. Raises LogError if it is not here."""
        path = self.log_files(partition).key_string
        try:
            return Key.parse(path.read_text("utf-8"), SIGNATURE)
        except OSError:
            raise LogError(
                f"{path} is missing: the key of a log, by which it is known how far it goes.",
                hint="Copy it from where the center was made; it is public.",
            ) from None

    def begin_logs(self, partitions: int | None = None) -> None:
        """Make keys and logs of a center that has none, or what a crash left out. Raises LogError.

        partitions: how many it has, if it has any: each has a log beside that of the home ledger.
        """
        self._begin_log(None, WHOLE if partitions is None else HOME)
        for number in range(partitions or 0):
            self._begin_log(number, Scope(cards=False, number=number, of=partitions or 1))

    def _begin_log(self, partition: int | None, scope: Scope) -> None:
        there = self.log_files(partition)
        if there.key_string.is_file():
            return
        if there.key.is_file():
            key = SigningKey.load(there.key, SIGNATURE)
        else:
            trust = self.trust()
            # No two networks have the same name, whatever they call themselves.
            key_id = crypto.key_id(trust.suite, trust.certification_key).hex()
            name = f"chipcash/{trust.network.hex()}/{key_id}{scope.suffix}"
            key = SigningKey.generate(name, SIGNATURE)
            key.save(there.key)
        try:
            Log.create(there.public, there.entries, key).close()
        except LogError:
            self.log(partition).close()  # there is one: it is whole, or this says why not
        files.replace(there.key_string, f"{key.key}\n".encode(), 0o644)

    def log_files(self, partition: int | None = None) -> LogFiles:
        """Where the log of a partition is, or the one that a center has without any."""
        log = self.directory / "log"
        if partition is None:
            key = self.directory / "log.key"
            return LogFiles(self.log_public, log / "entries", key, self.log_key_file)
        name = f"p{partition:04}"
        return LogFiles(
            self.log_public / name,
            log / "entries" / name,
            self.directory / f"log-{name}.key",
            self.directory / f"log-{name}.pub",
        )

    def issuing(self) -> IssuingLibrary:
        """The issuing library over issuing.db. Raises DatabaseError if it is gone."""
        trust = self.trust()
        return IssuingLibrary(self._books("issuing.db"), self.key("issuer"), trust)

    def bank(self, center: CenterApi, clock: Clock = system_clock) -> BankLibrary:
        """The bank's library over bank.db, working against a center. Raises DatabaseError if it is gone."""
        trust = self.trust()
        return BankLibrary(self._books("bank.db"), self.key("bank"), trust, center, clock)

    def accounts(self, clock: Clock = system_clock, *, create: bool = False) -> Accounts:
        """The merchants' accounts at the bank. create: begin them. Raises BankError if there are none."""
        path = self.directory / "accounts.db"
        return Accounts(path, self.key("bank").public, self.trust(), clock, create=create)

    def _books(self, name: str) -> Path:
        """A database of this directory, which must be there: the same keys with empty books would take every
        coin for new, or pay the same money twice.
        """
        path = self.directory / name
        if not path.is_file():
            raise DatabaseError(
                f"{path} is missing; no new one was begun in its place.",
                hint="Restore its newest backup.",
                path=str(path),
            )
        return path


def init(
    directory: str | Path,
    suite: int | str,
    network: bytes,
    clock: Clock = system_clock,
    ledger: str | None = None,
    partitions: int | None = None,
) -> Home:
    """Create a network: keys of certification center, issuing library, registration center and one bank,
    their certificates, the network file and empty books of all of them.

    network: 4 bytes, beginning with "T" for test networks; ledger: where the center keeps its ledger, see
    open_storage(), ledger.db if None; partitions: how many ledgers coins are to be in, if not in this one.
    Raises CryptoError if a key exists already, WireError if the network id has not 4 bytes, DatabaseError if
    the ledger cannot be used, CenterError if it is in use.
    """
    home = Home(Path(directory))
    found = crypto.suite(suite)
    o.make_header(network, found.id)
    if home.network_file.exists():
        raise CenterError(
            f"{home.directory} holds a network already; nothing was changed.",
            hint="Choose another directory.",
        )
    if ledger is not None:
        # Before there are keys, which are never made anew.
        with closing(open_storage(ledger)) as storage:
            if Inquiry(storage).facts():
                raise CenterError(
                    "That ledger holds the money of another network; nothing in it was changed.",
                    hint="Give this network an empty database.",
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
    trust = Trust(network, found.id, keys["certification"].public, certificates)
    center = Center(ledger or home.directory / "ledger.db", keys["center"], trust)
    if ledger is not None:
        home.ledger_url_file.touch(mode=0o600)
        home.ledger_url_file.write_text(f"{ledger}\n")
    IssuingLibrary(home.directory / "issuing.db", keys["issuer"], trust).close()
    BankLibrary(home.directory / "bank.db", keys["bank"], trust, center, clock).close()
    center.close()
    # Written last: a directory with a network file is complete, but for the log, which is told by its own.
    trust.save(home.network_file)
    home.begin_logs(partitions)
    return home
