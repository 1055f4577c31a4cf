# SPDX-License-Identifier: Apache-2.0
"""Cards in PC/SC readers, contact or contactless, through pyscard.

Each connection has a PC/SC context of its own, taken when it is opened, so none outlives a restart
of the service; where a restart falls between two steps of opening, the step is repeated once.
Cards are opened exclusively: no other program can select another application amid a payment.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

from chipcash.errors import LinkLostError, NoCardError, NoReaderError, TransportError
from chipcash.transports.base import BaseConnection
from chipcash.transports.times import times

_T = TypeVar("_T")

# Those result codes whose meaning matters here, as pcsc-lite and Windows number them.
_OK = 0
_E_INVALID_HANDLE = 0x80100003
_E_TIMEOUT = 0x8010000A
_E_UNKNOWN_READER = 0x80100009
_E_SHARING_VIOLATION = 0x8010000B
_E_NO_SMARTCARD = 0x8010000C
_E_PROTO_MISMATCH = 0x8010000F
_E_READER_UNAVAILABLE = 0x80100017
_F_COMM_ERROR = 0x80100013
_E_NO_SERVICE = 0x8010001D
_E_SERVICE_STOPPED = 0x8010001E
_E_NO_READERS = 0x8010002E
_W_UNRESPONSIVE = 0x80100066
_W_UNPOWERED = 0x80100067
_W_RESET = 0x80100068
_W_REMOVED = 0x80100069
_W_SECURITY_VIOLATION = 0x8010006A

_NO_SERVICE = frozenset((_E_INVALID_HANDLE, _E_NO_SERVICE, _E_SERVICE_STOPPED))
_STALE = _NO_SERVICE | {_F_COMM_ERROR}
"""What a context taken before the service restarted answers, and a service that is restarting."""
_GONE = frozenset((_E_NO_SMARTCARD, _W_REMOVED))
_NOT_YET = frozenset((_E_PROTO_MISMATCH, _W_UNPOWERED))
"""What is said of a card that is there and has not been powered up, as just after it was put back."""
_NOT_SENT = frozenset((_E_INVALID_HANDLE, _E_SHARING_VIOLATION, _W_RESET))
"""Transmit results that the service gives before anything went to the card."""


class _Failure(Exception):
    """A PC/SC call failed; code is its result, unsigned."""

    def __init__(self, code: int) -> None:
        super().__init__(f"PC/SC error {code:08X}")
        self.code = code


def _scard() -> Any:
    """The binding, loaded late: every other transport works without it."""
    try:
        return importlib.import_module("smartcard.scard")
    except ImportError as error:
        raise TransportError(
            f"PC/SC readers need the Python package pyscard, which cannot be loaded: {error}.",
            hint="Run: pip install pyscard",
        ) from None


def _check(result: int) -> None:
    code = result & 0xFFFFFFFF  # signed on some systems
    if code != _OK:
        raise _Failure(code)


class _Context:
    """A PC/SC context; release() may be repeated."""

    def __init__(self) -> None:
        self.scard = _scard()
        result, self.handle = self.scard.SCardEstablishContext(self.scard.SCARD_SCOPE_USER)
        _check(result)

    def readers(self) -> list[str]:
        """Names of all readers."""
        result, names = self.scard.SCardListReaders(self.handle, [])
        if result & 0xFFFFFFFF == _E_NO_READERS:
            return []
        _check(result)
        return list(names)

    def occupied(self, names: list[str], timeout_ms: int = 0) -> list[str]:
        """Those of the readers that hold a card, in their order, waiting so long for a change."""
        if not names:
            return []
        scard = self.scard
        states = [(name, scard.SCARD_STATE_UNAWARE) for name in names]
        result, states = scard.SCardGetStatusChange(self.handle, 0, states)
        if result & 0xFFFFFFFF != _E_TIMEOUT:
            _check(result)
        full = [state[0] for state in states if state[1] & scard.SCARD_STATE_PRESENT]
        if full or not timeout_ms:
            return full
        result, states = scard.SCardGetStatusChange(
            self.handle, timeout_ms, [(state[0], state[1]) for state in states]
        )
        if result & 0xFFFFFFFF == _E_TIMEOUT:
            return []
        _check(result)
        return [state[0] for state in states if state[1] & scard.SCARD_STATE_PRESENT]

    def insertions(self, name: str) -> int:
        """See insertions()."""
        scard = self.scard
        asked = [(name, scard.SCARD_STATE_UNAWARE)]
        result, states = scard.SCardGetStatusChange(self.handle, 0, asked)
        _check(result)
        return int(states[0][1]) >> 16 & 0xFFFF

    def release(self) -> None:
        """Give the context back; a stale one has nothing to give."""
        if self.handle is not None:
            self.scard.SCardReleaseContext(self.handle)
            self.handle = None


class PcscConnection(BaseConnection):
    """A session with the card in one reader. Make it with open_reader()."""

    def __init__(self, context: _Context, reader: str) -> None:
        scard = context.scard
        result, card, protocol = scard.SCardConnect(
            context.handle,
            reader,
            scard.SCARD_SHARE_EXCLUSIVE,
            scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1,
        )
        _check(result)
        self.reader = reader
        """The reader's full name."""
        self.protocol = "T=0" if protocol == scard.SCARD_PROTOCOL_T0 else "T=1"
        """The transmission protocol: real readers pass extended APDUs under T=1 only."""
        self.atr = b""
        """The card's answer to reset."""
        self._context = context
        self._card = card
        self._broken = False
        self._pci = scard.SCARD_PCI_T0 if self.protocol == "T=0" else scard.SCARD_PCI_T1
        try:
            result, _, _, _, atr = scard.SCardStatus(card)
            _check(result)
            self._insertion = context.insertions(reader)
        except BaseException:
            scard.SCardDisconnect(card, scard.SCARD_RESET_CARD)
            raise
        self.atr = bytes(byte & 0xFF for byte in atr)
        super().__init__(f"pcsc:{reader}", over_air=is_contactless(self.atr))

    @property
    def insertion(self) -> int | None:
        """The service's count of cards that came and left (the high word of dwEventState)."""
        return self._insertion

    def _transceive(self, apdu: bytes) -> bytes:
        if self._card is None:
            raise LinkLostError(
                f"The session with the card in “{self.reader}” is closed.",
                maybe_executed=False,
                hint="Open the card again.",
                path=self.path,
            )
        command = t0_command(apdu) if self.protocol == "T=0" else apdu
        result, answer = self._context.scard.SCardTransmit(self._card, self._pci, list(command))
        try:
            _check(result)
        except _Failure as failure:
            raise self._lost(failure.code) from None
        if len(answer) < 2:
            raise self._lost(_F_COMM_ERROR)
        return bytes(byte & 0xFF for byte in answer)

    def close(self) -> None:
        """Reset the card, so that it forgets what was verified, and leave it. May be repeated."""
        if self._card is not None:
            scard = self._context.scard
            # pcscd, failing to reset a card that is gone, would overlook the next one put in
            # at once. A card that is still there loses its power a few seconds later.
            leave = scard.SCARD_LEAVE_CARD if self._broken else scard.SCARD_RESET_CARD
            scard.SCardDisconnect(self._card, leave)
            self._card = None
        self._context.release()

    def _lost(self, code: int) -> LinkLostError:
        self._broken = True
        maybe = code not in _NOT_SENT
        if code in _GONE:
            what = f"The card left the reader “{self.reader}”"
            hint = "Put the same card back"
        elif code in _NO_SERVICE:
            what = f"The smart card service stopped during the session in “{self.reader}”"
            hint = "Wait until it runs again (normally at once), open the card again"
        elif code in (_E_READER_UNAVAILABLE, _E_UNKNOWN_READER):
            what = f"The reader “{self.reader}” was unplugged"
            hint = "Plug it in again, open the same card"
        elif code == _W_RESET:
            what = f"The card in “{self.reader}” was reset"
            hint = "Open the card again"
        else:
            what = f"The card in “{self.reader}” stopped answering"
            hint = "Put the same card back"
        if maybe:
            what += ". The card may have carried out the last command."
            hint += " and repeat the same request: a card never pays the same request twice."
        else:
            what += ". The last command did not reach the card."
            hint += "."
        return LinkLostError(
            what,
            maybe_executed=maybe,
            hint=hint,
            reader=self.reader,
            path=self.path,
            pcsc_error=f"{code:08X}",
        )


