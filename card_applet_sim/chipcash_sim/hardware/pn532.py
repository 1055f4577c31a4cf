# SPDX-License-Identifier: Apache-2.0
"""A PN532 as reader chip on a serial line (NXP UM0701-02, HSU), with a card in its field.

As much of its command set as nfcpy's driver uses; what it does not know is answered by the error frame.
"""

import os
import select
import tty

from chipcash_sim.hardware import Hardware
from chipcash_sim.hardware.field import Field

ACK = bytes.fromhex("0000ff00ff00")
NACK = bytes.fromhex("0000ffff0000")
_ERROR = b"\x7f"
_TO_CHIP = 0xD4
_FROM_CHIP = 0xD5
_TIMEOUT = b"\x01"
_OK = b"\x00"
_TICK_S = 0.05

_DIAGNOSE = 0x00
_GET_FIRMWARE_VERSION = 0x02
_READ_REGISTER = 0x06
_WRITE_REGISTER = 0x08
_SET_SERIAL_BAUD_RATE = 0x10
_SET_PARAMETERS = 0x12
_SAM_CONFIGURATION = 0x14
_POWER_DOWN = 0x16
_RF_CONFIGURATION = 0x32
_IN_COMMUNICATE_THRU = 0x42
_IN_DESELECT = 0x44
_IN_LIST_PASSIVE_TARGET = 0x4A
_IN_RELEASE = 0x52

_VERSION = bytes.fromhex("32010607")
_FIFO_LEVEL = b"\x63\x39"
_AUTOMATIC_RATS = 0x10
_RATS = b"\xe0\x50"


def information(body: bytes) -> bytes:
    """The frame that carries what begins with TFI."""
    size = len(body)
    if size < 255:
        head = bytes((size, -size & 0xFF))
    else:
        head = b"\xff\xff" + size.to_bytes(2, "big")
        head += bytes((-sum(head[2:]) & 0xFF,))
    return b"\x00\x00\xff" + head + body + bytes((-sum(body) & 0xFF, 0))


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """What the whole frames in data carry, and the bytes that are left: ACK and NACK themselves, otherwise
    what begins with TFI. Frames with a wrong checksum are not there."""
    found: list[bytes] = []
    while True:
        start = data.find(b"\x00\xff")
        if start < 0:
            return found, data[-1:]
        frame = data[start + 2 :]
        if len(frame) < 2:
            return found, data[start:]
        if frame[:2] in (ACK[3:5], NACK[3:5]):
            found.append(ACK if frame[:2] == ACK[3:5] else NACK)
            data = frame[2:]
            continue
        head, size = 2, frame[0]
        if frame[:2] == b"\xff\xff":
            if len(frame) < 5:
                return found, data[start:]
            head, size = 5, int.from_bytes(frame[2:4], "big")
        if sum(frame[2 if head > 2 else 0 : head]) & 0xFF:
            data = frame
            continue
        if len(frame) < head + size + 1:
            return found, data[start:]
        body = frame[head : head + size]
        check = frame[head + size]
        data = frame[head + size + 1 :]
        if body and not (sum(body) + check) & 0xFF:
            found.append(body)


class Pn532(Hardware):
    """The chip at the end of a line, and the field of its antenna; the card's link is `iso14443`.

    device: path of the terminal for the host to open.
    """

    def __init__(self) -> None:
        self._field = Field()
        self._line, self._far = os.openpty()
        tty.setraw(self._far)
        self.device = os.ttyname(self._far)
        self._on = False
        self._parameters = 0x14
        self._registers: dict[bytes, int] = {}
        super().__init__(self._field.plug, self.device)

    def _release(self) -> None:
        os.close(self._line)
        os.close(self._far)

    def _serve(self) -> None:
        data = b""
        while not self._closing.is_set():
            if select.select([self._line], [], [], _TICK_S)[0]:
                data = self._take(data + os.read(self._line, 4096))

    def _take(self, data: bytes) -> bytes:
        """Answer the frames in data; what is left of it."""
        bodies, rest = split(data)
        for body in bodies:
            if body[0] == _TO_CHIP and len(body) > 1:
                os.write(self._line, ACK)
                answer = self._command(body[1], body[2:])
                if answer is None:
                    os.write(self._line, information(_ERROR))
                else:
                    os.write(self._line, information(bytes((_FROM_CHIP, body[1] + 1)) + answer))
            # else the host's ACK: it gives up waiting
        return rest

    def _command(self, code: int, data: bytes) -> bytes | None:
        """The answer to a command, without its head; None where the chip knows no such command."""
        if code == _DIAGNOSE:
            return data if data[:1] == b"\x00" else _OK
        if code == _GET_FIRMWARE_VERSION:
            return _VERSION
        if code == _READ_REGISTER:
            return bytes(self._registers.get(data[at : at + 2], 0) for at in range(0, len(data), 2))
        if code == _WRITE_REGISTER:
            for at in range(0, len(data) - 2, 3):
                self._registers[data[at : at + 2]] = data[at + 2]
            return b""
        if code == _SET_PARAMETERS:
            self._parameters = data[0]
            return b""
        if code in (_SET_SERIAL_BAUD_RATE, _SAM_CONFIGURATION):
            return b""
        if code == _POWER_DOWN:
            self._switch(False)
            return _OK
        if code == _RF_CONFIGURATION:
            if data[0] == 1:
                self._switch(bool(data[1] & 1))
            return b""
        if code == _IN_LIST_PASSIVE_TARGET:
            return self._list(data)
        if code == _IN_COMMUNICATE_THRU:
            answer = self._field.exchange(data) if self._on else None
            return _TIMEOUT if answer is None else _OK + answer
        if code in (_IN_DESELECT, _IN_RELEASE):
            return _OK
        return None

    def _switch(self, on: bool) -> None:
        if on != self._on:
            self._on = on
            self._field.off()

    def _list(self, data: bytes) -> bytes:
        """InListPassiveTarget at 106 kbit/s type A: anticollision by the chip itself."""
        self._switch(True)
        # What nfcpy's driver looks for after a search: did anything at all answer?
        self._registers[_FIFO_LEVEL] = 0x26
        if data[1] != 0:
            return b"\x00"
        atqa = self._field.exchange(b"\x26")
        uid = self._field.exchange(b"\x93\x20") if atqa else None
        sak = self._field.exchange(b"\x93\x70" + uid) if uid else None
        if not (atqa and uid and sak):
            return b"\x00"
        answer = b"\x01\x01" + atqa[::-1] + sak + b"\x04" + uid[:4]
        if self._parameters & _AUTOMATIC_RATS:
            answer += self._field.exchange(_RATS) or b""
        return answer
