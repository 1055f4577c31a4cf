# SPDX-License-Identifier: Apache-2.0
"""A till at work with its page in front of it, for the tests."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from chipcash.center.client import CenterClient
from chipcash.people.accounts import Cost, Staff
from chipcash.pos import Pos
from chipcash.pos.page.roles import ROLES, RULES, staff_file
from chipcash.pos.page.service import Service
from chipcash.pos.till import SaleState, Till
from chipcash.sandbox import Sandbox

CHEAP = Cost(iterations=1, lanes=1, memory_kib=8)
"""So that a test's login takes no time; what it takes in earnest is in the hash."""
FIRST = {"cashier": "250250", "manager": "a first password 1"}
SECRETS = {"cashier": "739146", "manager": "own secret words 77"}


@contextmanager
def center(pos: Pos) -> Iterator[CenterClient]:
    with CenterClient(pos.center_url, pos.trust, timeout=5) as client:
        yield client


class Counter:
    """A network's till that runs, its staff with an account for each role, named as it, and its page.

    now: the time for sessions, to be turned.
    """

    def __init__(self, folder: Path, readers: Sequence[str] = ()) -> None:
        self.now = 1_800_000_000
        with ExitStack() as stack:
            self.sandbox = stack.enter_context(Sandbox(folder / "net"))
            self.sandbox.till("till").close()
            self.directory = self.sandbox.directory / "till"
            book = staff_file(self.directory)
            self.staff = Staff(book, RULES, create=True, clock=lambda: self.now, cost=CHEAP)
            stack.callback(self.staff.close)
            for role in ROLES:
                self.staff.add(role, role, FIRST[role], "os:test")
                visitor = self.staff.visitor(self.staff.login(role, FIRST[role], "::1"), "::1")
                assert visitor is not None
                self.staff.change_password(visitor, FIRST[role], SECRETS[role], "::1")
            self.till = stack.enter_context(Till(self.directory, readers, center))
            self.service = stack.enter_context(Service(self.till, self.staff, center))
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

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
        answer = self.post(client, "/login", "/login", name=role, password=SECRETS[role])
        assert answer.status_code == 303, answer.text

    @staticmethod
    def post(client: httpx.Client, form: str, path: str, **values: str) -> httpx.Response:
        """Send a form that the page `form` holds."""
        found = re.search('name="csrf" value="([0-9a-f]+)"', client.get(form).text)
        assert found is not None
        return client.post(path, data={"csrf": found[1], **values})

    def charged(self, image: Path, amount: int) -> bytes:
        """Take an amount from an emulated card, as the till's threads would; the claim's id."""
        from chipcash.transports import open_path

        with self.till.pos("cashier") as pos, open_path(f"sim:{image}") as connection:
            return pos.charge(connection, amount).claim_id

    def wait(self, true: Callable[[], bool], seconds: float = 15) -> None:
        """Wait for what some event of the till brings."""
        deadline = time.monotonic() + seconds
        event = 0
        while not true():
            assert time.monotonic() < deadline, self.till.status()
            event = self.till.wait(event, 0.2)

    def ends(self, state: SaleState) -> None:
        self.wait(lambda: self.till.sale is not None and self.till.sale.state is state)


@contextmanager
def counter_in(folder: Path, readers: Sequence[str] = ()) -> Iterator[Counter]:
    """A counter for as long as this lasts."""
    counter = Counter(folder, readers)
    try:
        yield counter
    finally:
        counter.close()
