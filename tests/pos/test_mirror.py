# SPDX-License-Identifier: Apache-2.0
"""A till's mirror: a lost disk loses nothing, whatever broke off before, and what was undone stays so."""

from __future__ import annotations

import json
import multiprocessing
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from chipcash.cli import root
from chipcash.database import DatabaseError
from chipcash.pos import AnswerLost, PaymentState, Pos, PosError
from chipcash.pos.mirror import Folder, MirrorError, MirrorTaken
from chipcash.pos.recovery import KeptKeys, recover, save_keys
from chipcash.pos.till import SaleState, Till
from chipcash.sandbox import Sandbox
from chipcash.transports import open_path
from chipcash_wire import commands as c
from tests.pos.mirroring import books, kept, log_of, lose_disk, mirrored, set_mirror
from tests.pos.shop import Crash, Shop, Torn, crash_on_disk_at
from tests.pos.test_till import ended


def test_a_lost_disk_loses_nothing(tmp_path: Path) -> None:
    shop = mirrored(tmp_path)
    away = kept(shop.pos)
    path, other = shop.card(money=(10000,)), shop.card("other", money=(3000,))
    shop.pay(path, 3680)
    shop.pos.sync(shop.center)
    shop.pos.open_shift()
    paid = shop.pay(path, 250)
    shop.pos.spend(1000, shop.net.key("bank").public, shop.center, reference="rent")
    shop.pos.refund(shop.pos.payments()[-1].nonce, 30, shop.center)
    with open_path(other) as connection, pytest.raises(AnswerLost):
        shop.pos.charge(Torn(connection), 777)
    shop.pos.bill(40)
    before = books(shop.pos)
    assert lose_disk(shop, away).cut_off == 0
    assert books(shop.pos) == before
    # And goes on: with the answer that was lost, with its mirror.
    shop.pay(other, 777)
    assert shop.pos.payment(paid.nonce).state == PaymentState.PENDING
    shop.pos.sync(shop.center)
    balance = shop.pos.balance()
    assert balance.verified_fen == shop.money() == 3680 - 1000 - 30 + 250 + 777
    before = books(shop.pos)
    lose_disk(shop, away)
    assert books(shop.pos) == before
    shop.close()


def test_who_has_to_be_let_in_again(tmp_path: Path) -> None:
    """Accounts are not in the mirror: recovering says so, and who had shifts."""
    shop = mirrored(tmp_path)
    for name in ("wang", "li", "wang"):
        shop.pos.operator = name
        shop.pos.open_shift()
        shop.pos.close_shift()
    save_keys(shop.pos.directory, "seven words that nobody knows", tmp_path / "keys")
    shop.crash()
    words = [
        "pos",
        "recover",
        str(tmp_path / "mirror"),
        str(tmp_path / "new"),
        "--original-is-lost",
    ]
    env = {"CHIPCASH_PASSPHRASE": "seven words that nobody knows"}
    done = CliRunner().invoke(root, [*words, "--keys", str(tmp_path / "keys")], env=env)
    assert done.exit_code == 0, done.output
    assert "staff add" in done.output and "had by li, wang." in done.output
    shop.close()


def test_a_mirror_shows_nothing(tmp_path: Path) -> None:
    shop = mirrored(tmp_path)
    paid = shop.pay(shop.card(), 1234)
    shop.crash()
    found = b"".join(file.read_bytes() for file in (tmp_path / "mirror").iterdir())
    for secret in (paid.data, paid.nonce, paid.claim_id, b"INSERT", b"PENDING", b"SQLite format"):
        assert secret not in found
    assert log_of(tmp_path / "mirror").stat().st_size > len(paid.data) // 2
    shop.close()


