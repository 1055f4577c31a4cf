# SPDX-License-Identifier: Apache-2.0
"""Bluetooth cards through bleak, by path `ble:<name or address>`: protocols/spec/links.md, Bluetooth.

bleak is asynchronous: it lives in an event loop in a thread of its own, one for all sessions, and each call
here waits for it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from chipcash.errors import LinkLostError, NoCardError, NoReaderError, TransportError
from chipcash.transports.base import BaseConnection
from chipcash.transports.times import times
from chipcash_links import gatt
from chipcash_wire import commands as c

_T = TypeVar("_T")
_AUTHENTICATION = "org.bluez.Error.Authentication"

# It warns of what its caller is told by an exception.
logging.getLogger("bleak").setLevel(logging.CRITICAL)


class BleConnection(BaseConnection):
    """A session with a card that is connected and paired. Make it with open_card()."""

    def __init__(
        self, client: Any, arrived: asyncio.Queue[bytes | None], size: int, path: str
    ) -> None:
        super().__init__(path, over_air=True)
        self._client = client
        self._arrived = arrived  # what the card notified; None: the link is lost
        self._size = size

    def _transceive(self, apdu: bytes) -> bytes:
        if self._client is None:
            raise self._lost("The session with the card is closed", maybe=False)
        if len(apdu) > gatt.MAX_APDU:
            return c.SW_LENGTH.to_bytes(2, "big")  # the card client then says it in parts
        try:
            answer = _background.run(self._exchange(apdu))
        except LinkLostError:
            self.close()
            raise
        if len(answer) < 2:
            self.close()
            raise self._lost("The card sent an answer without a status word", maybe=True)
        return answer

    async def _exchange(self, apdu: bytes) -> bytes:
        parts = gatt.fragments(gatt.MSG, apdu, self._size)
        for number, part in enumerate(parts):
            try:
                async with asyncio.timeout(times().ble_connect_s):
                    await self._client.write_gatt_char(gatt.CONTROL_POINT, part, response=True)
            except _failures() as error:
                # Without its last fragment the card has no command.
                maybe = number == len(parts) - 1
                raise self._lost(f"The link failed ({_why(error)})", maybe=maybe) from None
        reader = gatt.Reader()
        give_up = time.monotonic() + times().busy_s
        while True:
            patience = min(times().ble_answer_s, give_up - time.monotonic())
            try:
                async with asyncio.timeout(patience):
                    fragment = await self._arrived.get()
                message = None if fragment is None else reader.feed(fragment)
            except TimeoutError:
                raise self._lost("The card stopped answering", maybe=True) from None
            except gatt.Spoilt:
                raise self._lost(
                    "The card's answer came in pieces that do not fit", maybe=True
                ) from None
            if fragment is None:
                raise self._lost("The link to the card is lost", maybe=True)
            if message is not None and message[0] == gatt.MSG:
                return message[1]
            if message is not None and message[0] == gatt.ERROR:
                code = message[1].hex()
                raise self._lost(
                    f"The card did not get the command whole (error {code})", maybe=False
                )

    def close(self) -> None:
        """Disconnect, so that the card forgets what was verified. May be repeated."""
        if self._client is not None:
            client, self._client = self._client, None
            _background.run(_disconnect(client))

    def _lost(self, what: str, *, maybe: bool) -> LinkLostError:
        if maybe:
            what += ". The card may have carried out the last command."
            hint = (
                "Open the same card again and repeat the same request: a card never pays it twice."
            )
        else:
            what += ". The last command did not reach the card."
            hint = "Open the card again."
        return LinkLostError(what, maybe_executed=maybe, hint=hint, path=self.path)


def open_card(name: str, *, wait: float = 0.0) -> BleConnection:
    """Connect and pair with a card. name: the name that it advertises, or its address; empty for the only
    card that is near. wait: seconds to wait for it.

    Raises NoReaderError (no Bluetooth, or switched off), NoCardError (not found, several and no name, or
    connected with another program), TransportError (pairing refused, bleak missing)."""
    path = f"ble:{name}"
    _library()
    return _background.run(_open(name, path, time.monotonic() + wait))


async def _open(name: str, path: str, deadline: float) -> BleConnection:
    why = ""
    while True:
        found = await _find(name, path, max(times().ble_look_s, deadline - time.monotonic()))
        if found is not None:
            try:
                return await _connect(found, path if name else f"ble:{found.name or found.address}")
            except _failures() as error:
                if _AUTHENTICATION in str(error):
                    raise TransportError(
                        f"The card {found.name} and this computer cannot pair.",
                        hint="Remove the card in the system's Bluetooth settings, switch it off and on, and "
                        "try again.",
                        path=path,
                    ) from None
                why = f": {_why(error)}"
        if time.monotonic() >= deadline:
            raise NoCardError(
                f"The card {found.name} was found, but the link to it failed{why}."
                if found is not None
                else f"No Bluetooth card “{name}” is near, or another program is connected with it."
                if name
                else "No Bluetooth card is near, or another program is connected with it.",
                hint="Switch the card on, hold it near and try again.",
                path=path,
            )


async def _find(name: str, path: str, seconds: float) -> Any:
    """The device that advertises our service, by name or address; None if there is none. Without a name it
    must be the only one: radio reaches the next customer's, too."""
    bleak = _library()
    failed: tuple[type[Exception], ...] = (ValueError, *_failures())  # an address that is none

    def wanted(device: Any, advertisement: Any) -> bool:
        return bool(name == advertisement.local_name or name.upper() == device.address.upper())

    try:
        if not name:
            near = await bleak.BleakScanner.discover(
                timeout=min(seconds, times().ble_survey_s), service_uuids=[gatt.SERVICE]
            )
            if len(near) > 1:
                names = ", ".join(f"ble:{device.name or device.address}" for device in near)
                raise NoCardError(
                    "Several Bluetooth cards are near; none of them was asked.",
                    hint=f"Say which: {names}",
                    path=path,
                )
            return near[0] if near else None
        return await bleak.BleakScanner.find_device_by_filter(
            wanted, timeout=seconds, service_uuids=[gatt.SERVICE]
        )
    except bleak.exc.BleakBluetoothNotAvailableError as error:
        raise NoReaderError(
            f"This computer's Bluetooth cannot be used: {error.args[0]}",
            hint="Plug an adapter in or switch Bluetooth on, and allow this program to use it.",
            path=path,
        ) from None
    except failed as error:
        raise NoReaderError(
            f"This computer has no Bluetooth service that answers: {_why(error)}.",
            hint="On Linux, start it: systemctl start bluetooth",
            path=path,
        ) from None


