# SPDX-License-Identifier: Apache-2.0
"""One site over the logs of a center of several ledgers, in Chromium: each document finds its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chipcash.center.facts import LedgerFacts
from chipcash.log.errors import LogError
from chipcash.log.note import SIGNATURE, SigningKey
from chipcash.log.publisher import Publisher
from chipcash.log.reader import Folder, LogReader
from chipcash.log.scope import HOME, Scope
from chipcash.log.store import Log
from chipcash.site.building import build, confirm, part_of
from chipcash.site.serving import SiteService
from chipcash_wire import objects as o
from tests.browser import browser  # noqa: F401
from tests.center.partitioned import PARTITIONS, Partitioned
from tests.center.test_gateway import two_partitions
from tests.center.world import World
from tests.site.published import AUDITOR, LOG, WITNESSES
from tests.site.test_page import check, checks, code, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SCOPES = [*(Scope(cards=False, number=at, of=PARTITIONS) for at in range(PARTITIONS)), HOME]


def key_of(scope: Scope) -> SigningKey:
    return SigningKey(f"log.example{scope.suffix}", SIGNATURE, bytes(32))


@dataclass
class Several:
    """A world over partitions, with a folder of logs and a site."""

    folder: Path
    world: World

    @property
    def site(self) -> Path:
        return self.folder / "site"

    def reader(self, scope: Scope) -> LogReader:
        folder = self.folder / "log" / scope.folder
        keys = [witness.key for witness in WITNESSES]
        sources = Folder(folder / "public"), Folder(folder / "entries")
        return LogReader(key_of(scope).key, *sources, keys, 2)

    def publish(self) -> None:
        center = self.world.center
        assert isinstance(center, Partitioned)
        for ledger, scope in zip([*center.parts, center], SCOPES, strict=True):
            folder = self.folder / "log" / scope.folder
            key = key_of(scope)
            if not folder.exists():
                Log.create(folder / "public", folder / "entries", key).close()
            with Log(folder / "public", folder / "entries", key) as log:
                Publisher(log, LedgerFacts(ledger.storage, self.world.header)).publish()
                text = log.checkpoint().text
                log.publish([x.sign(text, self.world.now) for x in WITNESSES[:2]])

    def build(self, *scopes: Scope) -> None:
        for scope in scopes or SCOPES:
            build(
                self.site,
                self.reader(scope),
                self.world.trust,
                lambda: self.world.now,
                [AUDITOR.key],
            )


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    made = Several(tmp_path_factory.mktemp("several"), World(center=Partitioned))
    yield made
    made.world.center.close()


@contextmanager
def served_copy(several: Several, to: Path) -> Iterator[tuple[Path, str]]:
    shutil.copytree(several.site, to)
    with SiteService(to) as service:
        yield to, service.url


def test_each_document_finds_its_log(
    several: Several,
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    world = several.world
    one, other = two_partitions(world, "mallory")
    pay = world.claim("mallory", "shop", [(one, 0, 10), (other, 0, 10)])
    receipt = world.settle(pay)
    again = world.claim("mallory", "kiosk", [(one, 5, 15), (other, 10, 20)])
    world.settle(again)
    ((digest,),) = world.center.storage.all("SELECT digest FROM evidence")
    late = world.claim("mallory", "shop", [(one, 50, 60)])
    several.publish()
    several.build(HOME)  # in any order
    several.build()
    new = world.issue(7, "alice")
    certificate = world.certificate("mallory")

    def paid(claim: o.Claim, *titles: o.Title) -> o.Payment:
        return o.Payment(claim=claim, titles=titles, certificate=certificate)

    where = next(scope for scope in SCOPES if scope.holds(one.serial))
    documents: list[tuple[str, o.Object]] = [
        ("partly", one),
        ("partly", other),
        ("missing", new),
        ("settled", paid(pay, one, other)),
        ("settled", pay),
        ("mixed", paid(again, one, other)),
        ("not-registered", paid(late, one)),
        ("not-registered", late),
        ("authentic", receipt),
        ("proves", world.center.evidence(digest)),
    ]
    with SiteService(several.site) as service, opened(browser, service.url) as page:
        for expected, obj in documents:
            assert check(page, code(obj)) == expected, page.inner_text("#result")
            found = checks(page)
            assert "bad" not in found.values() and "old" not in found
            if expected == "settled":
                assert page.inner_text("#result").count("0.10 yuan: Genuine and settled") == 2
            if expected == "proves":
                assert found["listed"] == "good"
            if obj is late:
                assert "in all 4 logs" in page.inner_text("#result")
            if obj is one:
                assert f"The log {key_of(where).key.name} of" in page.inner_text("#result")
        # An auditor has confirmed one log, and that is told of what is in it alone.
        part = part_of(several.site, key_of(where).key)
        note = confirm(Folder(part), several.reader(where), world.trust, AUDITOR)
        (part / "confirmation").write_bytes(note)
        check(page, code(one))
        assert checks(page)["confirmed"] == "word"
        check(page, code(pay))
        assert checks(page)["complete"] == "word"
        # A log that goes back is believed no more; the others are.
        old = {path.name: path.read_bytes() for path in part.glob("state.json")}
        world.now += 60
        world.settle(world.claim("mallory", "shop", [(one, 70, 80)]))
        several.publish()
        several.build()
        check(page, code(one))
        for name, data in old.items():
            (part / name).write_bytes(data)
        assert check(page, code(one)) == "unproven" and checks(page)["older"] == "bad"
        assert check(page, code(pay)) == "unproven"
        assert check(page, code(other)) == "partly"
        # One log under another key than this browser has seen.
        several.build(where)
        another = SigningKey(key_of(where).key.name, SIGNATURE, bytes([7]) * 32)
        now = several.reader(where).checkpoint()[0]
        lines = [
            another.sign(now.text),
            *(witness.sign(now.text, world.now) for witness in WITNESSES[:2]),
        ]
        for name, change in (
            ("config.json", {"log": str(another.key)}),
            ("state.json", {"checkpoint": now.signed(lines).decode()}),
        ):
            data = json.loads((part / name).read_bytes())
            (part / name).write_text(json.dumps({**data, **change}))
        page.reload()
        assert check(page, code(one)) == "unproven" and checks(page)["root-changed"] == "bad"
        assert check(page, code(other)) == "partly"
    # One log in the place of another, under its own key.
    with served_copy(several, tmp_path / "swapped") as (site, url):
        a, b = (site / scope.folder for scope in SCOPES[:2])
        a.rename(site / "x")
        b.rename(a)
        (site / "x").rename(b)
        with opened(browser, url) as page:
            assert check(page, code(pay)) == "unproven" and checks(page)["config"] == "bad"


def whole(folder: Path) -> LogReader:
    Log.create(folder / "public", folder / "entries", LOG).close()
    return LogReader(LOG.key, Folder(folder / "public"), Folder(folder / "entries"))


def test_a_folder_is_one_centers_site(tmp_path: Path) -> None:
    world = World(center=Partitioned)
    mine = Several(tmp_path, world)
    two_partitions(world, "alice")
    mine.publish()
    mine.build(SCOPES[0])
    with pytest.raises(LogError, match="something else"):
        build(mine.site, whole(tmp_path), world.trust)
    (mine.site / "config.json").write_text('{"format": "chipcash-site-1", "partitions": 8}')
    with pytest.raises(LogError, match="something else"):
        mine.build(SCOPES[1])
    world.center.close()
