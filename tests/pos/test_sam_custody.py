# SPDX-License-Identifier: Apache-2.0
"""A till whose key is in a card of its own (SAM): real applets on flash files, over the card's commands."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chipcash.card import Card, CardError
from chipcash.crypto import CryptoError, verify
from chipcash.pos import PaymentState, Pos, PosError, PromiseState, keys, sam
from chipcash.pos.recovery import recover
from chipcash.transports import TRAFFIC, Connection, open_path
from chipcash_sim.image import FileFlash
from chipcash_wire import objects as o
from tests.cards import make_card
from tests.pos.shop import Crash, Shop, a_day, crash_at

PIN = "274163"
PUK = "83615927"


@pytest.fixture(autouse=True)
def codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PIN_VARIABLE, PIN)
    monkeypatch.setenv(sam.PUK_VARIABLE, PUK)


@pytest.fixture(autouse=True)
def forget() -> None:
    """Each test is a process that knows no PIN and has no books open."""
    for known in (sam._pins, sam._refused, sam._books):
        known.clear()


def blank(folder: Path, name: str = "sam", options: str = "") -> str:
    """A new card's custody path."""
    image = folder / f"{name}.img"
    FileFlash(str(image)).close()
    return f"sim:{image}{options}"


def tries(path: str) -> int:
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        return card.pin_tries()


@pytest.mark.parametrize(
    ("suite", "options"), [("p256", ""), ("gm", ""), ("p256", "?runtime=micropython")]
)
def test_a_day_at_a_till_with_a_sam(tmp_path: Path, suite: str, options: str) -> None:
    shop = Shop(tmp_path, suite, custody=f"sam:{blank(tmp_path, options=options)}")
    # All that it signs: a claim of its own money, a void, a promise.
    path = a_day(shop, lambda: forget_all(shop))
    paid = shop.pay(path, 300)
    promise = o.RefundPromise.decode(shop.pos.promise_refund(paid.claim_id, 100).data)
    which = shop.pos.key.suite.id
    assert verify(which, shop.pos.public, promise.message(), promise.signature or b"")
    # And nothing else.
    with pytest.raises(CryptoError, match="SAM: wrong data"):
        shop.pos.key.sign(b"message")
    assert PIN not in repr(shop.pos.key)
    shop.close()


def forget_all(shop: Shop) -> None:
    """The till's process ends."""
    shop.crash()
    for known in (sam._pins, sam._refused, sam._books):
        known.clear()


def test_no_secret_is_on_the_disk_or_in_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(TRAFFIC)
    trace = tmp_path / "trace"
    shop = Shop(tmp_path, custody=f"sam:{blank(tmp_path, options=f'?trace={trace}')}")
    directory = shop.pos.directory
    shop.pos.sync(shop.center)
    shop.pos.bill(100)
    assert shop.pos.give_up() is not None
    forget_all(shop)
    kept = keys.custody_of(directory)
    books_key = kept.books_key()
    assert books_key is not None and kept.export() is None
    said = trace.read_text() + "".join(
        record.getMessage() for record in caplog.records if record.levelno >= TRAFFIC
    )
    assert "not logged" in said and len(said) > 2000
    secrets = [books_key.hex(), PIN.encode().hex(), PUK.encode().hex(), PIN, PUK]
    assert not [secret for secret in secrets if secret in said]
    found = [file.read_bytes() for file in directory.iterdir()]
    for secret in (books_key, *(secret.encode() for secret in secrets)):
        assert not any(secret in content for content in found)
    assert not {"pos.key", "books.key"} & {file.name for file in directory.iterdir()}
    shop.close()


