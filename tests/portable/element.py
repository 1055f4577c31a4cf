# SPDX-License-Identifier: Apache-2.0
"""A secure element, emulated by what its data sheets say of it. Portable."""

from chipcash_card.suites import generate_private, suite
from chipcash_wire import card_objects as o

P256 = suite(o.SUITE_P256)


class Atecc608:
    """A pre-provisioned ATECC608 with its bus

    spoil: as many of its next answers arrive with a wrong bit."""

    ADDRESS = 0x35

    def __init__(self, random):
        self.random = random
        self.spoil = 0
        self.commands = []
        self._private = b""
        self._awake = False
        self._sleep()

    def _sleep(self):
        self._awake = False
        self._answer = b""
        self._digest = None
        self._seeded = False
        self._busy = 0

    def writeto(self, address, data):
        """As machine.I2C."""
        if address == 0:
            if not self._awake:
                self._sleep()
                self._awake = True
                self._answer = self._framed(b"\x11")
            raise OSError(19)  # nobody acknowledges that address
        if address != self.ADDRESS or not self._awake:
            raise OSError(19)
        if data[0] == 1:
            self._sleep()
        else:
            assert data[0] == 3 and data[1] == len(data) - 1
            body = data[1:-2]
            wrong = self._crc(body) != data[-2:]
            self._answer = self._framed(b"\xff" if wrong else self._carried_out(body[1:]))
            self._busy = 2

    def readfrom(self, address, size):
        """As machine.I2C; what is read past the answer is all ones."""
        if address != self.ADDRESS or not self._awake:
            raise OSError(19)
        if self._busy:
            self._busy -= 1
            raise OSError(19)
        data = self._answer + b"\xff" * size
        if self.spoil:
            self.spoil -= 1
            data = bytes((data[0], data[1] ^ 4)) + data[2:]
        return data[:size]

    def _carried_out(self, body):
        code, mode, param, data = body[0], body[1], body[2] | body[3] << 8, body[4:]
        self.commands.append(code)
        if code == 0x1B and mode == 0 and param == 0 and not data:
            self._seeded = True
            return self.random(32)
        if code == 0x16 and mode == 0x43 and param == 0 and len(data) == 32:
            self._digest = data
            return b"\0"
        if code == 0x40 and mode in (0, 4) and 2 <= param <= 4 and not data:
            if mode == 4:
                self._private = generate_private(P256, self.random)
            if not self._private:
                return b"\x0f"
            x, y = P256.point(self._private)
            return x.to_bytes(32, "big") + y.to_bytes(32, "big")
        if code == 0x41 and mode == 0xA0 and 2 <= param <= 4 and not data:
            if self._digest is None or not self._seeded or not self._private:
                return b"\x0f"
            secret = P256.secret(self._private)
            e = int.from_bytes(self._digest, "big")
            k = int.from_bytes(generate_private(P256, self.random), "big")
            self._digest = None
            return P256.finish(secret, P256.coupon(secret, k), e)
        return b"\x03"

    def _framed(self, data):
        body = bytes((len(data) + 3,)) + data
        return body + self._crc(body)

    @staticmethod
    def _crc(data):
        """Bits in the order in which they are sent, with the register turned round."""
        found = 0
        for byte in data:
            found ^= byte
            for _ in range(8):
                found = found >> 1 ^ (0xA001 if found & 1 else 0)
        turned = 0
        for bit in range(16):
            turned |= (found >> bit & 1) << 15 - bit
        return bytes((turned & 0xFF, turned >> 8))