@pytest.mark.parametrize("each", [11, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("lost", [False, True], ids=["disk-there", "disk-lost"])
@pytest.mark.parametrize("begins", [False, True], ids=["appends", "begins"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_charge_cut_off_at_any_step_is_paid_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
    begins: bool,
    lost: bool,
    each: int,
) -> None:
    """At each statement and each step on the disk, of an append and of a new generation. The cashier asks
    `last` what happened, and charges again unless it says paid. Each step by `make test-long`, else some."""
    template = tmp_path / "template"
    template.mkdir()
    monkeypatch.chdir(template)
    shop = mirrored(template, "mirror")
    away = kept(shop.pos)
    shop.card(money=(700, 800))
    if begins:
        # The mirror is not where the books say: as after a crash between append and commit.
        log = log_of(template / "mirror")
        log.write_bytes(log.read_bytes() + b"torn")
    shop.close()
    crashes = 0
    for n in range(each * (after + 2 * begins + 4 * lost) // 8, 10**6, each):
        shutil.copytree(template, tmp_path / str(n))
        shop = Shop(tmp_path / str(n))
        path = f"sim:{shop.folder / 'card.img'}"
        monkeypatch.chdir(shop.folder)
        try:
            with crash_on_disk_at(n, after=after):
                shop.pay(path, 1200)
            done = True
        except Crash:
            done = False
            crashes += 1
        shop.crash()
        if lost:
            lose_disk(shop, away, "mirror")
        last = shop.pos.last()
        if last is None or not last.paid:
            shop.pay(path, 1200)
        before = books(shop.pos)
        lose_disk(shop, away, "mirror")
        assert books(shop.pos) == before
        assert shop.spent(path) == 1200
        (paid,) = shop.pos.payments()
        assert (paid.amount, paid.state) == (1200, PaymentState.PENDING)
        shop.pos.sync(shop.center)
        assert shop.pos.balance().verified_fen == shop.money() == 1200
        shop.close()
        shutil.rmtree(shop.folder)
        if done:
            break
    assert crashes * each > 40


def test_what_was_rolled_back_never_comes_back(tmp_path: Path) -> None:
    shop = mirrored(tmp_path)
    away = kept(shop.pos)
    store = shop.pos.store
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.set("note", "undone before it was written")
        1 / 0  # noqa: B018
    # In the mirror, and then not committed: a disk that is full at the worst moment.
    execute = store.execute

    def full(statement: str, *values: object) -> object:
        if statement == "COMMIT":
            raise DatabaseError("the disk is full")
        return execute(statement, *values)

    size = log_of(tmp_path / "mirror").stat().st_size
    store.execute = full  # type: ignore[assignment,method-assign]
    with pytest.raises(DatabaseError), store.transaction():
        store.set("note", "undone after it was written")
    del store.execute  # type: ignore[attr-defined]
    assert log_of(tmp_path / "mirror").stat().st_size == size
    before = books(shop.pos)
    lose_disk(shop, away)
    assert books(shop.pos) == before
    assert shop.pos.store.get("note") == ""
    shop.close()


_KILLED = """
import os, signal, sys
from chipcash.pos import Pos, mirror, store
from chipcash.transports import open_path

where, path, point = sys.argv[1:]
real = {"append": mirror.Folder.append, "begin": mirror.Folder.begin, "snapshot": store.snapshot}

def killed(name, before):
    def call(*values):
        if before:
            os.kill(os.getpid(), signal.SIGKILL)
        done = real[name](*values)
        os.kill(os.getpid(), signal.SIGKILL)
    return call

name, before = point.split("-")[1], point.startswith("before")
if name == "snapshot":
    store.snapshot = killed(name, before)
else:
    setattr(mirror.Folder, name, killed(name, before))
with Pos(where) as pos, open_path(path) as connection:
    pos.charge(connection, 1200)
"""


@pytest.mark.parametrize("lost", [False, True], ids=["disk-there", "disk-lost"])
@pytest.mark.parametrize(
    "point",
    [f"{when}-{what}" for what in ("append", "snapshot", "begin") for when in ("before", "after")],
)
def test_kill_9(tmp_path: Path, point: str, lost: bool) -> None:
    """A real process, really killed: in the transaction that stores the request."""
    shop = mirrored(tmp_path)
    away = kept(shop.pos)
    path = shop.card()
    if not point.endswith("append"):
        log = log_of(tmp_path / "mirror")
        log.write_bytes(log.read_bytes() + b"torn")
    before = books(shop.pos)
    shop.crash()
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, tmp_path / "pos", path, point], check=False
    )
    assert done.returncode == -signal.SIGKILL
    if lost:
        lose_disk(shop, away)
    # Nothing was told to anybody. What was appended may be there, if the mirror is all that is left.
    if not (lost and point == "after-append"):
        assert books(shop.pos) == before
    assert shop.spent(path) == 0
    shop.pay(path, 1200)
    before = books(shop.pos)
    lose_disk(shop, away)
    assert books(shop.pos) == before
    assert not list((tmp_path / "pos").glob(".*snapshot*"))
    shop.pos.sync(shop.center)
    assert shop.pos.balance().verified_fen == shop.money() == 1200
    shop.close()


def test_a_mirror_that_is_gone_stops_the_till_before_it_asks_a_card(tmp_path: Path) -> None:
    shop = mirrored(tmp_path)
    path = shop.card()
    (tmp_path / "mirror").rename(tmp_path / "unplugged")
    (tmp_path / "mirror").touch()  # a folder could be made there; a disk would not be
    before = books(shop.pos)
    with pytest.raises(MirrorError, match="no payment is taken without it") as caught:
        shop.pay(path, 500)
    assert "pos mirror off" in caught.value.hint
    assert books(shop.pos) == before
    assert shop.spent(path) == 0
    with pytest.raises(MirrorError):
        shop.pos.sync(shop.center)
    # Back again, it goes on where it was.
    (tmp_path / "mirror").unlink()
    (tmp_path / "unplugged").rename(tmp_path / "mirror")
    state = Folder(tmp_path / "mirror").state()
    shop.pay(path, 500)
    assert Folder(tmp_path / "mirror").state() == state
    # Or a manager goes on without it, knowingly.
    shutil.rmtree(tmp_path / "mirror")
    (tmp_path / "mirror").touch()
    shop.pos.store.set_mirror("")
    shop.pay(path, 300)
    shop.pos.sync(shop.center)
    assert shop.pos.balance().verified_fen == 800
    shop.close()


def test_a_mirror_that_goes_between_request_and_payment(tmp_path: Path) -> None:
    """The card has paid, and the till cannot keep it: it says so, and the card answers again."""
    shop = mirrored(tmp_path)
    path = shop.card()

    class Unplugged(Torn):
        def _transceive(self, apdu: bytes) -> bytes:
            if apdu[1] == c.INS_PAY:
                (tmp_path / "mirror").rename(tmp_path / "unplugged")
                (tmp_path / "mirror").touch()
            return self.inner.transceive(apdu)

    with open_path(path) as connection, pytest.raises(AnswerLost, match="cannot be written"):
        shop.pos.charge(Unplugged(connection), 500)
    assert shop.spent(path) == 500
    last = shop.pos.last()
    assert last is not None and last.paid is None
    (tmp_path / "mirror").unlink()
    (tmp_path / "unplugged").rename(tmp_path / "mirror")
    shop.pay(path, 500)
    assert shop.spent(path) == 500
    assert [payment.amount for payment in shop.pos.payments()] == [500]
    shop.close()


_FULL = """
import json, os, sys
from pathlib import Path
from chipcash.pos import AnswerLost, Pos
from chipcash.pos.mirror import Folder, MirrorError
from chipcash.transports import open_path

where, path, disk = sys.argv[1:]
found = {}
with Pos(where) as pos:
    pos.store.set_mirror(f"{disk}/mirror")
    def charge():
        with open_path(path) as connection:
            return pos.charge(connection, 100).amount
    charge()
    with open(f"{disk}/ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
    refused, paid = 0, 0
    for _ in range(9):  # there may be room for a little
        try:
            charge(); paid += 1
        except (MirrorError, AnswerLost) as error:  # before the card was asked, or after it has paid
            refused += 1; found["words"] = str(error)
    found.update(refused=refused, paid=paid, generation=Folder(Path(disk) / "mirror").state().generation)
    os.unlink(f"{disk}/ballast")
    charge()
    found["payments"] = len(pos.payments())
    found["same"] = Folder(Path(disk) / "mirror").state().generation
os.system(f"cp -r {disk}/mirror {where}/../copy")
print(json.dumps(found))
"""


def test_a_mirror_whose_disk_is_full(tmp_path: Path) -> None:
    """A real disk that is full, in a namespace of its own."""
    shop = mirrored(tmp_path)
    away = kept(shop.pos)
    path = shop.card(money=(5000,))
    shop.crash()
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o size=1m tmpfs "$3" && exec "$0" -c "$4" "$1" "$2" "$3"'
    done = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script),
            *(sys.executable, tmp_path / "pos", path, tmp_path / "disk", _FULL),
        ],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["refused"] >= 1
    assert "No space left on device" in found["words"]
    assert found["payments"] == 1 + found["paid"] + 1
    # A record that did not fit was taken back: no need to copy all the books.
    assert found["same"] == found["generation"] == 1
    before = books(shop.pos)
    lose_disk(shop, away, str(tmp_path / "copy"))
    assert books(shop.pos) == before
    assert shop.spent(path) == 100 * found["payments"]
    shop.close()


