# SPDX-License-Identifier: Apache-2.0
"""`ble:` end to end: bleak's BlueZ backend, org.bluez on a private bus, ATT and SMP below, a card process."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bleak
import pytest
from bumble import hci
from bumble.att import ATT_Error, ErrorCode
from bumble.core import UUID
from bumble.core import TimeoutError as BumbleTimeoutError
from bumble.device import Connection, Device, Peer
from bumble.gatt_client import CharacteristicProxy

from chipcash.card import Card, PinError
from chipcash.errors import LinkLostError, NoCardError, NoReaderError, TransportError
from chipcash.genuine import verify_pin
from chipcash.transports import open_path
from chipcash.transports.times import changed
from chipcash_links import gatt
from chipcash_sim import emulator
from chipcash_sim.hardware.ble import Bluetooth
from chipcash_sim.hardware.bluez import BUS_VARIABLE, BlueZ
from chipcash_sim.plug import CardGone
from tests.builders import Network
from tests.cards import PIN, make_card

AMOUNT = 700
HASTY = {"ble_look_s": 0.5}
ECHO = b"\x00\x01\x00\x00\x00\x0f\xf0" + secrets.token_bytes(0x0FF0)  # MAX_APDU less 9 bytes


@pytest.fixture(params=[247])
def chip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bluetooth]:
    """A card's Bluetooth chip with this ATT_MTU, without a card, where this process finds it."""
    with Bluetooth(mtu=request.param) as made:
        monkeypatch.setenv(BUS_VARIABLE, made.bus)
        yield made


@pytest.fixture
def net() -> Network:
    return Network()


@pytest.fixture
def card(tmp_path: Path, net: Network) -> Iterator[emulator.Card]:
    """A personalised card with 10000 fen, plugged in nowhere."""
    image = tmp_path / "a.img"
    make_card(image, net, money=10_000)
    made = emulator.Card(image, "cpython")
    yield made
    made.remove()


@pytest.fixture
def echo(card: emulator.Card, chip: Bluetooth) -> Bluetooth:
    """The chip with a card that answers each command with itself."""
    card.echo = True
    card.plug_in(ble=chip.plug)
    return chip


class Phone:
    """Another central in the air, with no operating system that pairs by itself."""

    def __init__(self) -> None:
        self.bluez = BlueZ.join()
        self._device: Device = self.run(self.bluez.device("phone"))
        self.run(self._device.power_on())
        self.connection: Connection | None = None

    def run(self, work: Any) -> Any:
        return self.bluez.run(work)

    def connect(self, address: str) -> Connection:
        """Raises BumbleTimeoutError if nobody lets it."""
        self.connection = self.run(self._device.connect(hci.Address(address), timeout=0.5))
        return self.connection

    def disconnect(self) -> None:
        assert self.connection is not None
        self.run(self.connection.disconnect())

    def characteristics(self) -> dict[str, CharacteristicProxy[bytes]]:
        """Those of our service, by UUID."""
        peer = Peer(self.connection)
        (service,) = self.run(peer.discover_service(UUID(gatt.SERVICE)))
        found = self.run(service.discover_characteristics())
        return {str(each.uuid).lower(): each for each in found}

    def close(self) -> None:
        self.run(self.bluez.forget(self._device))
        self.bluez.leave()


@pytest.fixture
def phone(chip: Bluetooth) -> Iterator[Phone]:
    made = Phone()
    yield made
    made.close()


def test_by_name_by_address_and_any(echo: Bluetooth) -> None:
    for path, name in (
        (echo.path, echo.path),
        (f"ble:{echo.address}", f"ble:{echo.address}"),
        (f"ble:{echo.address.lower()}", f"ble:{echo.address.lower()}"),
        ("ble:", echo.path),
    ):
        with open_path(path, wait=5) as opened:
            assert opened.path == name and opened.over_air
            assert opened.transceive(b"\x00\x01\x02\x03") == b"\x00\x01\x02\x03\x90\x00"


