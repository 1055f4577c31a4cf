# SPDX-License-Identifier: Apache-2.0
"""AES as boards have it, by node: the WebAssembly build has none."""

from binascii import hexlify, unhexlify

import node


class aes:
    """cryptolib.aes with the one mode that the card uses, ECB."""

    def __init__(self, key, mode):
        assert mode == 1
        self._key = hexlify(key).decode()

    def encrypt(self, data):
        """The blocks, enciphered."""
        return unhexlify(node.aes_ecb(self._key, hexlify(data).decode()))