def readers() -> list[str]:
    """Names of all PC/SC readers. Raises NoReaderError if the service does not run."""
    return _with_context(_Context.readers, "pcsc:")


def occupied_readers() -> list[str]:
    """Names of the PC/SC readers that hold a card. Raises as readers() does."""
    return _with_context(lambda context: context.occupied(context.readers()), "pcsc:")


def insertions(name: str) -> int:
    """How often a card came to or left the PC/SC reader of that full name since the service began, modulo
    2**16. Raises as readers() does."""
    return _with_context(lambda context: context.insertions(name), "pcsc:")


def open_reader(name: str = "", *, wait: float = 0.0) -> PcscConnection:
    """Open the card in a reader.

    name: the reader's name, or a part of it that no other reader has (any case); empty: the first
    reader that holds a card. wait: seconds to wait for a card.

    Raises NoReaderError, NoCardError, or TransportError (card mute, taken by another program).
    """
    path = f"pcsc:{name}"
    deadline = time.monotonic() + wait
    context: _Context | None = None
    retried = False
    try:
        while True:
            left_ms = int(max(deadline - time.monotonic(), 0) * 1000)
            try:
                if context is None:
                    context = _Context()
                candidates = _matching(context.readers(), name, path)
                full = context.occupied(candidates, min(left_ms, int(times().pcsc_poll_s * 1000)))
                retried = False
                if full:
                    connection = PcscConnection(context, full[0])
                    context = None  # the connection's own from here on
                    return connection
                if left_ms == 0:
                    raise _no_card(candidates, path)
            except _Failure as failure:
                if failure.code in _STALE and not retried:
                    # The service restarts: what we hold is void. Once more from the beginning.
                    retried = True
                    if context is not None:
                        context.release()
                        context = None
                    time.sleep(times().pcsc_restart_s)
                elif failure.code in _NOT_YET and left_ms:
                    time.sleep(times().pcsc_poll_s)
                elif failure.code not in _GONE or left_ms == 0:
                    raise _explain(failure.code, path) from None
    finally:
        if context is not None:
            context.release()


