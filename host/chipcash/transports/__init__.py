# SPDX-License-Identifier: Apache-2.0
"""Paths to bytes. A transport is named by a path, and a path opens to a Connection.

| path | opens |
|---|---|
| `pcsc:` | the first PC/SC reader with a card in it |
| `pcsc:<name>` | the PC/SC reader of that name, or the only one whose name contains it |
| `at:<line>` | the SIM or eSIM behind the modem on that serial line, such as `at:/dev/ttyUSB2` |
| `nfc:<reader>` | the card on that reader of nfcpy's, such as `nfc:usb` or `nfc:tty:USB0:pn532` |
| `ble:<card>` | the Bluetooth card of that name or address, or with `ble:` alone any |
| `sd:<folder>` | the SD card with an applet that is mounted there |
| `serial:<line>` | the board on that serial line, such as `serial:/dev/ttyACM0` |
| `sim:<image>[?option=value&...]` | an emulated card over that image file |

Each transport is imported when a path asks for it, so its library need not be installed before.
"""

from __future__ import annotations

from chipcash.errors import PathError
from chipcash.transports.base import TRAFFIC, Connection

__all__ = ["TRAFFIC", "Connection", "open_path"]

_KNOWN = (
    "pcsc:, pcsc:<reader name>, at:<line>, nfc:<reader>, ble:<name or address>, sd:<folder>, serial:<line>, "
    "sim:<image file>"
)


def open_path(path: str, *, wait: float = 0.0) -> Connection:
    """Open the card at a path.

    wait: seconds to wait for a card where one can be tapped or inserted; 0 asks once.

    Raises PathError (not a path), NoReaderError, NoCardError, or another TransportError.
    """
    kind, colon, rest = path.partition(":")
    if not colon:
        kind = ""
    if kind == "pcsc":
        from chipcash.transports import pcsc

        return pcsc.open_reader(rest, wait=wait)
    if kind == "at":
        from chipcash.transports import at

        return at.open_modem(rest, wait=wait)
    if kind == "nfc":
        from chipcash.transports import nfc

        return nfc.open_reader(rest, wait=wait)
    if kind == "ble":
        from chipcash.transports import ble

        return ble.open_card(rest, wait=wait)
    if kind == "sd":
        from chipcash.transports import sd

        return sd.open_card(rest, wait=wait)
    if kind == "serial":
        from chipcash.transports import serial

        return serial.open_line(rest, wait=wait)
    if kind == "sim":
        from chipcash.transports import sim

        return sim.open_image(rest)
    raise PathError(
        f"There is no way to reach a card called “{path}”.",
        hint=f"Write one of: {_KNOWN}",
        path=path,
    )
