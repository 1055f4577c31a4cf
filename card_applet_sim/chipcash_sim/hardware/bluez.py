# SPDX-License-Identifier: Apache-2.0
"""A computer with a Bluetooth adapter, as bleak meets it on Linux: org.bluez on a system bus of its own.

Real: the D-Bus daemon and its messages, and below org.bluez a stack (bumble) with HCI, L2CAP, ATT, GATT and
SMP: LE Secure Connections with its ECDH, keys that both ends keep, and encryption that fails where they
differ. Played: bluetoothd (as much of org.bluez as bleak uses) and the radio, whose packets are handed over
in this process, in clear.

bleak finds the bus by BUS_VARIABLE in its environment, when it first connects to it."""

import asyncio
import errno
import logging
import os
import subprocess
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar
from uuid import UUID

from bumble import att, core, gatt_server, hci, smp
from bumble.controller import Controller
from bumble.device import Advertisement, Connection, Device, Peer
from bumble.gatt import Characteristic
from bumble.gatt_client import CharacteristicProxy
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink
from dbus_fast import DBusError, Message, PropertyAccess
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import (
    DBusBool,
    DBusBytes,
    DBusDict,
    DBusInt16,
    DBusObjectPath,
    DBusSignature,
    DBusStr,
    DBusUInt16,
)
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

BUS_VARIABLE = "DBUS_SYSTEM_BUS_ADDRESS"
"""Where programs look for the address of the system bus."""

_T = TypeVar("_T")
_PATIENCE_S = 20.0
# Many times what it takes. One that hung was seen once, and a program that waits tries again.
_CONNECT_S = 1.5
_MTU = 517  # what bluetoothd asks for
_ADAPTER = "/org/bluez/hci0"
_FAILED = "org.bluez.Error.Failed"
_UNENCRYPTED = (
    att.ErrorCode.INSUFFICIENT_AUTHENTICATION,
    att.ErrorCode.INSUFFICIENT_ENCRYPTION,
)
_OWN_SERVICES = ("1800", "1801")  # bluetoothd shows neither GAP nor GATT
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/>
  </policy>