def test_a_wrong_pin_costs_one_try_however_often_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = blank(tmp_path)
    shop = Shop(tmp_path, custody=f"sam:{path}")
    directory = shop.pos.directory
    forget_all(shop)
    monkeypatch.setenv(keys.PIN_VARIABLE, "111111")
    with pytest.raises(CryptoError, match="2 tries left") as caught:
        Pos(directory)
    assert caught.value.facts["attempts_left"] == 2
    assert "111111" not in str(caught.value) + str(caught.value.as_dict())
    for _ in range(3):  # as a till does that tries again and again
        with pytest.raises(CryptoError, match="refused this PIN before"):
            Pos(directory)
    assert tries(path) == 2
    for wrong in ("22222", "333333"):
        monkeypatch.setenv(keys.PIN_VARIABLE, wrong)
        with pytest.raises(CryptoError, match="1 try left" if wrong[0] == "2" else "is blocked"):
            Pos(directory)
    monkeypatch.setenv(keys.PIN_VARIABLE, PIN)
    with pytest.raises(CryptoError, match="is blocked") as caught:
        Pos(directory)
    assert "card unblock" in caught.value.hint
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        card.unblock_pin(PUK, PIN)
    Pos(directory).close()
    for wrong in ("12ab", "123"):
        sam._pins.clear()
        sam._books.clear()
        monkeypatch.setenv(keys.PIN_VARIABLE, wrong)
        with pytest.raises(CryptoError, match="4 to 12 digits"):
            Pos(directory)
    monkeypatch.delenv(keys.PIN_VARIABLE)
    with pytest.raises(CryptoError, match="wants its PIN"):
        Pos(directory)
    asked: list[str] = []

    def person(what: str) -> str:
        asked.append(what)
        return PIN

    monkeypatch.setattr(keys, "asking", person)
    Pos(directory).close()
    sam._books.clear()
    Pos(directory).close()
    assert len(asked) == 1  # once for the process
    assert tries(path) == 3
    shop.close()


def test_without_its_sam_a_till_takes_money_and_signs_nothing(tmp_path: Path) -> None:
    path = blank(tmp_path)
    image = Path(path.removeprefix("sim:"))
    shop = Shop(tmp_path, custody=f"sam:{path}")
    shop.pos.sync(shop.center)
    card = shop.card(money=(10000,))
    image.rename(tmp_path / "pocket.img")
    shop.pay(card, 1200)
    shop.pos.sync(shop.center)
    for _ in range(2):
        with pytest.raises(CryptoError, match=r"cannot be used\. There is no emulated card"):
            shop.pos.spend(500, shop.net.key("bank").public, shop.center)
    assert shop.pos.balance().verified_fen == shop.money() == 1200
    # Another card in its reader: a payer's, another till's SAM. No PIN is tried on it.
    (tmp_path / "other").mkdir()
    other = Shop(tmp_path / "other", custody=f"sam:{blank(tmp_path / 'other')}")
    assert other.pos.public != shop.pos.public
    other.close()
    make_card(image, shop.net)
    with pytest.raises(CryptoError, match="payer's card and no SAM"):
        shop.pos.spend(500, shop.net.key("bank").public, shop.center)
    image.write_bytes((tmp_path / "other" / "sam.img").read_bytes())
    with pytest.raises(CryptoError, match="not this till's SAM"):
        shop.pos.spend(500, shop.net.key("bank").public, shop.center)
    forget_all(shop)
    with pytest.raises(CryptoError, match="not this till's SAM"):
        Pos(tmp_path / "pos")
    assert tries(path) == 3
    image.unlink()
    with pytest.raises(CryptoError, match="cannot be used"):
        Pos(tmp_path / "pos")
    (tmp_path / "pocket.img").rename(image)
    shop.pos.spend(500, shop.net.key("bank").public, shop.center)
    assert shop.pos.balance().verified_fen == shop.money() == 700
    shop.close()


def test_without_its_sam_a_till_deposits_what_has_a_deadline(tmp_path: Path) -> None:
    """A promised refund that cannot be signed holds up neither pending money nor the blacklist."""
    path = blank(tmp_path)
    image = Path(path.removeprefix("sim:"))
    shop = Shop(tmp_path, custody=f"sam:{path}")
    shop.pos.sync(shop.center)
    card = shop.card(money=(10000,))
    first = shop.pay(card, 1200)
    shop.pos.promise_refund(first.claim_id, 200)
    shop.pos.bill(50)
    image.rename(tmp_path / "pocket.img")
    second = first
    for _ in range(2):
        shop.now += 3 * 3600
        with pytest.raises(CryptoError, match="SAM"):
            shop.pos.sync(shop.center)
        assert shop.pos.payment(second.claim_id).state == PaymentState.VERIFIED
        assert shop.pos.blacklist.time == shop.now
        second = shop.pay(card, 300)
    assert [each.state for each in shop.pos.promises()] == [PromiseState.PROMISED]
    (tmp_path / "pocket.img").rename(image)
    shop.pos.sync(shop.center)
    assert [each.state for each in shop.pos.promises()] == [PromiseState.KEPT]
    assert shop.pos.open_requests() == () and shop.money() == 1200 + 2 * 300 - 200
    shop.close()


