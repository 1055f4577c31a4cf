# SPDX-License-Identifier: Apache-2.0
"""A PN532 as the antenna of a board: target mode (NXP UM0701-02), ISO/IEC 14443-4 by the chip itself.

On one side the card process drives it by the frames of the manual, on the other is a reader's field. What is
not known of the chip, and is assumed here, is in firmware/README.md."""

import select
import socket
import time

from chipcash_sim.hardware.field import Field
from chipcash_sim.hardware.pn532 import ACK, NACK, information, split
from chipcash_sim.hardware.udp import UdpField
from chipcash_sim.plug import CardGone, Plug

GET_FIRMWARE_VERSION = 0x02
SET_PARAMETERS = 0x12
SAM_CONFIGURATION = 0x14
GET_DATA = 0x86
GET_TARGET_STATUS = 0x8A
INIT_AS_TARGET = 0x8C
SET_DATA = 0x8E
SET_META_DATA = 0x94

RELEASED = 0x29
"""Status: the reader deselected the card, or its field is gone."""
INVALID_STATE = 0x25
"""Status: there is no reader."""
NOT_ACCEPTABLE = 0x27
"""Status: not now, such as an answer where no command is waiting for one."""

_TO_CHIP = 0xD4
_FROM_CHIP = 0xD5
_SYNTAX_ERROR = b"\x7f"
_VERSION = bytes.fromhex("32010607")
_PICC = 0x20  # of SetParameters
_AS_PICC = 0x08  # of the mode that TgInitAsTarget is answered with
_MORE = 0x40
_MAX_DATA = 262
_FIXED = 1 + 6 + 18 + 10  # mode, Mifare, FeliCa and NFCID3 parameters of TgInitAsTarget

_ATS = b"\x75\x33\x92\x03"
"""Without TL and historical bytes. FSCI 5: frames of 64 bytes; FWI 9: 155 ms; CID and NAD supported."""
_FRAME = 64
_CRC = 2
_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)
_WTX = 0xF2
_WTXM = b"\x01"
_WAIT_S = 0.1
"""How long the board may take before the chip asks the reader for more time: less than the frame waiting
time."""
_TICK_S = 0.05
_POLLS = (b"\x26", b"\x52")  # REQA, WUPA
_POLL_S = 0.8