</busconfig>
"""

# The daemon ends when our end of the pipe does, however this process ends.
_DAEMON = """dbus-daemon --config-file="$1" --nofork --print-address &
exec >&-
read -r _
kill $!
wait"""

# They call logging.debug() and logging.warning(), which would set up the whole program's logging.
for _module in (gatt_server, smp):
    vars(_module)["logging"] = logging.getLogger(_module.__name__)

_Strings = Annotated[list[str], DBusSignature("as")]


class BlueZ:
    """The bus, bluetoothd, its adapter, and the air around it: one for all cards of this process.

    Get it by join(), and leave() it. address: of the bus, for BUS_VARIABLE. air: where the other devices
    are too. All of bumble is to be called in its event loop, by run()."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _shared: ClassVar["BlueZ | None"] = None
    _users: ClassVar[int] = 0

    @classmethod
    def join(cls) -> "BlueZ":
        """The one of this process, started if there is none. Raises OSError (no dbus-daemon)."""
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            cls._users += 1
            return cls._shared

    def leave(self) -> None:
        """Nobody is left here once all have left."""
        with self._lock:
            BlueZ._users -= 1
            if BlueZ._users == 0:
                BlueZ._shared = None
                self._close()

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="chipcash-bus-")  # its mode is 0700
        self.address = f"unix:path={self._folder.name}/bus"
        config = Path(self._folder.name, "bus.conf")
        config.write_text(_BUS.format(address=self.address))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bluez", daemon=True)
        try:
            self._daemon = subprocess.Popen(
                ["sh", "-c", _DAEMON, "sh", str(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not for it
            )
        except OSError:
            self._loop.close()
            self._folder.cleanup()
            raise
        self._thread.start()
        try:
            assert self._daemon.stdout is not None
            if not self._daemon.stdout.readline():  # its address, once it listens
                raise FileNotFoundError(
                    errno.ENOENT, "cannot be run (install the package dbus-daemon)", "dbus-daemon"
                )
            self.run(self._start())
        except BaseException:
            self._close()
            raise

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something in the event loop, and wait for it. Raises what it raises, TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_PATIENCE_S)
        except CancelledError:
            raise TimeoutError("cancelled") from None
        finally:
            future.cancel()

    async def device(self, name: str) -> Device:
        """Another device in the air, with a random address; its services are to be added, then power_on()."""
        number = bytes((os.urandom(1)[0] | 0xC0,)) + os.urandom(5)
        controller = _Controller(name, link=self.air)
        device = Device(
            name=name,
            address=hci.Address(":".join(f"{byte:02X}" for byte in number)),
            host=Host(controller, AsyncPipeSink(controller)),
        )
        self._controllers[device] = controller
        return device

    async def forget(self, device: Device) -> None:
        """A device leaves the air, and its connections are lost."""
        for connection in list(device.connections.values()):
            await disconnect(connection)
        await device.power_off()
        self.air.remove_controller(self._controllers.pop(device))

    async def settle(self) -> None:
        """Wait until the bus has taken what it was sent: dbus-fast gives it up once its socket is full."""
        name = "org.freedesktop.DBus"
        ping = Message(
            destination=name, path="/org/freedesktop/DBus", interface=f"{name}.Peer", member="Ping"
        )
        await self._bus.call(ping)

    async def _start(self) -> None:
        self.air = LocalLink()  # type: ignore[no-untyped-call]
        self._controllers: dict[Device, Controller] = {}
        self._central = await self.device("computer")
        self._central.on(Device.EVENT_ADVERTISEMENT, self._seen)
        await self._central.power_on()
        self._devices: dict[str, _Device] = {}
        self._bus = await MessageBus(bus_address=self.address).connect()
        self._bus.export(_ADAPTER, _Adapter(self._central, self._devices))
        await self._bus.request_name("org.bluez")

    def _seen(self, advertisement: Advertisement) -> None:
        address = advertisement.address.to_string(False)
        device = self._devices.get(address)
        if device is None:
            device = self._devices[address] = _Device(self._bus, self._central, advertisement)
        device.seen(advertisement)

    def _close(self) -> None:
        if hasattr(self, "_bus"):
            self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._daemon.communicate()
        self._folder.cleanup()

    async def _end(self) -> None:
        await self._central.power_off()
        self._bus.disconnect()
        try:
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        except (OSError, EOFError):
            pass  # the bus failed before
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


async def disconnect(connection: Connection) -> None:
    """End a connection, if it has not ended by itself."""
    try:
        await connection.disconnect()
    except (core.BaseBumbleError, asyncio.CancelledError):
        pass  # at the same time


class _Controller(Controller):
    """bumble's accepts LE Create Connection Cancel and connects all the same: here it does what the
    specification says (Bluetooth Core, volume 4, part E, 7.8.13)."""

    def on_hci_le_create_connection_cancel_command(
        self, command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        event = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, event)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)


def _shown(name: str, signature: Any) -> Any:
    """A property that can be read: what the interface's `now` holds under its name."""

    def get(self: "_Interface") -> Any:
        return self.now[name]

    get.__name__ = name
    get.__annotations__ = {"return": signature}
    return dbus_property(PropertyAccess.READ, name)(get)


class _Interface(ServiceInterface):
    """What bluetoothd shows of one object. now: its properties."""

    def __init__(self, name: str, now: dict[str, Any]) -> None:
        self.now = now
        super().__init__(f"org.bluez.{name}")

    def change(self, **properties: Any) -> None:
        """Change properties, and tell all on the bus."""
        self.now.update(properties)
        self.emit_properties_changed(properties)


class _Adapter(_Interface):
    Address = _shown("Address", DBusStr)
    Alias = _shown("Alias", DBusStr)
    Powered = _shown("Powered", DBusBool)
    Discovering = _shown("Discovering", DBusBool)
    Roles = _shown("Roles", _Strings)

    def __init__(self, central: Device, devices: "dict[str, _Device]") -> None:
        address = central.random_address.to_string(False)
        now = {"Address": address, "Alias": central.name, "Powered": True, "Discovering": False}
        super().__init__("Adapter1", {**now, "Roles": ["central"]})
        self._central = central
        self._devices = devices
        self._discoveries = 0

    @dbus_method("SetDiscoveryFilter")
    def _filter(self, wanted: DBusDict) -> None:
        pass  # nothing but cards is in the air

    @dbus_method("StartDiscovery")
    async def _start(self) -> None:
        self._discoveries += 1
        if self._discoveries == 1:
            await self._central.start_scanning(active=True, filter_duplicates=False)
            self.change(Discovering=True)

    @dbus_method("StopDiscovery")
    async def _stop(self) -> None:
        self._discoveries -= 1
        if self._discoveries == 0:
            await self._central.stop_scanning()
            self.change(Discovering=False)

    @dbus_method("RemoveDevice")
    async def _remove(self, path: DBusObjectPath) -> None:
        for address, device in list(self._devices.items()):
            if device.path == path:
                del self._devices[address]
                await device.remove()
                return
        raise DBusError("org.bluez.Error.DoesNotExist", "Does Not Exist")