def test_who_opens_the_books_does_not_wait_for_a_signature(tmp_path: Path) -> None:
    shop = Shop(tmp_path, custody=f"sam:{blank(tmp_path)}")
    directory = shop.pos.directory
    with ThreadPoolExecutor(1) as other, sam._lock:  # a card that signs, by another thread
        other.submit(lambda: Pos(directory).close()).result(10)
    shop.close()


def _keyed(path: str, shop: Shop) -> None:
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        card.generate_key(o.SUITE_P256)


def _personalised(path: str, shop: Shop) -> None:
    make_card(Path(path.removeprefix("sim:")), shop.net, money=1000)


def _of_another_till(path: str, shop: Shop) -> None:
    Pos.init(
        shop.folder / "old", shop.net.trust, "http://center.test", custody=f"sam:{path}"
    ).close()


@pytest.mark.parametrize(
    ("was", "words"),
    [
        (_keyed, "payer's card and no SAM"),
        (_personalised, "payer's card and no SAM"),
        (_of_another_till, "not its books"),
    ],
)
def test_only_a_blank_card_becomes_a_sam(
    tmp_path: Path, was: Callable[[str, Shop], None], words: str
) -> None:
    shop = Shop(tmp_path)
    path = blank(tmp_path)
    was(path, shop)
    with open_path(path) as connection:
        before = Card(connection)
        before.select()
        info = before.info()
    with pytest.raises((CryptoError, PosError), match=words):
        Pos.init(tmp_path / "till", shop.net.trust, "http://center.test", custody=f"sam:{path}")
    with open_path(path) as connection:
        after = Card(connection)
        after.select()
        assert after.info() == info
    assert not (tmp_path / "till" / "pos.db").exists()
    shop.close()


