# SPDX-License-Identifier: Apache-2.0
"""Clients that are not ours read the emulated card through a real pcscd: OpenSC, pcsc-tools, Java."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from smartcard.ATR import ATR

from chipcash.transports import open_path, pcsc
from chipcash_sim import emulator
from chipcash_sim.card_process import ATR_CONTACT, ATR_CONTACTLESS
from chipcash_sim.pcscd import Session
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.builders import Network
from tests.cards import make_card

SELECT = c.command(c.INS_SELECT, 4, 0, c.AID)
UNKNOWN = c.command(c.INS_SELECT, 4, 0, b"\xa0\x00\x00\x00\x03")
TAP = Path(__file__).with_name("Tap.java")


class World:
    """A card with money in the first reader."""

    def __init__(self, session: Session, folder: Path, contactless: bool) -> None:
        self.net = Network()
        self.reader = session.readers[0]
        image = folder / "a.img"
        public = make_card(image, self.net)
        self.card = emulator.Card(image, "micropython", contactless=contactless)
        self.atr = ATR_CONTACTLESS if contactless else ATR_CONTACT
        self.card.insert(session.ports[0])
        self.info = o.ApplicationInfo(header=self.net.header, lifecycle=o.LIFE_PERSONALISED)
        with open_path(f"pcsc:{self.reader}", wait=10) as opened:
            opened.transceive(SELECT)
            title = self.net.title(public, amount=5000, hi=5000)
            opened.transceive(c.command(c.INS_PUT_DATA, data=title.encode()))


@pytest.fixture(params=[False, True], ids=["contact", "contactless"])
def world(request: pytest.FixtureRequest, session: Session, tmp_path: Path) -> Iterator[World]:
    made = World(session, tmp_path, request.param)
    yield made
    made.card.remove()
    deadline = time.monotonic() + 60
    while pcsc.occupied_readers():
        assert time.monotonic() < deadline, "pcscd does not see that the card is gone"
        time.sleep(0.05)


def run(*argv: str, typed: str = "") -> str:
    """A program's output, which must end well."""
    done = subprocess.run(
        argv, input=typed, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def spaced(data: bytes) -> str:
    return data.hex(" ").upper()


def test_the_atr_is_well_formed(world: World) -> None:
    """As pyscard's own parser has it (ISO/IEC 7816-3 section 8.2)."""
    atr = ATR(list(world.atr))
    assert atr.hasChecksum and atr.checksumOK
    assert atr.isT1Supported() and atr.getHistoricalBytes() == []


def test_opensc_tool(world: World) -> None:
    assert world.atr.hex(":") in run("opensc-tool", "-r", world.reader, "-a")
    told = run("opensc-tool", "-r", world.reader, "-s", UNKNOWN.hex(), "-s", SELECT.hex())
    assert re.findall(r"SW1=0x(..), SW2=0x(..)", told) == [("6A", "82"), ("90", "00")]
    assert spaced(world.info.encode()).split()[:8] == re.findall(
        r"\b[0-9A-F]{2}\b", told.rpartition("SW2=0x00)")[2]
    )[:8]  # fmt: skip


def test_scriptor(world: World) -> None:
    script = "".join(f"{spaced(apdu)}\n" for apdu in (UNKNOWN, SELECT, b"\x00\xee\x00\x00"))
    told = run("scriptor", "-r", world.reader, typed=script)
    flat = " ".join(told.split())
    assert "6A 82" in flat and "6D 00" in flat
    assert f"{spaced(world.info.encode())} 90 00" in flat


def test_pcsc_scan(world: World) -> None:
    told = run("pcsc_scan", "-n", "-c")
    assert world.reader in told and spaced(world.atr) in told


@pytest.mark.skipif(shutil.which("javac") is None, reason="no Java here: a JDK brings it")
def test_java(world: World) -> None:
    """The payment that Java's smart card classes get is the one that our client gets."""
    request = world.net.request(1200)
    pay = c.command(c.INS_PAY, data=request.encode(), cla=c.CLA_PROPRIETARY, le=65536)
    short = c.command(c.INS_PAY, data=request.encode(), cla=c.CLA_PROPRIETARY)
    apdus = [apdu.hex() for apdu in (UNKNOWN, SELECT, pay, short)]
    library = "-Dsun.security.smartcardio.library=/usr/lib/x86_64-linux-gnu/libpcsclite.so.1"
    head, unknown, select, paid, again = run(
        "java", library, str(TAP), world.reader, *apdus
    ).splitlines()  # fmt: skip
    assert head.split()[-1] == world.atr.hex()
    assert unknown == "6a82"
    assert select == world.info.encode().hex() + "9000"
    payment = o.Payment.decode(bytes.fromhex(paid)[:-2])
    assert payment.claim.amount == 1200
    # Java fetches by GET RESPONSE what a short APDU leaves.
    assert again == paid
