# SPDX-License-Identifier: Apache-2.0
"""Cards that earlier versions left, upgraded: what they hold, and power cuts while they are.

stored/SUITE-COMMIT.img.gz is the flash of an emulated card by the code of that commit, in the network of the
vectors (tests.vectors.signing): key and PIN as there, three titles, three payments in the log (one of them
spent a whole title), one payment received and pending. f9cc65b wrote no format number."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from chipcash.card import Card as CardClient
from chipcash.terminal import Blacklist, Policy, verify_payment
from chipcash.transports import open_path
from chipcash.trust import Trust
from chipcash_card.applet import ROLLBACK, Applet, Firmware
from chipcash_card.journal import Journal, NewerFirmware
from chipcash_card.purse import FORMAT, KEY_STATE, KEY_VERSION, State
from chipcash_sim import runtime
from chipcash_sim.image import MemoryFlash, PowerCut
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.vectors.signing import T0, Network

STORED = sorted((Path(__file__).parent / "stored").glob("*.img.gz"))
VECTORS = Path(__file__).parents[2] / "protocols" / "vectors"
PAID = [
    (1_200, "payment 1", T0 + 100),
    (300, "payment 2", T0 + 110),
    (9_000, "payment 3", T0 + 120),
]
BALANCE = 19_800
VERSION = bytes((FORMAT,)) + ROLLBACK.to_bytes(4, "big")

stored = pytest.mark.parametrize("file", STORED, ids=lambda file: file.name[:-7])


def network(file: Path) -> Network:
    return Network(file.name.split("-")[0])


class Session:
    """A card that is there: its commands."""

    def __init__(self, flash: MemoryFlash) -> None:
        self._session = Applet(flash, os.urandom).session()
        self.ok(c.INS_SELECT, 4, 0, c.AID)

    def ok(
        self, ins: int, p1: int = 0, p2: int = 0, data: bytes = b"", cla: int = c.CLA_ISO
    ) -> bytes:
        reply = self._session.process(c.command(ins, p1, p2, data, cla, 65536))
        assert reply[-2:] == b"\x90\x00", (hex(ins), reply[-2:].hex())
        return reply[:-2]

    def pay(self, request: o.PayRequest) -> bytes:
        return self.ok(c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY)


def check(net: Network, session: Session, name: str) -> None:
    """All that was on the card is there, and it pays."""
    info = o.CardInfo.decode(session.ok(c.INS_GET_DATA, c.DATA_INFO))
    assert (info.subject, info.counter, info.pin_tries) == (net.public("card"), 3, 3)
    session.ok(c.INS_VERIFY, 0, c.PIN_REFERENCE, b"123456")
    info = o.CardInfo.decode(session.ok(c.INS_GET_DATA, c.DATA_INFO))
    assert (info.balance, info.pending, info.spent) == (BALANCE, 500, sum(x[0] for x in PAID))
    log = [session.ok(c.INS_GET_DATA, c.DATA_PAYMENT, n) for n in range(3)]
    for (amount, paid, time), payment in zip(PAID, reversed(log), strict=True):
        # Asked again, it answers what it answered then.
        assert session.pay(net.request(amount, paid, time=time)) == payment
    request = net.request(2_000, name, time=T0 + 300)
    accepted(net, request, session.pay(request), log)


def accepted(net: Network, request: o.PayRequest, payment: bytes, earlier: list[bytes]) -> None:
    """Whether a terminal takes it; earlier: payments none of whose fen it may spend again."""
    trust = Trust.load(VECTORS / f"network-{net.suite.name}.ccn")
    blacklist = Blacklist().extend([], net.signed_time(T0), trust)
    verify_payment(
        payment, request, trust=trust, policy=Policy(), blacklist=blacklist, now=T0 + 300
    )
    spent = [item for each in earlier for item in o.Payment.decode(each).claim.inputs]
    for item in o.Payment.decode(payment).claim.inputs:
        for other in spent:
            assert item.title_id != other.title_id or item.lo >= other.hi or item.hi <= other.lo


@stored
@pytest.mark.parametrize("full", [False, True], ids=["", "bank full"])
def test_it_pays_after_the_upgrade_wherever_that_was_cut(file: Path, full: bool) -> None:
    """full: as after many power ons, so that the upgrade has to move to the other bank."""
    net = network(file)
    old = gzip.decompress(file.read_bytes())
    journal = Journal(MemoryFlash(content := bytearray(old)))
    while full and journal.free > 60:
        journal.commit({KEY_STATE: journal.get(KEY_STATE)})
    old = bytes(content)
    assert Journal(MemoryFlash(bytearray(old))).get(KEY_VERSION) is None
    flash = MemoryFlash(bytearray(old))
    Applet(flash, os.urandom)
    writes = flash.writes
    assert (writes > 20) == full and Journal(flash).get(KEY_VERSION) == VERSION
    boots = State(Journal(MemoryFlash(bytearray(old))).get(KEY_STATE)).boots
    for cut in range(writes):
        for half in (False, True):
            content = bytearray(old)
            with pytest.raises(PowerCut):
                Applet(MemoryFlash(content, cut, half), os.urandom)
            journal = Journal(MemoryFlash(bytearray(content)))
            # All of the step, or nothing of it: the number stands for everything.
            upgraded = journal.get(KEY_VERSION) == VERSION
            assert upgraded or journal.get(KEY_VERSION) is None
            assert State(journal.get(KEY_STATE)).boots == boots + upgraded
            check(net, Session(MemoryFlash(content)), f"cut {cut} {half}")
            after = Journal(MemoryFlash(bytearray(content)))
            assert after.get(KEY_VERSION) == VERSION
            assert State(after.get(KEY_STATE)).boots == boots + upgraded + 1


@stored
def test_it_pays_on_micropython(file: Path, tmp_path: Path) -> None:
    try:
        runtime.find("micropython")
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    net = network(file)
    image = tmp_path / "card.img"
    image.write_bytes(gzip.decompress(file.read_bytes()))
    request = net.request(2_000, "micropython", time=T0 + 300)
    with open_path(f"sim:{image}?runtime=micropython") as connection:
        card = CardClient(connection)
        card.select()
        assert card.info().build.decode() == f"{runtime.build()} micropython"
        payment = card.pay(request)
        card.verify_pin("123456")
        log = [each.encode() for each in card.payments()]
        assert len(log) == 4 and len(list(card.received())) == 1
        assert card.info().balance == BALANCE - 2_000
    accepted(net, request, payment, log[1:])
    for (amount, name, time), earlier in zip(PAID, reversed(log), strict=False):
        accepted(net, net.request(amount, name, time=time), earlier, [])


@stored
def test_it_does_not_go_back(file: Path) -> None:
    """Upgraded, and then with a format or a counter that this firmware does not have."""
    content = bytearray(gzip.decompress(file.read_bytes()))
    Applet(MemoryFlash(content), os.urandom, firmware=Firmware(b"x", 9))
    before = bytes(content)
    with pytest.raises(NewerFirmware, match="rollback counter 9"):
        Applet(MemoryFlash(content), os.urandom, firmware=Firmware(b"x", 8))
    assert content == before
    Journal(MemoryFlash(content)).commit({KEY_VERSION: bytes((FORMAT + 1, 0, 0, 0, 0, 7))})
    before = bytes(content)
    with pytest.raises(NewerFirmware, match=f"format is {FORMAT + 1}"):
        Applet(MemoryFlash(content), os.urandom, firmware=Firmware(b"x", 9))
    assert content == before