def test_a_long_log_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chipcash.pos.store.LOG_LIMIT", 1 << 16)
    shop = mirrored(tmp_path)
    away = kept(shop.pos)
    for n in range(12):
        with shop.pos.store.transaction():
            shop.pos.store.set(f"note {n % 3}", secrets.token_hex(1 << 16))
    state = Folder(tmp_path / "mirror").state()
    assert state is not None and 1 < state.generation < 6
    assert len(list((tmp_path / "mirror").glob("*.log"))) == 1
    before = books(shop.pos)
    lose_disk(shop, away)
    assert books(shop.pos) == before
    shop.close()


def _note(folder: Path, name: str) -> None:
    with Pos(folder) as pos:
        for n in range(15):
            with pos.store.transaction():
                pos.store.set(name, str(n))


def test_several_processes_write_one_mirror(tmp_path: Path) -> None:
    shop = mirrored(tmp_path)
    away = kept(shop.pos)
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_note, args=(tmp_path / "pos", name)) for name in "ab"]
    for other in others:
        other.start()
    for n in range(15):
        with shop.pos.store.transaction():
            shop.pos.store.set("c", str(n))
    for other in others:
        other.join()
        assert other.exitcode == 0
    state = Folder(tmp_path / "mirror").state()
    assert state is not None and state.generation == 1
    before = books(shop.pos)
    lose_disk(shop, away)
    assert books(shop.pos) == before
    assert [shop.pos.store.get(name) for name in "abc"] == ["14"] * 3
    shop.close()


