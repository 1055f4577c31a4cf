# SPDX-License-Identifier: Apache-2.0
"""A scripted card for the transports' tests: echo_card.py PORT ATR_HEX (speaks vpcd's protocol).

INS CB answers the whole command, B0 answers Le bytes, 51 answers after P1 tenths of a second, FE
loses power without an answer; everything else is 6D00, and SELECT finds nothing.
"""

import socket
import sys
import time


def receive(link: socket.socket, n: int) -> bytes:
    """Exactly n bytes; EOFError once the reader is gone."""
    data = b""
    while len(data) < n:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        part = link.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def answer(apdu: bytes) -> bytes:
    """The response APDU."""
    if apdu[1] == 0xCB:
        return apdu + b"\x90\x00"
    if apdu[1] == 0xB0:
        le = int.from_bytes(apdu[5:], "big") if len(apdu) == 7 else apdu[4] or 256
        return bytes(i & 0xFF for i in range(le)) + b"\x90\x00"
    if apdu[1] == 0x51:
        time.sleep(apdu[2] / 10)
        return b"\x90\x00"
    if apdu[1] == 0xFE:
        raise EOFError
    return b"\x6a\x82" if apdu[1] == 0xA4 else b"\x6d\x00"


def main(port: int, atr: bytes) -> None:
    """Serve until the reader or the power is gone."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            message = receive(link, int.from_bytes(receive(link, 2), "big"))
            if len(message) > 1:
                reply = answer(message)
            elif message == b"\x04":
                reply = atr
            else:
                continue
            link.sendall(len(reply).to_bytes(2, "big") + reply)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), bytes.fromhex(sys.argv[2]))
    except (EOFError, ConnectionError):
        pass