async def _connect(found: Any, path: str) -> BleConnection:
    arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
    client = _library().BleakClient(
        found,
        disconnected_callback=lambda _: arrived.put_nowait(None),
        services=[gatt.SERVICE],
        timeout=times().ble_connect_s,
        pair=True,
    )
    try:
        async with asyncio.timeout(times().ble_connect_s):
            await client.connect()
            size = int.from_bytes(await client.read_gatt_char(gatt.CONTROL_POINT_LENGTH), "big")
            if not 20 <= size <= 512:  # what ATT allows
                raise _library().exc.BleakError("it does not say how long fragments may be")
            await client.start_notify(
                gatt.STATUS, lambda _, value: arrived.put_nowait(bytes(value))
            )
    except BaseException:
        await _disconnect(client)
        raise
    return BleConnection(client, arrived, size, path)


async def _disconnect(client: Any) -> None:
    try:
        await client.disconnect()
    except _failures():
        pass  # it was lost before


def _library() -> Any:
    """bleak, loaded late: every other transport works without it."""
    try:
        return importlib.import_module("bleak")
    except ImportError as error:
        raise TransportError(
            f"Bluetooth cards need the Python package bleak, which cannot be loaded: {error}.",
            hint="Run: pip install 'chipcash[ble]'",
        ) from None


def _failures() -> tuple[type[Exception], ...]:
    """What bleak raises when the link, or the system's service, fails. Some of it is raw from its depths."""
    return (_library().exc.BleakError, OSError, EOFError, TimeoutError)


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


class _Background:
    """The event loop, started when it is first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something in it, and wait for it; given up when this is interrupted."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="bleak", daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()


_background = _Background()
