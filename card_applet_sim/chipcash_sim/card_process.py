# SPDX-License-Identifier: Apache-2.0
"""The card as a process of its own, under CPython or MicroPython: the applet behind a socket. Portable.

It connects to a virtual reader as vsmartcard's vpcd (or our own) offers it: messages with a 16-bit
big-endian length; one byte is a control (0 off, 1 on, 2 reset, 4 ask for the ATR), all else an APDU.

    card_process.py IMAGE HOST PORT [contactless] [cut_write=N] [half] [cut_before=N] [cut_after=N]

cut_write: power fails at the n-th flash write; cut_before, cut_after: before or after the n-th APDU is
processed, with no answer. The process ends when the power does.
"""

import os
import select
import socket
import sys

from chipcash_card.applet import Applet
from chipcash_sim.image import FileFlash, PowerCut

ATR_CONTACT = b"\x3b\x80\x01\x81"
"""ISO/IEC 7816-3: T=1, no historical bytes, check byte."""
ATR_CONTACTLESS = b"\x3b\x80\x80\x01\x01"
"""What a reader composes for an ISO/IEC 14443-4 card without historical bytes (PC/SC part 3)."""

_TCP = 6
_NODELAY = 1
_QUICKACK = 12
_IDLE_MS = 20


class Ended(Exception):
    """The reader closed the connection."""


def _receive(link, n: int) -> bytes:  # type: ignore[no-untyped-def]
    data = b""
    while len(data) < n:
        try:
            # Re-armed for each read: delayed acknowledgements cost 40 ms an APDU.
            link.setsockopt(_TCP, _QUICKACK, 1)
        except OSError:
            pass  # Linux only
        try:
            part = link.recv(n - len(data))
        except OSError:
            part = b""  # a reader that was killed resets the connection
        if not part:
            raise Ended()
        data += part
    return data


def _send(link, data: bytes) -> None:  # type: ignore[no-untyped-def]
    data = len(data).to_bytes(2, "big") + data
    while data:
        data = data[link.send(data) :]


def serve(link, device, contactless: bool, cut_before: int, cut_after: int) -> None:  # type: ignore[no-untyped-def]
    """Answer the reader until it closes the link (Ended) or the power is cut (PowerCut)."""
    applet = None
    poll = select.poll()
    poll.register(link, select.POLLIN)
    apdus = 0
    while True:
        while applet is not None and not poll.poll(_IDLE_MS):
            if not applet.idle():
                break
        message = _receive(link, int.from_bytes(_receive(link, 2), "big"))
        if len(message) != 1:
            if applet is None:
                applet = Applet(device, os.urandom)
            apdus += 1
            if apdus == cut_before:
                raise PowerCut()
            reply = applet.process(message, contactless)
            if apdus == cut_after:
                raise PowerCut()
            _send(link, reply)
        elif message == b"\x04":
            _send(link, ATR_CONTACTLESS if contactless else ATR_CONTACT)
        elif message == b"\x00":
            applet = None
        elif applet is None:
            applet = Applet(device, os.urandom)
        else:
            applet.reset()


def main(arguments: "list[str]") -> None:
    """Run the card described by the command line (see above) until its power or its reader ends."""
    image, host, port = arguments[:3]
    options: "dict[str, str]" = {}
    for word in arguments[3:]:
        name, _, value = word.partition("=")
        options[name] = value
    cut = options.get("cut_write")
    device = FileFlash(image, None if cut is None else int(cut), "half" in options)
    link = socket.socket()
    try:
        link.connect(socket.getaddrinfo(host, int(port))[0][-1])
    except OSError as error:
        print("card: no reader at", host, "port", port, error, file=sys.stderr)
        sys.exit(1)
    link.setsockopt(_TCP, _NODELAY, 1)
    try:
        serve(
            link,
            device,
            "contactless" in options,
            int(options.get("cut_before", "0")),
            int(options.get("cut_after", "0")),
        )
    except (Ended, PowerCut):
        pass
    finally:
        link.close()
        device.close()


if __name__ == "__main__":
    main(sys.argv[1:])