@pytest.mark.parametrize(
    ("custody", "variables", "words"),
    [
        ("sam:", {}, "does not say where"),
        ("sam:till", {}, "does not say where"),
        ("sam:ring:x", {}, "no way to reach a card"),
        ("sam:sim:/no/card.img", {}, "There is no emulated card"),
        ("blank", {sam.PUK_VARIABLE: "1234"}, "PUK of a SAM has 8 digits"),
        ("blank", {sam.PUK_VARIABLE: ""}, "wants its PUK"),
        ("blank", {keys.PIN_VARIABLE: ""}, "wants its PIN"),
        ("contactless", {}, "in a secure channel only"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    custody: str,
    variables: dict[str, str],
    words: str,
) -> None:
    shop = Shop(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if custody in ("blank", "contactless"):
        option = "?contactless=1" if custody == "contactless" else ""
        custody = f"sam:{blank(tmp_path, options=option)}"
    with pytest.raises(CryptoError, match=words):
        Pos.init(tmp_path / "till", shop.net.trust, "http://center.test", custody=custody)
    assert not (tmp_path / "till" / "pos.db").exists()
    shop.close()


def test_a_sam_is_of_one_network(tmp_path: Path) -> None:
    """Cut off before it had its key, and then given to a till of another network."""
    shop = Shop(tmp_path)
    path = blank(tmp_path)
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        card.make_sam(o.make_header(b"NEXT", o.SUITE_P256), PIN, PUK)
    with pytest.raises(CryptoError, match="of another network"):
        Pos.init(tmp_path / "till", shop.net.trust, "http://center.test", custody=f"sam:{path}")
    shop.close()


def test_init_that_was_cut_off_goes_on_where_it_began(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    begun = 0
    for n in range(0, 60, 9):
        folder = tmp_path / f"till{n}"
        path = f"sam:{blank(tmp_path, f'sam{n}')}"
        try:
            with crash_at(n, after=True):
                Pos.init(folder, shop.net.trust, "http://center.test", custody=path).close()
        except Crash:
            begun += 1
            if not (folder / "pos.db").exists():
                Pos.init(folder, shop.net.trust, "http://center.test", custody=path).close()
            Pos(folder).close()
    assert begun > 3
    shop.close()


class _Faults:
    """The way to the SAM, at whose n-th opening the card has a fault."""

    def __init__(self, opening: int, fault: str) -> None:
        self.left = opening
        self.fault = fault
        self.struck = False

    def __call__(self, path: str, *, wait: float) -> Connection:
        self.left -= 1
        if self.left == -1:
            self.struck = True
            return open_path(f"{path}?{self.fault}", wait=wait)
        return open_path(path, wait=wait)


@pytest.mark.parametrize(
    "fault",
    [
        *(f"cut_write={n}" for n in (1, 2, 3)),
        "cut_write=2&half=1",
        "cut_before=1",
        "cut_after=3",
        "cut_after=4",
    ],
)
def test_power_that_is_cut_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """At each opening of the SAM, from the first of a blank card to a transfer's signature."""
    opening = 0
    while True:
        sam._books.clear()
        sam._pins.clear()
        folder = tmp_path / str(opening)
        folder.mkdir()
        faults = _Faults(opening, fault)
        monkeypatch.setattr(sam, "open_path", faults)
        shop = Shop(folder, custody=f"sam:{blank(folder)}")
        public = shop.pos.public
        shop.center.register_coin(shop.net.coin(1000, public))
        shop.pos.sync(shop.center)
        assert shop.pos.balance().verified_fen == 1000
        shop.pos.spend(400, shop.net.key("bank").public, shop.center)
        assert shop.pos.balance().verified_fen == shop.money() == 600
        sam._books.clear()
        shop.crash()
        assert shop.pos.public == public
        shop.close()
        if not faults.struck:
            break
        opening += 1
    assert opening >= 6


def test_many_books_of_a_process_use_one_sam_at_once(tmp_path: Path) -> None:
    shop = Shop(tmp_path, custody=f"sam:{blank(tmp_path)}")
    directory = shop.pos.directory
    public = shop.pos.public
    shop.pos.sync(shop.center)
    sam._books.clear()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                with Pos(directory, clock=lambda: shop.now) as pos:
                    nonce = pos.bill(100).request.nonce
                    void = pos.give_up(nonce)
                    assert void is not None and void.payee == pos.public == public
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert shop.pos.sync(shop.center).voids_sent == 20
    shop.close()


def test_a_lost_till_comes_back_with_its_sam(tmp_path: Path) -> None:
    path = f"sam:{blank(tmp_path)}"
    shop = Shop(tmp_path, custody=path)
    public = shop.pos.public
    mirror = tmp_path / "mirror"
    shop.pos.store.set_mirror(
        str(mirror),
        mirror_ca="",
        mirror_network=(tmp_path / "pos" / "network.ccn").read_bytes().hex(),
    )
    shop.pos.sync(shop.center)
    paid = shop.pay(shop.card(money=(10000,)), 1200)
    forget_all(shop)
    recover(str(mirror), tmp_path / "new", kept=None, custody=path)
    with Pos(tmp_path / "new", clock=lambda: shop.now) as pos:
        assert pos.public == public
        pos.sync(shop.center)
        assert pos.payment(paid.claim_id).state == PaymentState.VERIFIED
        pos.spend(1200, shop.net.key("bank").public, shop.center)
    shop.close()


_OPEN = "import sys; from chipcash.pos import Pos; print(Pos(sys.argv[1]).public.hex())"


def test_each_process_needs_the_pin(tmp_path: Path) -> None:
    shop = Shop(tmp_path, custody=f"sam:{blank(tmp_path)}")
    for pin, words in ((PIN, ""), ("111111", "Wrong PIN of the SAM"), ("", "wants its PIN")):
        done = subprocess.run(
            [sys.executable, "-c", _OPEN, shop.pos.directory],
            env={**os.environ, keys.PIN_VARIABLE: pin},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == (not words)
        assert words in done.stderr and (not pin or pin not in done.stderr)
    shop.close()


def test_a_card_that_pays_is_no_sam_and_a_sam_pays_nothing(tmp_path: Path) -> None:
    path = blank(tmp_path)
    shop = Shop(tmp_path, custody=f"sam:{path}")
    shop.pos.sync(shop.center)
    with open_path(path) as connection, pytest.raises(CardError):
        shop.pos.charge(connection, 100)
    shop.close()