def test_two_cards_near(
    card: emulator.Card, net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "b.img"
    make_card(image, net)
    other = emulator.Card(image, "cpython")
    with Bluetooth("one") as one, Bluetooth("two") as two:
        assert one.bus == two.bus
        monkeypatch.setenv(BUS_VARIABLE, one.bus)
        try:
            card.plug_in(ble=one.plug)
            other.plug_in(ble=two.plug)
            with open_path("ble:two", wait=5) as empty, open_path("ble:one", wait=5) as full:
                for opened in (empty, full):
                    Card(opened).select()
                with pytest.raises(PinError):  # nobody pressed a button, or gave a PIN
                    Card(full).pay(net.request(1))
                holder = Card(full)
                verify_pin(holder, PIN, net.trust)
                assert holder.pay(net.request(AMOUNT))
                assert Card(empty).info().spent == 0
            with pytest.raises(NoCardError, match="Several") as several:
                open_path("ble:", wait=5)
            assert "ble:one" in several.value.hint and "ble:two" in several.value.hint
        finally:
            other.remove()


@pytest.mark.parametrize("chip", [23, 247], indirect=True)
def test_long_commands_and_answers(echo: Bluetooth) -> None:
    with open_path(echo.path, wait=5) as opened:
        before = echo.plug.frames
        assert opened.transceive(ECHO) == ECHO + b"\x90\x00"
        mtu = 23 if echo.plug.frames - before > 100 else 247
        there, back = (
            len(gatt.fragments(gatt.MSG, x, mtu - 3)) for x in (ECHO, ECHO + b"\x90\x00")
        )
        assert echo.plug.frames - before == there + back
        assert opened.transceive(bytes(gatt.MAX_APDU + 1)) == b"\x67\x00"


@pytest.mark.parametrize("chip", [23], indirect=True)
@pytest.mark.parametrize("runtime", ["cpython", "micropython"])
def test_a_payment_in_the_smallest_fragments(
    card: emulator.Card, chip: Bluetooth, net: Network, runtime: str
) -> None:
    card.runtime = runtime
    card.plug_in(ble=chip.plug)
    with open_path(chip.path, wait=5) as opened:
        client = Card(opened)
        client.select()
        verify_pin(client, PIN, net.trust)
        request = net.request(AMOUNT)
        assert client.pay(request) == client.pay(request)
        assert client.info().spent == AMOUNT


def test_nothing_without_encryption(echo: Bluetooth, phone: Phone) -> None:
    """A central that has not paired is refused by ATT; one that has is served, and again with its bond."""
    link = phone.connect(echo.address)
    there = phone.characteristics()
    control, status = there[gatt.CONTROL_POINT], there[gatt.STATUS]
    arrived: list[bytes] = []
    some = threading.Event()

    def notified(value: bytes) -> None:
        arrived.append(value)
        some.set()

    for refused in (
        lambda: control.write_value(b"\x83\x00\x04abcd", True),
        lambda: there[gatt.CONTROL_POINT_LENGTH].read_value(),
        lambda: status.subscribe(notified),
    ):
        with pytest.raises(ATT_Error) as error:
            phone.run(refused())
        assert error.value.error_code == ErrorCode.INSUFFICIENT_ENCRYPTION
    phone.run(link.pair())
    assert link.is_encrypted and link.sc  # LE Secure Connections
    assert phone.run(there[gatt.CONTROL_POINT_LENGTH].read_value()) == b"\x00\x14"  # MTU 23
    phone.run(status.subscribe(notified))
    phone.run(control.write_value(b"\x05out of sequence", True))
    assert some.wait(60) and arrived == [b"\xbf\x00\x01\x04"]
    phone.disconnect()
    link = phone.connect(echo.address)
    phone.run(link.encrypt())
    phone.run(phone.characteristics()[gatt.CONTROL_POINT].write_value(b"\x83\x00\x04abcd", True))


def test_a_bond_that_the_card_has_forgotten(echo: Bluetooth) -> None:
    open_path(echo.path, wait=5).close()
    echo.forget_bonds()
    with pytest.raises(TransportError, match="cannot pair") as refused:
        open_path(echo.path, wait=5)
    assert "Remove the card in the system's Bluetooth settings" in refused.value.hint

    asyncio.run(bleak.BleakClient(echo.address).unpair())  # as those do
    with open_path(echo.path, wait=5) as opened:
        assert opened.transceive(b"\x00\x01\x02\x03") == b"\x00\x01\x02\x03\x90\x00"


def test_a_host_that_pairs_when_it_must(echo: Bluetooth) -> None:
    """One that does not ask for pairing: bluetoothd pairs when the card wants an encrypted link."""

    async def length() -> bytes:
        found = await bleak.BleakScanner.find_device_by_name(echo.name)
        assert found is not None
        async with bleak.BleakClient(found) as client:
            return bytes(await client.read_gatt_char(gatt.CONTROL_POINT_LENGTH))

    assert asyncio.run(length()) == (244).to_bytes(2, "big")


def test_one_central_at_a_time(echo: Bluetooth, phone: Phone) -> None:
    with open_path(echo.path, wait=5):
        with pytest.raises(BumbleTimeoutError):
            phone.connect(echo.address)
        with changed(**HASTY), pytest.raises(NoCardError, match="another program"):
            open_path(echo.path)
    phone.connect(echo.address)
    with changed(**HASTY), pytest.raises(NoCardError):
        open_path(echo.path)
    phone.disconnect()
    open_path(echo.path, wait=5).close()


@pytest.mark.parametrize(("at", "maybe"), [(1, False), (17, False), (18, True), (30, True)])
def test_the_link_lost_in_a_command(echo: Bluetooth, at: int, maybe: bool) -> None:
    """17 fragments there, 17 back. What is lost before the last one there is no command."""
    with open_path(echo.path, wait=5) as opened:
        first = echo.plug.frames
        assert len(gatt.fragments(gatt.MSG, ECHO, 244)) == 17

        def cut(frame: int) -> None:
            if frame == first + at:
                raise CardGone("out of reach")

        echo.plug.on_frame = cut
        with pytest.raises(LinkLostError) as lost:
            opened.transceive(ECHO)
        assert lost.value.maybe_executed or not maybe
        echo.plug.on_frame = None
        with pytest.raises(LinkLostError) as closed:
            opened.transceive(ECHO)
        assert not closed.value.maybe_executed
    with open_path(echo.path, wait=5) as opened:
        assert opened.transceive(ECHO) == ECHO + b"\x90\x00"


def test_the_card_is_taken_away(card: emulator.Card, chip: Bluetooth) -> None:
    card.plug_in(ble=chip.plug)
    with open_path(chip.path, wait=5) as opened:
        Card(opened).select()
        card.remove()
        with pytest.raises(LinkLostError):
            Card(opened).select()
    with changed(**HASTY), pytest.raises(NoCardError):
        open_path(chip.path)
    card.plug_in(ble=chip.plug)
    with open_path(chip.path, wait=5) as opened:
        Card(opened).select()


def test_work_longer_than_the_patience(tmp_path: Path, chip: Bluetooth, net: Network) -> None:
    public = make_card(tmp_path / "a.img", net)
    card = emulator.Card(tmp_path / "a.img", "cpython", pace=10000)
    card.plug_in(ble=chip.plug)
    with open_path(chip.path, wait=5) as opened:
        client = Card(opened)
        client.select()
        start = time.monotonic()
        with changed(ble_answer_s=1.5):
            client.put(net.title(public))  # signatures to verify, and none prepared
        assert time.monotonic() - start > 1.5
    card.remove()


def test_a_late_answer_is_nothing_for_the_next_connection(
    tmp_path: Path, chip: Bluetooth, net: Network
) -> None:
    public = make_card(tmp_path / "a.img", net)
    card = emulator.Card(tmp_path / "a.img", "cpython", pace=10000)
    card.plug_in(ble=chip.plug)
    opened = open_path(chip.path, wait=5)
    client = Card(opened)
    client.select()
    working = threading.Event()
    failed: list[Exception] = []
    title = net.title(public)
    sent = len(gatt.fragments(gatt.MSG, title.encode(), 244))
    last = chip.plug.frames + sent + 1  # the command, and a sign of life
    chip.plug.on_frame = lambda frame: working.set() if frame >= last else None

    def load() -> None:
        try:
            client.put(title)
        except LinkLostError as error:
            failed.append(error)

    loading = threading.Thread(target=load)
    loading.start()
    assert working.wait(60)
    opened.close()
    loading.join()
    assert len(failed) == 1
    with open_path(chip.path, wait=5) as opened:
        client = Card(opened)
        client.select()  # after the title is loaded, whose answer nobody gets
        verify_pin(client, PIN, net.trust)
        assert client.pay(net.request(AMOUNT))
    card.remove()


def test_the_bus_is_ours_alone(chip: Bluetooth) -> None:
    socket = Path(chip.bus.removeprefix("unix:path="))
    assert stat.S_ISSOCK(socket.stat().st_mode)
    assert stat.S_IMODE(os.stat(socket.parent).st_mode) == 0o700
    chip.close()
    assert not socket.parent.exists()


def test_no_bluetooth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(BUS_VARIABLE, f"unix:path={tmp_path}/bus")
    with pytest.raises(NoReaderError, match="no Bluetooth service"):
        open_path("ble:")
