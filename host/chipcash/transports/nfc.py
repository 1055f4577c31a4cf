# SPDX-License-Identifier: Apache-2.0
"""Contactless cards through nfcpy, by path `nfc:<reader>`, the reader as nfcpy names it.

`nfc:usb` is the first USB reader, `nfc:tty:USB0:pn532` a PN532 at /dev/ttyUSB0, `nfc:tty:/dev/<line>` one on
any serial line, `nfc:udp:<host>:<port>` an emulated field. nfcpy follows ISO/IEC 14443-4 and asks again for
blocks that were lost."""

from __future__ import annotations

import importlib
import logging
import time
from typing import Any

from chipcash.errors import LinkLostError, NoCardError, NoReaderError, PathError, TransportError
from chipcash.transports.base import BaseConnection
from chipcash.transports.times import times


class NfcConnection(BaseConnection):
    """A session with the card in a reader's field. Make it with open_reader()."""

    def __init__(self, reader: Any, tag: Any, path: str) -> None:
        super().__init__(path, over_air=True)
        self._reader = reader
        self._tag = tag

    def _transceive(self, apdu: bytes) -> bytes:
        if self._tag is None:
            raise LinkLostError(
                "The session with the card on the reader is closed.",
                maybe_executed=False,
                hint="Open the card again.",
                path=self.path,
            )
        try:
            answer = bytes(self._tag.transceive(apdu))
        except _failures() as error:
            raise self._lost(str(error) or type(error).__name__) from None
        if len(answer) < 2:
            raise self._lost("an answer without a status word")
        return answer

    def _lost(self, why: str) -> LinkLostError:
        return LinkLostError(
            f"The card left the reader's field ({why}). It may have carried out the last command.",
            maybe_executed=True,
            hint="Hold the same card on the reader and repeat the same request: a card never pays it twice.",
            path=self.path,
        )

    def close(self) -> None:
        """Switch the field off, so that the card forgets what was selected. May be repeated."""
        self._tag = None
        if self._reader is not None:
            _close(self._reader)
            self._reader = None


def open_reader(name: str, *, wait: float = 0.0) -> NfcConnection:
    """Open the card on a reader; name: as nfcpy has it. wait: seconds to wait for a card.

    Raises PathError, NoReaderError, NoCardError, or TransportError (no such card, nfcpy missing).
    """
    path = f"nfc:{name}"
    nfc = _library()
    if not name:
        raise PathError(
            "The path nfc: names no reader.", hint="Write nfc:usb, or nfc:tty:USB0:pn532", path=path
        )
    deadline = time.monotonic() + wait
    reader = _open(nfc, name, path)
    try:
        while True:
            tag = _sense(nfc, reader, path)
            if tag is not None:
                break
            if time.monotonic() >= deadline:
                raise NoCardError(
                    "There is no card on the reader.",
                    hint="Hold the card on it and try again.",
                    path=path,
                )
            time.sleep(times().nfc_poll_s)
        if tag.type != "Type4Tag":
            raise TransportError(
                f"What is on the reader is no smart card, but a {tag.type}.",
                hint="Take other cards away from the reader.",
                path=path,
            )
    except BaseException:
        _close(reader)
        raise
    return NfcConnection(reader, tag, path)


def _library() -> Any:
    """nfcpy, loaded late: every other transport works without it."""
    try:
        importlib.import_module("nfc.tag.tt4")
        nfc = importlib.import_module("nfc")
    except ImportError as error:
        raise TransportError(
            f"NFC readers at nfc: need the Python package nfcpy, which cannot be loaded: {error}.",
            hint="Run: pip install nfcpy",
        ) from None
    # It warns of each frame lost on the air, which is nothing to tell anybody. Not earlier: when it is loaded
    # it sets a level of its own.
    logging.getLogger("nfc").setLevel(logging.CRITICAL)
    return nfc


def _failures() -> tuple[type[Exception], ...]:
    """What nfcpy raises when card or reader fail. Some of it is raw from its depths."""
    nfc = _library()
    return (nfc.clf.CommunicationError, nfc.tag.TagCommandError, OSError)


def _open(nfc: Any, name: str, path: str) -> Any:
    try:
        if not name.startswith("tty:/"):
            return nfc.ContactlessFrontend(name)
        # nfcpy knows lines only by the names that USB adapters get in /dev: here it is any, with a PN532.
        driver = importlib.import_module("nfc.clf.pn532")
        transport = importlib.import_module("nfc.clf.transport")
        reader = nfc.ContactlessFrontend()
        reader.device = driver.init(transport.TTY(name[4:]))
        reader.device._path = name
        return reader
    except (OSError, nfc.clf.CommunicationError):
        raise NoReaderError(
            f"nfcpy finds no reader at “{name}”.",
            hint="Plug it in; then python -m nfc tells what keeps nfcpy from it.",
            path=path,
        ) from None
    except ValueError as error:
        raise PathError(
            f"“{path}” is no reader as nfcpy names them: {error}.",
            hint="Write nfc:usb, nfc:tty:USB0:pn532 or nfc:udp:HOST:PORT",
            path=path,
        ) from None


def _sense(nfc: Any, reader: Any, path: str) -> Any:
    """The card in the field, activated; None if there is none."""
    try:
        target = reader.sense(nfc.clf.RemoteTarget("106A"))
        return nfc.tag.activate(reader, target) if target is not None else None
    except nfc.clf.CommunicationError:
        return None
    except OSError as error:
        raise NoReaderError(
            f"The reader failed: {error}.", hint="Plug it in again and try again.", path=path
        ) from None


def _close(reader: Any) -> None:
    try:
        reader.close()
    except OSError:
        pass  # unplugged: the field is off