class _Device(_Interface):
    """A device that the adapter has seen, and the connection with it if there is one."""

    Address = _shown("Address", DBusStr)
    Alias = _shown("Alias", DBusStr)
    Name = _shown("Name", DBusStr)
    Adapter = _shown("Adapter", DBusObjectPath)
    UUIDs = _shown("UUIDs", _Strings)
    RSSI = _shown("RSSI", DBusInt16)
    Paired = _shown("Paired", DBusBool)
    Bonded = _shown("Bonded", DBusBool)
    Connected = _shown("Connected", DBusBool)
    ServicesResolved = _shown("ServicesResolved", DBusBool)

    def __init__(self, bus: MessageBus, central: Device, advertisement: Advertisement) -> None:
        address = advertisement.address.to_string(False)
        super().__init__(
            "Device1",
            {
                "Address": address,
                "Alias": address.replace(":", "-"),
                "Name": "",
                "Adapter": _ADAPTER,
                "UUIDs": [],
                "RSSI": advertisement.rssi,
                "Trusted": False,
                "Paired": False,
                "Bonded": False,
                "Connected": False,
                "ServicesResolved": False,
            },
        )
        self.path = f"{_ADAPTER}/dev_{address.replace(':', '_')}"
        self._bus = bus
        self._central = central
        self._peer = advertisement.address
        self._shown = False
        self._connecting = False
        self._connection: Connection | None = None
        self._services: list[tuple[str, _Interface]] = []

    @dbus_property(name="Trusted")
    def _trusted(self) -> DBusBool:
        return bool(self.now["Trusted"])

    @_trusted.setter
    def _set_trusted(self, value: DBusBool) -> None:
        self.change(Trusted=value)

    def seen(self, advertisement: Advertisement) -> None:
        """It advertises."""
        if self._shown:
            self.change(RSSI=advertisement.rssi)
            return
        kinds = core.AdvertisingData.Type
        name = advertisement.data.get(kinds.COMPLETE_LOCAL_NAME)
        uuids = advertisement.data.get(kinds.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS) or []
        if name:
            self.now.update(Name=name, Alias=name)
        self.now["UUIDs"] = [_text(uuid) for uuid in uuids]
        self._shown = True
        self._bus.export(self.path, self)

    @dbus_method("Connect")
    async def _connect_method(self) -> None:
        await self._connect()
        await self._discover()

    @dbus_method("Pair")
    async def _pair_method(self) -> None:
        if self.now["Paired"]:
            raise DBusError("org.bluez.Error.AlreadyExists", "Already Exists")
        await self._connect()
        await self.secure()
        await self._discover()

    @dbus_method("Disconnect")
    async def _disconnect_method(self) -> None:
        await self._disconnect()

    async def _connect(self) -> None:
        if self._connection is not None:
            return
        self._connecting = True
        try:
            connection = await self._central.connect(self._peer, timeout=_CONNECT_S)
        except core.BaseBumbleError:
            raise DBusError(_FAILED, "le-connection-timeout") from None
        finally:
            self._connecting = False
        self._connection = connection
        connection.once(Connection.EVENT_DISCONNECTION, lambda _: self._gone())
        self.change(Connected=True)
        if self.now["Bonded"]:
            await self.secure()

    async def secure(self) -> None:
        """Encrypt the link: with the key that the bond left, else pair. Raises DBusError."""
        connection = self._connection
        if connection is None:
            raise DBusError(_FAILED, "Not connected")
        try:
            if self.now["Bonded"]:
                await connection.encrypt()
            else:
                await connection.pair()
                self.change(Paired=True, Bonded=True)
        except (core.BaseBumbleError, asyncio.CancelledError):
            raise DBusError("org.bluez.Error.AuthenticationFailed", "Rejected") from None

    async def _discover(self) -> None:
        """Find its services, and show them."""
        connection = self._connection
        if connection is None:
            raise DBusError(_FAILED, "Not connected")
        if self.now["ServicesResolved"]:
            return
        peer = Peer(connection)
        try:
            mtu = await peer.request_mtu(_MTU)
            found: list[tuple[str, _Interface]] = []
            for service in await peer.discover_services():
                uuid = _text(service.uuid)
                path = f"{self.path}/service{service.handle:04x}"
                if uuid[4:8] in _OWN_SERVICES:
                    continue
                found.append((path, _Service(uuid, self.path)))
                for characteristic in await service.discover_characteristics():
                    await characteristic.discover_descriptors()
                    below = f"{path}/char{characteristic.handle:04x}"
                    found.append((below, _Characteristic(self, path, characteristic, mtu)))
        except (core.BaseBumbleError, TimeoutError, asyncio.CancelledError):
            raise DBusError(_FAILED, "Not connected") from None
        if self._connection is not connection:
            raise DBusError(_FAILED, "Not connected")
        self._services = found
        for path, interface in found:
            self._bus.export(path, interface)
        self.change(ServicesResolved=True)

    async def _disconnect(self) -> None:
        if self._connecting:
            await self._central.cancel_connection()  # type: ignore[no-untyped-call]
        if self._connection is not None:
            await disconnect(self._connection)

    def _gone(self) -> None:
        self._connection = None
        self.change(ServicesResolved=False)
        for path, _ in reversed(self._services):
            self._bus.unexport(path)
        self._services = []
        self.change(Connected=False)

    async def remove(self) -> None:
        """Forget it, and the bond with it."""
        await self._disconnect()
        if self.now["Bonded"] and self._central.keystore is not None:
            await self._central.keystore.delete(str(self._peer))
        self._bus.unexport(self.path)


