# SPDX-License-Identifier: Apache-2.0
"""What the vendor's own model of TROPIC01 (ts-tvl 2.2) said to the driver, and the driver to it: recorded
once, since that model is in no registry. Portable.

A line is one SPI transfer: `>` what the driver sends, `<` what it reads when it asks for an answer. The
session's random number is fixed(); the model's key and certificate were made for this. To record it again:
tests/hardware/record_tropic01.py."""

from binascii import unhexlify


def fixed(n):
    """The random source of the recording."""
    return bytes(range(1, n + 1))


PUBLIC = unhexlify(
    "ce85eee0e34081f5c129428ed9e1114e763242cc497e0afc1c2e378bc93e1483"
    "e31a7917a9b3243639f896e894c24e8e2862bc4c28b0a3f8cafe4d0c8918906d"
)
DIGEST = unhexlify("0bf474896363505e5ea5e5d6ace8ebfb13a760a409b1fb467d428fc716f9f284")
"""SHA-256 of b"digest"."""
SIGNATURE = unhexlify(
    "c20bd61c5dad099de5316059fa4e8a17b4cae3b4b149c62ca9ff745c116be613"
    "541068e9726d0466285284ef5f1f46a8503c15a87589cbe3ca9bf6aa41192586"
)
PING_DATA = bytes(range(200)) * 2
"""Longer than a frame, on the way there and back."""