def test_a_till_that_was_not_lost_after_all_is_stopped(tmp_path: Path) -> None:
    """Never two tills from one key."""
    shop = mirrored(tmp_path)
    path = shop.card()
    shop.pay(path, 400)
    new = tmp_path / "new"
    recover(str(tmp_path / "mirror"), new, kept=kept(shop.pos))
    with pytest.raises(MirrorTaken, match="not this till's mirror any more") as caught:
        shop.pay(path, 100)
    assert "never use this one again" in caught.value.hint
    with pytest.raises(MirrorTaken):
        shop.pos.sync(shop.center)
    assert shop.spent(path) == 400
    with pytest.raises(MirrorTaken):
        shop.pos.store.mirror_state()
    shop.crash()
    with Pos(new, clock=lambda: shop.now) as pos:
        pos.sync(shop.center)
        assert pos.balance().verified_fen == 400
        # A second recovery stops the first one in turn.
        recover(str(tmp_path / "mirror"), tmp_path / "newer", kept=kept(pos))
        with pytest.raises(MirrorTaken):
            pos.bill(100)
    shop.close()


def test_what_cannot_be_recovered(tmp_path: Path) -> None:
    shop = mirrored(tmp_path)
    away = kept(shop.pos)
    shop.pay(shop.card(), 400)
    where, new = str(tmp_path / "mirror"), tmp_path / "new"
    with pytest.raises(PosError, match="holds a POS already"):
        recover(where, tmp_path / "pos", kept=away)
    with pytest.raises(MirrorError, match="holds no mirror"):
        recover(str(tmp_path), new, kept=away)
    other = KeptKeys(away.key, bytes(32))
    with pytest.raises(MirrorError, match="does not fit this key"):
        recover(where, new, kept=other)
    log = log_of(tmp_path / "mirror")
    whole = log.read_bytes()
    for place in (5, len(whole) // 2, len(whole) - 1):
        log.write_bytes(whole[:place] + bytes((whole[place] ^ 1,)) + whole[place + 1 :])
        with pytest.raises(MirrorError, match="does not fit this key, or is damaged"):
            recover(where, new, kept=away)
    log.write_bytes(whole)
    snapshot = log.with_suffix(".snapshot")
    copy = snapshot.read_bytes()
    snapshot.write_bytes(copy[:5000] + bytes(10) + copy[5010:])
    with pytest.raises(MirrorError, match="does not fit this key, or is damaged"):
        recover(where, new, kept=away)
    snapshot.write_bytes(copy)
    # None of that has shut the till out.
    shop.pay(f"sim:{tmp_path / 'card.img'}", 100)
    # One that was turned off is older than the books.
    shop.pos.store.set_mirror("")
    shop.pay(f"sim:{tmp_path / 'card.img'}", 100)
    with pytest.raises(MirrorError, match="turned its mirror"):
        recover(where, new, kept=away)
    # Turned on again it is whole again.
    set_mirror(shop)
    before = books(shop.pos)
    lose_disk(shop, away)
    assert books(shop.pos) == before
    shop.close()


def test_a_last_record_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    shop = mirrored(tmp_path)
    away = kept(shop.pos)
    before = books(shop.pos)
    size = log_of(tmp_path / "mirror").stat().st_size
    shop.pos.bill(100)
    shop.crash()
    log = log_of(tmp_path / "mirror")
    whole = log.read_bytes()
    log.write_bytes(whole[:-1])
    assert lose_disk(shop, away).cut_off == len(whole) - 1 - size
    assert books(shop.pos) == before
    shop.close()


def test_two_tills_cannot_have_one_mirror(tmp_path: Path) -> None:
    shop = mirrored(tmp_path)
    (tmp_path / "b").mkdir()
    other = Shop(tmp_path / "b")
    with pytest.raises(MirrorTaken):
        set_mirror(other, str(tmp_path / "mirror"))
    assert other.pos.store.mirror == ""
    shop.pos.bill(100)
    other.close()
    shop.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_recovery_that_was_cut_off_is_repeated(tmp_path: Path, after: bool) -> None:
    template = tmp_path / "template"
    template.mkdir()
    shop = mirrored(template)
    away = kept(shop.pos)
    shop.pay(shop.card(), 400)
    before = books(shop.pos)
    shop.close()
    for n in range(after * 3, 10**6, 7):
        folder = tmp_path / str(n)
        shutil.copytree(template / "mirror", folder / "mirror")
        try:
            with crash_on_disk_at(n, after=after):
                recover(str(folder / "mirror"), folder / "pos", kept=away)
            done = True
        except Crash:
            done = False
            if not (folder / "pos" / "pos.db").exists():
                recover(str(folder / "mirror"), folder / "pos", kept=away)
        with Pos(folder / "pos") as pos:
            assert books(pos) == before
            pos.bill(1)
        shutil.rmtree(folder)
        if done:
            assert n > 50
            return


def test_a_till_that_runs_says_why_it_takes_nothing(tmp_path: Path) -> None:
    """And goes on by itself when its mirror is back."""
    image, where = tmp_path / "a.img", tmp_path / "mirror"
    with Sandbox(tmp_path / "net") as net:
        with net.till("till") as pos:
            folder = pos.directory
            network = (folder / "network.ccn").read_bytes().hex()
            pos.store.set_mirror(str(where), mirror_network=network)
        net.new_card(image, 10_000)
        with Till(folder, [f"sim:{image}"]) as till:
            where.rename(tmp_path / "unplugged")
            where.touch()
            sale = till.begin(500)
            refused = ended(till, sale, SaleState.REFUSED)
            assert "no payment is taken without it" in refused.message
            assert "pos mirror off" in refused.hint
            where.unlink()
            (tmp_path / "unplugged").rename(where)
            assert ended(till, till.begin(500), SaleState.PAID).payment is not None
            with till.pos() as pos:
                before, away = books(pos), kept(pos)
        recover(str(where), tmp_path / "new", kept=away)
        with Pos(tmp_path / "new") as pos:
            assert books(pos) == before
            assert [payment.amount for payment in pos.payments()] == [500]
