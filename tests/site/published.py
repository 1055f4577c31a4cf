# SPDX-License-Identifier: Apache-2.0
"""A world whose log is published and cosigned, and the site that is made of it."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from chipcash.log.note import COSIGNATURE, SIGNATURE, SigningKey
from chipcash.log.reader import Folder, LogReader
from chipcash.log.store import Log
from chipcash.site.building import Site, build
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.center.world import World
from tests.log.recording import Recorder

LOG = SigningKey("log.example", SIGNATURE, bytes(32))
WITNESSES = tuple(
    SigningKey(f"{name}.example/witness", COSIGNATURE, bytes([at]) * 32)
    for at, name in enumerate(("bank", "press", "court"), 1)
)
AUDITOR = SigningKey("audit.example", COSIGNATURE, bytes([9]) * 32)


class Published:
    """A world, its log in `folder`/public and `folder`/entries, and its site in `folder`/site."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder = folder
        self.world = World(suite=suite)
        self.recorder = Recorder(self.world)
        self.site = folder / "site"
        Log.create(folder / "public", folder / "entries", LOG).close()

    def publish(self, witnesses: tuple[SigningKey, ...] = WITNESSES[:2]) -> bytes:
        """Write what is new into the log, and give out its checkpoint with these cosignatures."""
        self.recorder.look()
        facts = list(enumerate((x.encode() for x in self.recorder.entries), 1))
        with Log(self.folder / "public", self.folder / "entries", LOG) as log:
            log.append(facts[log.size :])
            text = log.checkpoint().text
            return log.publish([x.sign(text, self.world.now) for x in witnesses])

    @property
    def reader(self) -> LogReader:
        keys = [witness.key for witness in WITNESSES]
        return LogReader(
            LOG.key, Folder(self.folder / "public"), Folder(self.folder / "entries"), keys, 2
        )

    def build(self) -> Site:
        return build(
            self.site, self.reader, self.world.trust, lambda: self.world.now, [AUDITOR.key]
        )


class Story(Published):
    """One of everything. `documents`: by what the site is to say of it."""

    def __init__(self, folder: Path, suite: str) -> None:
        super().__init__(folder, suite)
        world = self.world
        live, partly, spent, redeemed, cheats = (world.issue(1000, "alice") for _ in range(5))
        pay = world.claim("alice", "shop", [(partly, 0, 300)])
        both = [world.claim("alice", "shop", [(spent, lo, lo + 500)]) for lo in (0, 500)]
        self.receipt = world.settle(pay, *both)
        world.settle(world.claim("alice", "issuer", [(redeemed, 0, 1000)]))
        first = world.claim("alice", "shop", [(cheats, 0, 600)])
        second = world.claim("alice", "bob", [(cheats, 500, 1000)])
        world.settle(first)
        disputed = world.settle(second)
        ((digest,),) = world.center.storage.all("SELECT digest FROM evidence")
        self.evidence = world.center.evidence(digest)
        late = world.claim("alice", "bob", [(live, 0, 10)])  # never deposited
        self.note = self.publish()
        self.built = self.build()
        unlogged = world.issue(100, "alice")
        card = world.certificate("alice")
        self.payment = o.Payment(claim=pay, titles=(partly,), certificate=card)
        self.title = live
        (made,) = world.center.storage.row("SELECT bytes FROM coins WHERE recoined = 1")
        self.made = o.Coin.decode(made)
        self.partly = partly
        self.documents: dict[str, o.Object] = {
            "live": live,
            "partly": partly,
            "spent": spent,
            "redeemed": redeemed,
            "missing": unlogged,
            "settled": self.payment,
            "disputed": o.Payment(claim=second, titles=(cheats,), certificate=card),
            "not-registered": o.Payment(claim=late, titles=(live,), certificate=card),
            "authentic": self.receipt,
            "proves": self.evidence,
            "registered": o.Coin.decode(
                world.center.storage.row("SELECT bytes FROM coins ORDER BY seq LIMIT 1")[0]
            ),
        }
        assert {object_id(x) for x in self.receipt.titles}
        assert disputed.results


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Any web server for files, with nothing but a folder: its URL."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def copied(site: Path, to: Path) -> Path:
    """A copy of a site, to spoil."""
    shutil.copytree(site, to)
    return to