_RECORD = """
< 00ffff
< 01ffff
> 010202002b98
< 00ffff
< 01010400000002eff9
< 00ffff
< 01ffff
> 010200002814
< 00ffff
< 010180010400f80000000000003081f530819ca003020102020101300a06082a8648ce3d040302301c311a3018060355
  04030c11656d756c617465642054524f5049433031301e170d3236303130313030303030305a170d3435313232373030
  303030305a301c311a301806035504030c11656d756c617465642054524f5049433031a372
> 010200012d94
< 00ffff
< 010180302a300506032b656e032100296e645dfa6ea97442f8e902fe83ceb49573f8d374bd8a1318016ab2825f883030
  0a06082a8648ce3d0403020348003045022100d01a11eefc1b33c7314a7445278a6b13ab40c5a5237c284d35cc6ef37a
  df4221022010d6b5a911276240335f4bcbf8e6f325bca38ccbc417e348aa4d8b11f6ea3315
> 022107a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c0076f5
< 00ffff
< 01013067ad344db3452ebf102a6568c02388f8839b2d954a13454125d228b31e22e30c1549e7ed4f5d7c00a3931ae42b
  659a825321
> 04150300eff8c423c704e7a576ad6fe83c14e09e66cb0bbc40
< 00ffff
< 0101000386
< 00ffff
< 0102130100f9857ed1d0bc23b0c836260706f8c688ca5258
> 04150300bb3a2e6fe6aeedbc4e8e455d2ea94970d0047415a6
< 00ffff
< 0101000386
< 00ffff
< 01021301007653664259000e30faf1ed3720fc3e0e462a65
> 041604008f86c55191ad5ec78decbae7c0be61f7a937ecce8322
< 00ffff
< 0101000386
< 00ffff
< 0102130100f6613f4959655294b6b9e00f48cf93efe724ef
> 04150300edcd36806faf582726a081d3c459b732a42460dd4e
< 00ffff
< 0101000386
< 00ffff
< 0102625000f2b3a06e25e66af43316f56a064d907551299e595d4745406e59d496284c8c6838fd111f25827236da95fa
  41e52619fd7460c8f59a5903a0cd909027b47654f6cfdb02ecce0cee9d45dcf5dd87c93ea2bafa3a70336b077e4bfd79
  6d0f52ce3e5cd0
> 04423000884b94f87294d0cb4e70f22ed2d4232cf943e3700c330b8ecd5469e6dc9025c4641f3e7b8320dfcb10809081
  cbed515880065c6f779474c43789da3385223321508c
< 00ffff
< 0101000386
< 00ffff
< 010262500003e8b9dfd06d154a2bbdabe49daaaa98f65d9cd30fff711140494be9748a60e88e2dbdb4b675a1ca20eec5
  ba82ded4c0ee916e799ae6fc27d786d2d72e2b956390a1e39d9718813d0bd669505567d856c0f907a5ac54247e085d7b
  a1b3503503fb7d
> 04fc9101a4c7edbc6e686eaa52629f7cc028f5872a5dca18d46e6bc46e3423a150013640c03529727feb91106620b8da
  fc48ca6b8667c718c61aacc268b64f3256c042d500ad31e47abfdd4e74bd94a17cb3cc38ff89d677ebeae3bd933c7fa1
  9ce3edd6572f343bedb5a938009798cf88eeeefc8ea9d097b25b675e04d01516873db78bd61d529364858fef8a6f465f
  0847bcecc12676453b1bf17f50a372c7e80bcd14f6c9ce7fb1088b7a1861144e9c0ad525ce95d416c77fa3e665f1b353
  4113bf0e12f337d24fe7c7393e130c5478e33804e7eb1f48528f72acf2516819b80ee562572f3fd258b43764a5d2e0c8
  0e7dc3588cd25881a85a25fa61f26714
< 00ffff
< 010300000a
> 04a70edb5cd736b0f53135ef84291441398f7a3c3c72cccebd49be722eff58691903cb4affbbd47cc37714f68e7c5e0f
  3c9d09fc97a04822410a6cc8805eb93f6cdc39bb21d9ca68e85f5c12a45d9ee976bf648dd8966409e0e85a14903f649f
  84cc63a0a899d061de52f143b6153d5d931b43767a31f2435982fef2143de59fce6ea4b719d7be504042d2a405a2f739
  8610d3c73f8f02cfec06c881b40f0f70c71bfc98cb97c074d66dc6
< 00ffff
< 0101000386
< 00ffff
< 010480910151709da41162d108d205659c4fcf7bcfec2cc75a2c3be39a314f9c9b5d1da98e5d0dc16e3940f01d084b56
  4e6c6e81f84430a50a35e18a9bb9a8c843697aa6838d5ff2134d7be16cc338eed672cd4b310a67e69d6f6fc4ca01d997
  2a4ed0bd0714060d22b9080c4d34b546b7dd6bc83d1a5ba85e2244e0a410b97eea15c7056e
< 00ffff
< 0104801f2181023e18b3a8fc649e54d0b9b74fbd8f3be6ab5128f01a595a6c26c0c307c5db7df407966f507fc410fc87
  d48c99bc40f3d071b5309173be218d6b214a236227d99664a702bce0eaf66c3e896f0b1b99963f343259e519253db55f
  0b730d4118bc0109b77a4898fe3091ac5ac543ce1af8ab95a63b515ddd4662a13eac867728
< 00ffff
< 010480c33168abbdf1df6c648c5e61f3d0569b58a25679f650f6c0330e4e0ae3221d031462aedc9f8a3be02643174b82
  f90a20e36b815461ee2b55394e6181cf35444ff674d67044471ff23021a18d8502e38aa8cfd679012e6311e9b9f0b317
  095a68a2781cd04433f7cc75be967aafa3e01488fbc14f40ffcac183cd48d0c8c63bf8abd6
< 00ffff
< 010223460fcb551dfb3cba65785e2ff0c023d5c28acb65a8f271623aa87e64ec3d1ceac5d0b3e35e
"""


class Replay:
    """machine.SPI and CSN, with the model at the other end; what is not sent as it was is an error."""

    def __init__(self):
        self._lines = _RECORD.strip().replace("\n  ", "").split("\n")
        self._selected = False
        self._line = ""
        self._at = 0

    def select(self, level):
        """As machine.Pin."""
        if not level:
            self._line = self._lines.pop(0)
            self._at = 2
        self._selected = not level

    def write(self, data):
        """As machine.SPI."""
        assert self._selected and "> " + _hex(data) == self._line

    def write_readinto(self, data, into):
        """As machine.SPI."""
        assert data[0] == 0xAA and self._line[0] == "<" and self._at == 2
        self.readinto(into)

    def readinto(self, into):
        """As machine.SPI."""
        assert self._selected
        end = self._at + 2 * len(into)
        into[:] = unhexlify(self._line[self._at : end])
        self._at = end

    def over(self):
        """Whether all was said."""
        return not self._lines


def _hex(data):
    return "".join(["%02x" % byte for byte in data])