def is_contactless(atr: bytes) -> bool:
    """Whether an ATR is one that readers compose for contactless cards (PC/SC part 3)."""
    return len(atr) >= 4 and atr[0] == 0x3B and atr[1] & 0xF0 == 0x80 and atr[2:4] == b"\x80\x01"


def t0_command(apdu: bytes) -> bytes:
    """A command APDU as T=0 transmits it (ISO/IEC 7816-3, 12.2).

    Case 1 gets P3 = 0; case 4 loses its Le, whose data GET RESPONSE then fetches. An extended APDU
    is left as it is: T=0 itself cannot carry it, but some readers do.
    """
    if len(apdu) == 4:
        return apdu + b"\x00"
    if len(apdu) > 5 and apdu[4] != 0 and len(apdu) == 6 + apdu[4]:
        return apdu[:-1]
    return apdu


def _with_context(ask: Callable[[_Context], _T], path: str) -> _T:
    """One question to the service, repeated once if the service restarted meanwhile."""
    for again in (True, False):
        context: _Context | None = None
        try:
            context = _Context()
            return ask(context)
        except _Failure as failure:
            if not again or failure.code not in _STALE:
                raise _explain(failure.code, path) from None
            time.sleep(times().pcsc_restart_s)
        finally:
            if context is not None:
                context.release()
    raise AssertionError("the second round returns or raises")


def _matching(names: list[str], wanted: str, path: str) -> list[str]:
    """The readers that a name stands for: all for an empty one, else exactly one."""
    if not names:
        raise NoReaderError(
            "No smart card reader is connected.",
            hint="Plug one in; if it is plugged in, run: chipcash doctor",
            path=path,
            readers=names,
        )
    if not wanted or wanted in names:
        return [wanted] if wanted else names
    found = [name for name in names if wanted.casefold() in name.casefold()]
    if len(found) == 1:
        return found
    listing = ", ".join(f"“{name}”" for name in (found or names))
    if found:
        raise NoReaderError(
            f"“{wanted}” stands for {len(found)} readers: {listing}.",
            hint="Write more of the name.",
            path=path,
            readers=names,
        )
    raise NoReaderError(
        f"There is no reader called “{wanted}”. Connected: {listing}.",
        hint="Use one of these names, or a part of it, or pcsc: for the first with a card.",
        path=path,
        readers=names,
    )


def _no_card(candidates: list[str], path: str) -> NoCardError:
    where = f"the reader “{candidates[0]}”" if len(candidates) == 1 else "any reader"
    return NoCardError(
        f"There is no card in {where}.",
        hint="Put the card on the reader, or insert it, and try again.",
        path=path,
        readers=candidates,
    )


def _explain(code: int, path: str) -> TransportError:
    """The error for a PC/SC result while opening."""
    facts: dict[str, object] = {"path": path, "pcsc_error": f"{code:08X}"}
    if code in _STALE:
        return NoReaderError(
            "The smart card service (pcscd) does not run.",
            hint="Start it: sudo systemctl start pcscd.socket (or run: chipcash doctor)",
            **facts,
        )
    if code == _W_SECURITY_VIOLATION:
        return NoReaderError(
            "The system does not allow this user to use smart card readers (polkit refused).",
            hint="Run: chipcash doctor; it shows the rule to add.",
            **facts,
        )
    if code in _GONE:
        return NoCardError(
            "The card left before it could be opened.",
            hint="Hold it on the reader and try again.",
            **facts,
        )
    if code in (_E_UNKNOWN_READER, _E_READER_UNAVAILABLE):
        return NoReaderError(
            "The reader was unplugged.", hint="Plug it in again and try again.", **facts
        )
    if code == _E_SHARING_VIOLATION:
        return TransportError(
            "Another program uses this card.",
            hint="Close it and try again; for GnuPG run: gpgconf --kill scdaemon",
            **facts,
        )
    if code in (_W_UNRESPONSIVE, _W_UNPOWERED, _E_PROTO_MISMATCH):
        return TransportError(
            "The card does not respond.",
            hint="Turn it over, clean its contacts, or hold it still on the reader.",
            **facts,
        )
    return TransportError(
        f"The smart card service failed with error {code:08X}.",
        hint="Take the card out and put it back; if that does not help, run: chipcash doctor",
        **facts,
    )
