# SPDX-License-Identifier: Apache-2.0
"""A center with a history, and its staff's pages in front of it, for the tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from chipcash.center.registration import Center as Registration
from chipcash.center.staff.health import Health, Part
from chipcash.center.staff.roles import ROLES, RULES
from chipcash.center.staff.service import Service
from chipcash.center.staff.site import Center
from chipcash.people.accounts import Cost, Staff
from chipcash.trust import object_id
from tests.center.world import DAY, World

CHEAP = Cost(iterations=1, lanes=1, memory_kib=8)
"""So that a test's login takes no time; what it takes in earnest is in the hash."""
FIRST = "a first password 1"
PASSWORDS = {role: f"own secret words of {role[:3]}" for role in ROLES}


class Desk:
    """The world of a center, its staff with an account for each role, named as it, and the pages.

    kind: of center; coin: a coin that was paid on, redeemed in part, and whose payer paid twice; later,
    digest: that dispute.
    """

    def __init__(self, folder: Path, kind: type[Registration] = Registration) -> None:
        self.world = world = World(center=kind)
        self.now = world.now
        self.staff = Staff(
            folder / "staff.db", RULES, create=True, clock=lambda: self.now, cost=CHEAP
        )
        for role, password in PASSWORDS.items():
            self.staff.add(role, role, FIRST, "os:test")
            visitor = self.staff.visitor(self.staff.login(role, FIRST, "::1"), "::1")
            assert visitor is not None
            self.staff.change_password(visitor, FIRST, password, "::1")
        world.center.register_card(world.certificate("alice"))
        title = world.issue(10_000, "alice")
        self.coin = title.serial.hex()
        self.title = object_id(title).hex()
        first = world.claim("alice", "shop", [(title, 0, 3_000)])
        world.now += 60
        bought = world.settle(first).titles[0]
        world.settle(world.claim("alice", "bob", [(title, 3_000, 7_500)]))
        world.settle(world.claim("shop", "issuer", [(bought, 1_000, 2_000)]))
        later = world.claim("alice", "carol", [(title, 2_500, 8_000)])
        world.now += 60
        world.settle(later)
        self.claim = object_id(first).hex()
        self.later = object_id(later).hex()
        (self.digest,) = world.center.claim(object_id(later))["evidence"]
        lost = world.claim("bob", "shop", [(world.issue(500, "bob"), 0, 100)], window=0)
        world.now += 3 * DAY
        world.settle(lost)
        # Two ends of another coin become one fresh one.
        whole = world.issue(1_000, "carol")
        ends = [world.claim("carol", "shop", [(whole, lo, lo + 50)]) for lo in (0, 950)]
        self.cut, self.fresh = whole.serial.hex(), world.settle(*ends).titles[0].serial.hex()
        self.card = world.public("alice").hex()
        self.lost = world.public("bob").hex()
        self.health = Health(
            facts=12,
            logged=10,
            witnesses=[("bank.example/w", self.now), ("other.example/w", 0)],
            requests=[("settle", "", 3)],
            seconds={"settle": 0.01},
            parts=[Part("partition 0", "ok", 0, "m1"), Part("partition 1", "behind", 17, "m2")],
        )
        center = Center(world.center, world.trust, world.center.block, lambda: replace(self.health))
        self.service = Service(center, self.staff)

    @property
    def url(self) -> str:
        return self.service.url

    @contextmanager
    def login(self, role: str) -> Iterator[httpx.Client]:
        """A client that has logged in as this role."""
        with httpx.Client(base_url=self.url, timeout=20) as client:
            self.enter(client, role)
            yield client

    def enter(self, client: httpx.Client, role: str) -> None:
        """Log a client in."""
        answer = self.post(client, "/login", "/login", name=role, password=PASSWORDS[role])
        assert answer.status_code == 303, answer.text

    @staticmethod
    def post(client: httpx.Client, form: str, path: str, **values: str) -> httpx.Response:
        """Send a form that the page `form` holds."""
        found = re.search('name="csrf" value="([0-9a-f]+)"', client.get(form).text)
        assert found is not None
        return client.post(path, data={"csrf": found[1], **values})


@contextmanager
def desk_in(folder: Path, kind: type[Registration] = Registration) -> Iterator[Desk]:
    """A desk that is served meanwhile."""
    desk = Desk(folder, kind)
    with desk.service:
        yield desk
    desk.staff.close()
    desk.world.center.close()