class _Service(_Interface):
    UUID = _shown("UUID", DBusStr)
    Device = _shown("Device", DBusObjectPath)
    Primary = _shown("Primary", DBusBool)

    def __init__(self, uuid: str, device: str) -> None:
        super().__init__("GattService1", {"UUID": uuid, "Device": device, "Primary": True})


class _Characteristic(_Interface):
    UUID = _shown("UUID", DBusStr)
    Service = _shown("Service", DBusObjectPath)
    Flags = _shown("Flags", _Strings)
    Value = _shown("Value", DBusBytes)
    MTU = _shown("MTU", DBusUInt16)
    Notifying = _shown("Notifying", DBusBool)

    def __init__(
        self, device: _Device, service: str, there: CharacteristicProxy[bytes], mtu: int
    ) -> None:
        properties = Characteristic.Properties
        flags = [
            text
            for text, bit in (
                ("read", properties.READ),
                ("write-without-response", properties.WRITE_WITHOUT_RESPONSE),
                ("write", properties.WRITE),
                ("notify", properties.NOTIFY),
                ("indicate", properties.INDICATE),
            )
            if there.properties & bit
        ]
        now = {"UUID": _text(there.uuid), "Service": service, "Flags": flags, "Value": b""}
        super().__init__("GattCharacteristic1", {**now, "MTU": mtu, "Notifying": False})
        self._device = device
        self._there = there

    async def _ask(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """What the device answers. As bluetoothd does it, what needs an encrypted link is asked on one."""
        try:
            try:
                return await request()
            except att.ATT_Error as error:
                if error.error_code not in _UNENCRYPTED:
                    raise
            await self._device.secure()
            return await request()
        except att.ATT_Error as error:
            if error.error_code in _UNENCRYPTED:
                raise DBusError("org.bluez.Error.NotPermitted", "Not paired") from None
            text = f"Operation failed with ATT error: 0x{error.error_code:02x}"
            raise DBusError(_FAILED, text) from None
        except (core.BaseBumbleError, TimeoutError, asyncio.CancelledError):
            raise DBusError(_FAILED, "Not connected") from None

    @dbus_method("ReadValue")
    async def _read(self, options: DBusDict) -> DBusBytes:
        return bytes(await self._ask(self._there.read_value))

    @dbus_method("WriteValue")
    async def _write(self, value: DBusBytes, options: DBusDict) -> None:
        kind = options.get("type")
        answered = kind is None or kind.value == "request"
        await self._ask(lambda: self._there.write_value(bytes(value), answered))

    @dbus_method("StartNotify")
    async def _start(self) -> None:
        await self._ask(lambda: self._there.subscribe(self._notified))
        self.change(Notifying=True)

    @dbus_method("StopNotify")
    async def _stop(self) -> None:
        await self._ask(lambda: self._there.unsubscribe(self._notified))
        self.change(Notifying=False)

    def _notified(self, value: bytes) -> None:
        self.change(Value=bytes(value))


def _text(uuid: core.UUID) -> str:
    """A UUID as bluetoothd writes it."""
    return str(UUID(bytes=uuid.to_bytes(force_128=True)[::-1]))
