# SPDX-License-Identifier: Apache-2.0
"""The SPI bus of an emulated TROPIC01 in another process, over TCP: see chipcash_sim.hardware.tropic01.
Portable."""

import os
import socket

from chipcash_drivers import tropic01


class Bus:
    """As machine.SPI, with one chip. port: its server's; by default that of the environment."""

    def __init__(self, port=0):
        self._socket = socket.socket()
        port = port or int(os.getenv("CHIPCASH_TROPIC01"))
        self._socket.connect(socket.getaddrinfo("127.0.0.1", port)[0][-1])
        self._socket.setsockopt(6, 1, 1)  # TCP_NODELAY

    def _ask(self, tag, data=b""):
        self._socket.send(bytes((tag,)) + len(data).to_bytes(2, "little") + data)
        size = int.from_bytes(self._read(3)[1:], "little")
        return self._read(size) if size else b""

    def _read(self, n):
        data = b""
        while len(data) < n:
            data += self._socket.recv(n - len(data))
        return data

    def close(self):
        """End the connection."""
        self._socket.close()

    def select(self, level):
        """As machine.Pin, of the line CSN."""
        self._ask(2 if level else 1)

    def write(self, data):
        """As machine.SPI."""
        self._ask(3, bytes(data))

    def write_readinto(self, data, into):
        """As machine.SPI."""
        into[:] = self._ask(3, bytes(data))

    def readinto(self, into):
        """As machine.SPI."""
        into[:] = self._ask(3, bytes(len(into)))

    def reset(self):
        """A dip of the chip's supply."""
        self._ask(0x10)

    def set(self, name, value=1):
        """A fault of the chip, by its attribute's name; or `new`, for another chip."""
        self._ask(0x20, ("%s=%d" % (name, value)).encode())

    def get(self, name):
        """What the chip counted."""
        return self._ask(0x20, name.encode()).decode()


def new_chip():
    """Another chip on the bus, as it is delivered."""
    bus = Bus()
    bus.set("new")
    return bus


def driver(bus, pairing=tropic01.FACTORY):
    """The firmware's driver of the chip."""
    return tropic01.Tropic01(bus, bus.select, os.urandom, pairing)


class Impatient:
    """In this, the driver gives up after 30 ms."""

    def __enter__(self):
        self._was = tropic01.PATIENCE_MS
        tropic01.PATIENCE_MS = 30

    def __exit__(self, *error):
        tropic01.PATIENCE_MS = self._was


def fails(work, *arguments):
    """Whether it raises OSError."""
    try:
        work(*arguments)
    except OSError:
        return True
    return False
