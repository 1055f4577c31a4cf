# SPDX-License-Identifier: Apache-2.0
"""A modem with a SIM, over AT commands (3GPP TS 27.007 section 8: +CSIM, +CCHO, +CGLA, +CCHC; ITU-T V.250).

A phone's or a module's modem is like this. The link's session must know logical channels:
chipcash_links.uicc."""

from binascii import hexlify, unhexlify

from chipcash_links.link import Link
from chipcash_links.uicc import CLOSE, INS_MANAGE_CHANNEL, OPEN
from chipcash_wire import commands as c
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from chipcash_links.link import Commands, Port

MAX_APDU = 261
"""Longest command APDU: a short one, as modems carry them. An answer may have two bytes of status word
more."""
_MAX_LINE = 2 * MAX_APDU + 64
_TESTS = ("+CSIM=?", "+CCHO=?", "+CGLA=?", "+CCHC=?")
_BASIC = ("", "Z", "+CMEE=0", "+CFUN=1")


class Modem(Link):
    """The modem's end of a line."""

    def __init__(self, session: "Commands", port: "Port") -> None:
        Link.__init__(self, session, port)
        self._line = b""
        self._echo = True

    def take(self, data: bytes) -> None:
        """Take some bytes, and answer the lines that they end."""
        for at in range(len(data)):
            byte = data[at : at + 1]
            if byte not in (b"\r", b"\n"):
                # Of a line that is too long the beginning is kept, which is enough to refuse it.
                if len(self._line) <= _MAX_LINE:
                    self._line += byte
                continue
            line = self._line
            self._line = b""
            if line.strip():
                if self._echo:
                    self.port.send(line + b"\r")
                self._command(line)

    def _command(self, line: bytes) -> None:
        try:
            text = line.decode("ascii").strip()
            if len(line) > _MAX_LINE or text[:2].upper() != "AT":
                raise ValueError
            answer = self._obey(text[2:])
        except (ValueError, UnicodeError):  # what no number, no hex or no ASCII raises
            self.port.send(b"\r\nERROR\r\n")
            return
        if answer:
            self.port.send(b"\r\n" + answer.encode("ascii") + b"\r\n")
        self.port.send(b"\r\nOK\r\n")

    def _obey(self, text: str) -> str:
        """The line that a command is answered with before OK; none if empty. Raises ValueError for ERROR."""
        name, _, rest = text.partition("=")
        name = name.upper()
        if text.upper() in _BASIC or text.upper() in _TESTS:
            if name == "+CFUN":
                self.session.reset()
            return ""
        if name in ("E0", "E1"):
            self._echo = name == "E1"
            return ""
        if name == "+CSIM":
            return "+CSIM: " + self._transmit(rest, None)
        if name == "+CGLA":
            number, _, rest = rest.partition(",")
            return "+CGLA: " + self._transmit(rest, _channel(number))
        if name == "+CCHO":
            return "+CCHO: %d" % self._open(_hex(rest))
        if name == "+CCHC":
            self._close(_channel(rest))
            return ""
        raise ValueError

    def _transmit(self, rest: str, channel: "int | None") -> str:
        """Length and bytes of the answer to an APDU, given in the same way; on a channel, if one is given."""
        size, _, digits = rest.partition(",")
        apdu = _hex(digits)
        if int(size) != 2 * len(apdu) or not 4 <= len(apdu) <= MAX_APDU:
            raise ValueError
        if channel is not None:
            apdu = bytes((apdu[0] & 0xFC | channel,)) + apdu[1:]
        answer = self.answer(apdu)
        if channel is not None and answer == c.SW_CHANNEL.to_bytes(2, "big"):
            raise ValueError  # of a session that is none any longer
        return '%d,"%s"' % (2 * len(answer), hexlify(answer).decode().upper())

    def _open(self, aid: bytes) -> int:
        """Open a channel and select an application on it."""
        answer = self.answer(bytes((c.CLA_ISO, INS_MANAGE_CHANNEL, OPEN, 0, 1)))
        if len(answer) != 3:
            raise ValueError
        channel = answer[0]
        answer = self.answer(c.command(c.INS_SELECT, 4, 0, aid, c.CLA_ISO | channel))
        if answer[-2] not in (c.SW_OK >> 8, c.SW_MORE >> 8):
            self._close(channel)
            raise ValueError
        return channel

    def _close(self, channel: int) -> None:
        answer = self.answer(bytes((c.CLA_ISO, INS_MANAGE_CHANNEL, CLOSE, channel)))
        if answer != c.SW_OK.to_bytes(2, "big"):
            raise ValueError


def _channel(text: str) -> int:
    number = int(text.strip('"'))
    if not 0 < number < 4:
        raise ValueError
    return number


def _hex(text: str) -> bytes:
    return unhexlify(text.strip('"'))
