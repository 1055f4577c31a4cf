# SPDX-License-Identifier: Apache-2.0
"""The center's log beside its ledger: nothing is left out, and neither can say what the other does not."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import pytest

from chipcash.center.errors import LedgerError
from chipcash.center.publishing import LogWriter, compare
from chipcash.log.errors import AuditFailed, LogInvalid
from chipcash.log.note import SIGNATURE, SigningKey
from chipcash.log.reader import Folder, LogReader
from chipcash.log.store import Log
from tests.center.world import World

KEY = SigningKey("chipcash/test", SIGNATURE, bytes(32))


def new_log(folder: Path) -> Log:
    return Log.create(folder / "public", folder / "entries", KEY)


def old_log(folder: Path) -> Log:
    return Log(folder / "public", folder / "entries", KEY)


def reader(folder: Path) -> LogReader:
    return LogReader(KEY.key, Folder(folder / "public"), Folder(folder / "entries"))


def test_what_is_settled_while_the_log_is_written_is_in_it(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db")
    titles = [world.issue(100, "alice") for _ in range(60)]
    claims = [world.claim("alice", "shop", [(title, 0, 30)]) for title in titles]
    claims += [world.claim("alice", "kiosk", [(title, 20, 40)]) for title in titles[::10]]

    def settle(start: int) -> None:
        for claim in claims[start::2]:
            world.settle(claim)

    with LogWriter(world.center, new_log(tmp_path), interval=0.001):
        threads = [threading.Thread(target=settle, args=(start,)) for start in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    totals = compare(world.center, reader(tmp_path))
    assert (totals.coins, totals.claims, totals.evidence) == (60, 66, 6)
    assert totals.live_fen == world.center.accounts()["live_fen"] == 6000
    # The next one goes on where this one ended.
    world.settle(
        world.claim("shop", "issuer", [(world.center.titles(world.public("shop"))[0], 0, 5)])
    )
    later = compare(world.center, reader(tmp_path))
    assert later == totals, "a log that is behind is no contradiction"
    void = world.void("shop", world.claim("alice", "shop", [(titles[0], 90, 91)]))
    for _ in range(2):
        world.center.register_void(void)
    with LogWriter(world.center, old_log(tmp_path)):
        pass
    after = compare(world.center, reader(tmp_path))
    assert (after.redeemed_fen, after.voids) == (5, 1)
    # What was registered already is no fact: the log is not behind.
    with old_log(tmp_path) as log:
        assert log.fact == world.center.facts()
    world.center.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE slices SET lo = 1, hi = 41 WHERE lo = 0",
        "DELETE FROM slices WHERE lo = 40",
        "UPDATE slices SET title_id = (SELECT title_id FROM titles WHERE epoch = 1) WHERE lo = 0",
        "UPDATE slices SET title_id = NULL WHERE lo = 0",
        "UPDATE titles SET owner = (SELECT owner FROM coins) WHERE epoch = 2",
        "UPDATE coins SET epoch = 7",
        "UPDATE coins SET amount = amount + 1",
    ],
)
def test_a_ledger_that_was_changed_by_hand_is_found(tmp_path: Path, damage: str) -> None:
    world = World()
    title = world.issue(100, "alice")
    world.settle(world.claim("alice", "shop", [(title, 0, 40)]))
    LogWriter(world.center, new_log(tmp_path)).publish()
    assert compare(world.center, reader(tmp_path)).claims == 1
    world.center.storage.execute(damage)
    with pytest.raises(LedgerError, match=title.serial.hex()):
        compare(world.center, reader(tmp_path))


def test_a_payment_that_only_the_ledger_knows(tmp_path: Path) -> None:
    """Somebody with the database takes a payment out of the log's past: the number of facts tells."""
    world = World()
    title = world.issue(100, "alice")
    world.settle(world.claim("alice", "shop", [(title, 0, 40)]))
    LogWriter(world.center, new_log(tmp_path)).publish()
    for table in ("claims", "spends"):
        world.center.storage.execute(f"DELETE FROM {table}")
    with pytest.raises(LedgerError, match="fewer facts"):
        compare(world.center, reader(tmp_path))


def test_an_old_backup_of_the_ledger_does_not_rewrite_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path / "ledger.db")
    title = world.issue(100, "alice")
    world.center.close()
    shutil.copy(tmp_path / "ledger.db", tmp_path / "backup.db")
    world = World(tmp_path / "ledger.db")
    world.settle(world.claim("alice", "shop", [(title, 0, 40)]))
    with LogWriter(world.center, new_log(tmp_path)):
        pass
    world.center.close()
    before = (tmp_path / "public" / "checkpoint").read_bytes()
    old = World(tmp_path / "backup.db")
    with caplog.at_level(logging.ERROR), LogWriter(old.center, old_log(tmp_path), interval=0.01):
        # Also once it has as many facts again, but others.
        old.settle(old.claim("alice", "kiosk", [(title, 0, 50)]))
    assert (tmp_path / "public" / "checkpoint").read_bytes() == before
    assert "is not what the log holds" in caplog.text
    with pytest.raises((LedgerError, AuditFailed)):
        compare(old.center, reader(tmp_path))
    old.center.close()


def test_a_log_that_was_changed_is_no_log(tmp_path: Path) -> None:
    world = World()
    world.issue(100, "alice")
    LogWriter(world.center, new_log(tmp_path)).publish()
    (bundle,) = (tmp_path / "entries").rglob("*.p/*")
    data = bundle.read_bytes()
    bundle.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(LogInvalid):
        compare(world.center, reader(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        "x'00'",
        "x''",
        "substr(bytes, 1, 100)",
        "CAST(bytes || x'00' AS BLOB)",
        "CAST(substr(bytes, 1, 3) || x'8f' || substr(bytes, 5) AS BLOB)",  # the tag of a field
        "(SELECT bytes FROM titles)",
    ],
)
def test_a_damaged_row_is_not_made_part_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """What is in the log can never be taken back."""
    world = World()
    title = world.issue(100, "alice")
    with new_log(tmp_path) as log:
        writer = LogWriter(world.center, log)
        writer.publish()
        world.settle(world.claim("alice", "shop", [(title, 0, 40)]))
        (whole,) = world.center.storage.row("SELECT bytes FROM claims")
        world.center.storage.execute(f"UPDATE claims SET bytes = {damage}")
        before = log.size
        with caplog.at_level(logging.ERROR):
            writer.publish()
        assert "fact 3 is damaged" in caplog.text and log.size == before
        world.center.storage.execute("UPDATE claims SET bytes = ?", whole)
        writer.publish()
        assert log.size == world.center.facts() > before
    assert compare(world.center, reader(tmp_path)).claims == 1