class TargetChip(Field):
    """The chip, and the reader's field around its antenna. plug: where the board plugs in, link `pn532t`: the
    bytes of a serial line (HSU).

    awake: whether it listens to its host; on a serial line 55 wakes it. commands: the codes of all commands
    that it has acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[int] = []
        self.reset()

    def reset(self) -> None:
        """Lose everything, as by a dip of the supply."""
        self.awake = False
        self._data = b""
        self._said = b""
        self._parameters = 0x14
        self._pending: int | None = None
        self._armed = False
        self._state = "idle"
        self._deselected = False
        self._untold = False
        self._end()

    def _end(self) -> None:
        """Forget the activation."""
        self._protocol = False
        self._number = 1
        self._cid = b""
        self._last = b""
        self._in = b""
        self._in_chain = False
        self._command_ended = False
        self._asked = ""  # what the reader waits for: "receipt", "answer" or nothing
        self._out: bytes | None = None
        self._out_chain = False
        self._sending = False

    # The host's side

    def say(self, frame: bytes) -> None:
        """Give a frame to the host. May raise CardGone."""
        self.plug.send(frame)

    def wait(self, seconds: float) -> bool:
        """Let the host go on; whether it has said anything. May raise CardGone."""
        if not select.select([self.plug], [], [], seconds)[0]:
            return False
        self.take(self.plug.receive())
        return True

    def take(self, data: bytes) -> None:
        """Take some bytes from the host."""
        if not self.awake:
            woken = data.find(b"\x55")
            if woken < 0:
                return
            self.awake = True
            data = data[woken:]
        bodies, self._data = split(self._data + data)
        for body in bodies:
            if body == ACK:
                self._pending = None
            elif body == NACK:
                self.say(self._said)
            else:
                self.say(ACK)
                if body[0] != _TO_CHIP or len(body) < 2:
                    self._say(_SYNTAX_ERROR)
                else:
                    self.commands.append(body[1])
                    self._command(body[1], body[2:])

    def _say(self, body: bytes) -> None:
        self._said = information(body)
        self.say(self._said)

    def _reply(self, data: bytes) -> None:
        """Answer the command that is waiting for it."""
        code, self._pending = self._pending, None
        if code is not None:
            self._say(bytes((_FROM_CHIP, code + 1)) + data)

    def _command(self, code: int, data: bytes) -> None:
        self._pending = code  # one that was still waiting is given up
        if code == GET_FIRMWARE_VERSION and not data:
            self._reply(_VERSION)
        elif code == SAM_CONFIGURATION and 1 <= len(data) <= 3 and 1 <= data[0] <= 4:
            self._reply(b"")
        elif code == SET_PARAMETERS and len(data) == 1:
            self._parameters = data[0]
            self._reply(b"")
        elif code == INIT_AS_TARGET and _well_formed(data):
            self._arm(data)
        elif code == GET_TARGET_STATUS and not data:
            state = 1 if self._protocol else 2 if self._deselected else 0
            self._reply(bytes((state, 0)))
        elif code == GET_DATA and not data:
            if self._protocol:
                self._offer()
            else:
                self._refuse()
        elif code in (SET_DATA, SET_META_DATA) and len(data) <= _MAX_DATA:
            if not self._protocol:
                self._refuse()
            elif not self._command_ended or self._in or self._out is not None:
                self._reply(bytes((NOT_ACCEPTABLE,)))
            else:
                self._out = data
                self._out_chain = code == SET_META_DATA
        else:
            self._pending = None
            self._say(_SYNTAX_ERROR)

    def _refuse(self) -> None:
        self._reply(bytes((RELEASED if self._untold else INVALID_STATE,)))
        self._untold = False

    def _arm(self, data: bytes) -> None:
        self._end()
        self._untold = self._deselected = False
        self._armed = True
        self._state = "idle"
        uid = b"\x08" + data[3:6]
        self._uid = uid + bytes((uid[0] ^ uid[1] ^ uid[2] ^ uid[3],))
        self._atqa, self._sak = data[1:3], data[6:7]
        general = data[_FIXED]
        self._ats = _ATS + data[_FIXED + 2 + general :]
        self._ats = bytes((len(self._ats) + 1,)) + self._ats

    def _offer(self) -> None:
        """Answer TgGetData, if there is enough to answer it with."""
        if self._pending != GET_DATA or not self._asked or self._out is not None:
            return
        if self._in_chain and self._room():
            return
        if not self._in_chain and self._command_ended and not self._in:
            return  # the host has got it all, and owes an answer
        part, self._in = self._in[:_MAX_DATA], self._in[_MAX_DATA:]
        self._command_ended = not self._in_chain
        self._reply(bytes((_MORE if self._in or self._in_chain else 0,)) + part)

    def _room(self) -> bool:
        return len(self._in) + _FRAME <= _MAX_DATA

    # The reader's side

    def off(self) -> None:
        """The reader's field is switched off."""
        try:
            self._release()
        except CardGone:
            self.reset()
        self._state = "idle"

    def exchange(self, frame: bytes) -> bytes | None:
        """What the chip answers to a frame; None if nothing."""
        if not self.powered():
            self.reset()
            return None
        try:
            if frame in _POLLS:
                self._be_polled()
            if not self._armed or (self._protocol and frame in _POLLS):
                return None
            return super().exchange(frame)
        except (CardGone, ValueError):  # ValueError: its socket was closed meanwhile
            self.reset()
            return None

    def _be_polled(self) -> None:
        """Readers ask every few milliseconds whether there is a card, nfcpy's UDP driver once a second: let
        the host get the chip ready meanwhile."""
        deadline = time.monotonic() + _POLL_S
        while not self._armed and self.wait(max(0.0, deadline - time.monotonic())):
            pass

    def _release(self) -> None:
        """The reader is gone: nothing is answered before the host waits for one again."""
        if self._protocol:
            self._end()
            self._armed = False
            self._untold = True
            if self._pending in (GET_DATA, SET_DATA, SET_META_DATA):
                self._refuse()

    def _answer(self, frame: bytes) -> bytes | None:
        if not self._protocol:
            if len(frame) != 2 or frame[0] != 0xE0 or not self._parameters & _PICC:
                return None
            self._protocol = True
            self._size = min(_SIZES[min(frame[1] >> 4, len(_SIZES) - 1)], 256)
            self._reply(bytes((_AS_PICC,)) + frame)
            return self._ats
        if not frame or len(frame) > _FRAME - _CRC:
            return None
        pcb = frame[0]
        if pcb & 0xF0 == 0xD0:
            return frame[:1]  # PPS
        if pcb & 0xE2 == 0x02:
            return self._information(pcb, frame)
        if pcb & 0xE6 == 0xA2:
            return self._receipt(pcb)
        if pcb & 0xF7 == _WTX:
            return self._work() if self._last[:1] == frame[:1] else None
        if pcb & 0xF7 == 0xC2:
            self._release()
            self._deselected = True
            self._state = "halted"
            return frame
        return None

    def _information(self, pcb: int, frame: bytes) -> bytes | None:
        start = 1 + (pcb >> 3 & 1) + (pcb >> 2 & 1)
        self._cid = frame[1:2] if pcb & 0x08 else b""
        self._number ^= 1
        self._sending = False
        self._in += frame[start:]
        self._in_chain = bool(pcb & 0x10)
        self._command_ended = not self._in_chain
        self._asked = "receipt" if self._in_chain else "answer"
        self._offer()
        return self._work()

    def _receipt(self, pcb: int) -> bytes | None:
        if pcb & 1 == self._number:
            return self._last or None
        if pcb & 0x10:
            return self._block(0xA2, b"")
        if not self._sending:
            return None
        self._number ^= 1
        if not self._out:
            self._out = None
            self._reply(b"\x00")  # all of TgSetMetaData's went
        self._asked = "answer"
        return self._work()

    def _work(self) -> bytes:
        """The next block to the reader: what the host has, or the wish for more time."""
        while True:
            if self._asked == "receipt" and self._room():
                self._asked = ""
                return self._block(0xA2, b"")
            if self._asked == "answer" and self._out is not None:
                return self._send_part(self._out)
            if not self.wait(_WAIT_S):
                return self._block(_WTX, _WTXM)

    def _send_part(self, out: bytes) -> bytes:
        room = self._size - _CRC - 1 - len(self._cid)
        part, self._out = out[:room], out[room:]
        self._asked = ""
        self._sending = bool(self._out) or self._out_chain
        block = self._block(0x12 if self._sending else 0x02, part)
        if not self._sending:
            self._out = None
            self._command_ended = False
            self._reply(b"\x00")
        return block

    def _block(self, pcb: int, data: bytes) -> bytes:
        number = 0 if pcb == _WTX else self._number
        self._last = bytes((pcb | number | (0x08 if self._cid else 0),)) + self._cid + data
        return self._last


def _well_formed(data: bytes) -> bool:
    """Whether the parameters of TgInitAsTarget have the lengths that they say."""
    if len(data) < _FIXED + 2:
        return False
    general = data[_FIXED]
    if general > 47 or len(data) < _FIXED + 2 + general:
        return False
    historical = data[_FIXED + 1 + general]
    return historical <= 48 and len(data) == _FIXED + 2 + general + historical


class Pn532Target(UdpField):
    """A reader's field that nfcpy opens at address as `udp:<host>:<port>`, and a board's PN532 in it. The
    card's link is `pn532t`. chip: what is in the field."""

    def __init__(self) -> None:
        self.chip = TargetChip()
        super().__init__(field=self.chip)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                both: list[socket.socket | Plug] = [self._socket]
                if self.plug.plugged:
                    both.append(self.plug)
                ready = select.select(both, [], [], _TICK_S)[0]
                if self.plug in ready:
                    self.chip.wait(0)
            except (CardGone, ValueError, OSError):  # the latter two where it goes amid select
                self.chip.reset()
                continue
            if self._socket in ready:
                self._hear()
