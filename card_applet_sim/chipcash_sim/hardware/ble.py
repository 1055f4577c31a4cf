# SPDX-License-Identifier: Apache-2.0
"""A card's Bluetooth chip: it advertises, lets one central connect, pairs, and serves the GATT service of
chipcash_links.gatt, whose values pass to and from the card's link `ble`."""

import os
import select
import socket

from bumble.att import Attribute
from bumble.core import UUID, AdvertisingData
from bumble.device import Connection, Device
from bumble.gatt import (
    GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR,
    Characteristic,
    CharacteristicValue,
    Descriptor,
    Service,
)
from bumble.pairing import PairingConfig, PairingDelegate

from chipcash_links import gatt
from chipcash_sim.hardware import Hardware
from chipcash_sim.hardware.bluez import BlueZ, disconnect
from chipcash_sim.plug import CardGone, Plug

_TICK_S = 0.02  # how soon a card that was plugged in, or close(), is noticed
_LONGEST_NAME = 8  # what 31 bytes of an advertisement have left beside flags and service
_INTERVAL_MS = 20.0
_MTU = 23  # of a connection where none was agreed on
_PACKET = 1024  # above any


class Bluetooth(Hardware):
    """The chip, in the air of the emulated computer with which the host's programs find it.

    name: what it advertises, at most 8 bytes; if not given, another one each time. mtu: the largest ATT_MTU
    that it agrees to. path: for the host. bus: value of bluez.BUS_VARIABLE for programs that are to find
    it. address: its Bluetooth address. It remembers bonds until close(), whatever card is plugged in."""

    def __init__(self, name: str = "", mtu: int = 247) -> None:
        self.name = name or f"card{os.urandom(2).hex()}"
        if len(self.name.encode()) > _LONGEST_NAME:
            raise ValueError(f"the name “{name}” has more than {_LONGEST_NAME} bytes")
        self.path = f"ble:{self.name}"
        self._mtu = mtu
        self._number = 0  # of the connection, in packets
        self._connection: Connection | None = None
        self._bluez = BlueZ.join()
        # What the event loop has for the card, a datagram a packet.
        self._inbox, self._events = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.bus = self._bluez.address
        try:
            self._bluez.run(self._power_on())
        except BaseException:
            self._bluez.leave()
            raise
        self.address = self._device.random_address.to_string(False)
        super().__init__(Plug(), self.name)

    async def _power_on(self) -> None:
        device = self._device = await self._bluez.device(self.name)
        device.pairing_config_factory = lambda connection: PairingConfig(
            sc=True, mitm=False, bonding=True, delegate=PairingDelegate()
        )
        properties, permissions = Characteristic.Properties, Attribute.Permissions
        encrypted = permissions.WRITEABLE | permissions.WRITE_REQUIRES_ENCRYPTION
        self._status = Characteristic(gatt.STATUS, properties.NOTIFY, permissions(0), b"")
        subscription = device.gatt_server.make_descriptor_value(self._status)
        self._status.descriptors = (
            Descriptor(
                GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR,
                permissions.READABLE | encrypted,
                subscription,
            ),
        )
        control_point = Characteristic(
            gatt.CONTROL_POINT,
            properties.WRITE,
            encrypted,
            CharacteristicValue(write=lambda _, value: self._tell(gatt.VALUE, bytes(value))),
        )
        length: Characteristic[bytes] = Characteristic(
            gatt.CONTROL_POINT_LENGTH,
            properties.READ,
            permissions.READABLE | permissions.READ_REQUIRES_ENCRYPTION,
            CharacteristicValue(
                read=lambda connection: gatt.fragment_size(connection.att_mtu).to_bytes(2, "big")
            ),
        )
        device.add_service(Service(gatt.SERVICE, [control_point, self._status, length]))
        device.gatt_server.max_mtu = self._mtu
        device.on(Device.EVENT_CONNECTION, self._connected)
        kinds = AdvertisingData.Type
        service = bytes(UUID(gatt.SERVICE))
        device.advertising_data = bytes(
            AdvertisingData(
                [
                    (kinds.FLAGS, b"\x06"),  # general discoverable, no BR/EDR
                    (kinds.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, service),
                    (kinds.COMPLETE_LOCAL_NAME, self.name.encode()),
                ]
            )
        )
        await device.power_on()

    def _connected(self, connection: Connection) -> None:
        self._connection = connection
        self._number = self._number + 1 & 0xFF
        self._tell(gatt.MTU, _MTU.to_bytes(2, "big"))
        connection.on(
            Connection.EVENT_CONNECTION_ATT_MTU_UPDATE,
            lambda: self._tell(gatt.MTU, connection.att_mtu.to_bytes(2, "big")),
        )
        connection.once(Connection.EVENT_DISCONNECTION, lambda _: self._disconnected())

    def _disconnected(self) -> None:
        self._connection = None
        self._events.send(b"")

    def _tell(self, kind: int, data: bytes) -> None:
        self._events.send(bytes((self._number, kind)) + data)

    def forget_bonds(self) -> None:
        """As when the card is reset: whoever had paired has to pair anew, and to forget his own key first."""
        self._bluez.run(self._forget_bonds())

    async def _forget_bonds(self) -> None:
        if self._device.keystore is not None:
            await self._device.keystore.delete_all()

    def _serve(self) -> None:
        here = False
        while not self._closing.is_set():
            try:
                if self.plug.plugged and not here:
                    here = True
                    self._bluez.run(self._appear())
                ends = (self._inbox, self.plug) if self.plug.plugged else (self._inbox,)
                select.select(ends, [], [], _TICK_S)
                if select.select([self._inbox], [], [], 0)[0]:
                    packet = self._inbox.recv(_PACKET)
                    if here:
                        self.plug.send(packet)
                # Asked again: the card may have been changed meanwhile, and the new one may be silent.
                if self.plug.plugged and select.select([self.plug], [], [], 0)[0]:
                    self._bluez.run(self._notify(self.plug.receive()))
            except (CardGone, OSError, ValueError):
                # The card left, perhaps between two of these steps (a socket that is closed).
                here = False
                self._bluez.run(self._vanish())
                while select.select([self._inbox], [], [], 0)[0]:
                    self._inbox.recv(_PACKET)  # nothing for the next card

    async def _appear(self) -> None:
        await self._device.start_advertising(
            auto_restart=True,
            advertising_interval_min=_INTERVAL_MS,
            advertising_interval_max=_INTERVAL_MS,
        )

    async def _vanish(self) -> None:
        """Without the card there is no power: nothing is advertised, the link is lost."""
        await self._device.stop_advertising()
        if self._connection is not None:
            await disconnect(self._connection)

    async def _notify(self, packet: bytes) -> None:
        if self._connection is not None and packet[0] == self._number:
            await self._device.notify_subscriber(self._connection, self._status, packet[1:])
            await self._bluez.settle()  # the next when this one has passed

    def _release(self) -> None:
        self._bluez.run(self._power_off())
        self._bluez.leave()
        self._inbox.close()
        self._events.close()

    async def _power_off(self) -> None:
        await self._vanish()
        await self._bluez.forget(self._device)
