# SPDX-License-Identifier: Apache-2.0
"""Commands and status words of the card (ISO/IEC 7816-4), named once. See protocols/spec/commands.md.

What commands are called, and status words mean to people, is in chipcash_wire.status, apart because a card
need not know it.
"""

AID = b"\xf0CHIPCASH\x01"
"""Application identifier: proprietary category F (ISO/IEC 7816-5), the name, the protocol version."""

CLA_ISO = 0x00
CLA_CHAINED = 0x10
CLA_PROPRIETARY = 0x80

INS_VERIFY = 0x20
INS_CHANGE_REFERENCE_DATA = 0x24
INS_RESET_RETRY_COUNTER = 0x2C
INS_GENERATE_KEY_PAIR = 0x46
INS_PAY = 0x50
INS_UPDATE_FIRMWARE = 0x52
INS_SAM = 0x54
INS_GENERAL_AUTHENTICATE = 0x86
INS_INTERNAL_AUTHENTICATE = 0x88
INS_SELECT = 0xA4
INS_GET_RESPONSE = 0xC0
INS_ENVELOPE = 0xC2
INS_GET_DATA = 0xCA
INS_PUT_DATA = 0xDA
INS_STORE_DATA = 0xE2

INSTRUCTIONS = (
    INS_VERIFY,
    INS_CHANGE_REFERENCE_DATA,
    INS_RESET_RETRY_COUNTER,
    INS_GENERATE_KEY_PAIR,
    INS_PAY,
    INS_UPDATE_FIRMWARE,
    INS_SAM,
    INS_GENERAL_AUTHENTICATE,
    INS_INTERNAL_AUTHENTICATE,
    INS_SELECT,
    INS_GET_RESPONSE,
    INS_ENVELOPE,
    INS_GET_DATA,
    INS_PUT_DATA,
    INS_STORE_DATA,
)
"""All of them; their names are in chipcash_wire.status."""
PROPRIETARY = (INS_PAY, INS_UPDATE_FIRMWARE, INS_SAM)
"""Those of CLA_PROPRIETARY."""

# P1 of GET DATA: what to read; P2 is an index where there are several.
DATA_INFO = 0x01
DATA_CERTIFICATE = 0x02
DATA_TITLE = 0x03
DATA_PAYMENT = 0x04
DATA_RISK = 0x05
DATA_RECEIVED = 0x06

# P1 of UPDATE FIRMWARE.
UPDATE_BEGIN = 0x00
UPDATE_BODY = 0x01
UPDATE_FINISH = 0x02

PIN_REFERENCE = 0x80
"""P2 of VERIFY and its kin: the application's own PIN (ISO/IEC 7816-4, specific reference data 0)."""
PIN_MIN = 4
PIN_MAX = 12
PUK_SIZE = 8
PIN_TRIES = 3
PUK_TRIES = 10

MAX_TITLES = 16
MAX_SEEN = 64
MAX_LOG = 8
MAX_RECEIVED = 8
MAX_ENDED = 32
"""Received payments that a receipt ended, which are remembered until their deadline."""
MAX_COMMAND = 2560
"""Longest command data in bytes, extended or chained."""

SW_OK = 0x9000
SW_MORE = 0x6100
SW_PIN_WRONG = 0x63C0
SW_MEMORY = 0x6581
SW_LENGTH = 0x6700
SW_CHANNEL = 0x6881
SW_SECURE_MESSAGING = 0x6882
SW_CHAIN_BROKEN = 0x6883
SW_SECURITY = 0x6982
SW_BLOCKED = 0x6983
SW_CONDITIONS = 0x6985
SW_CHANNEL_BROKEN = 0x6988
SW_DATA = 0x6A80
SW_NOT_SUPPORTED = 0x6A81
SW_NOT_FOUND = 0x6A82
SW_RECORD_NOT_FOUND = 0x6A83
SW_NO_SPACE = 0x6A84
SW_P1P2 = 0x6A86
SW_LE = 0x6C00
SW_INS = 0x6D00
SW_CLA = 0x6E00
SW_INTERNAL = 0x6F00
SW_INSUFFICIENT_FUNDS = 0x9401
SW_LIMIT_PAYMENT = 0x9402
SW_LIMIT_CUMULATIVE = 0x9403
SW_LIMIT_COUNT = 0x9404
SW_EXPIRED = 0x9405
SW_TIME_PAST = 0x9406
SW_TIME_FUTURE = 0x9407
SW_NETWORK = 0x9408
SW_SIGNATURE = 0x9409
SW_STALE = 0x940A
SW_NOT_MINE = 0x940B
SW_ASKED = 0x940C
SW_DECLINED = 0x940D


class ApduError(ValueError):
    """The bytes are no command APDU; sw is the status word to answer."""

    def __init__(self, sw: int) -> None:
        super().__init__("%04X" % sw)
        self.sw = sw


def command(
    ins: int,
    p1: int = 0,
    p2: int = 0,
    data: bytes = b"",
    cla: int = CLA_ISO,
    le: int = 256,
    extended: bool = False,
) -> bytes:
    """Build a command APDU. le: bytes expected, 0 for none, 256 (short) or 65536 (extended) for all."""
    n = len(data)
    if n > 255 or le > 256:
        extended = True
    apdu = bytes((cla, ins, p1, p2))
    if extended:
        if n or le:
            apdu += b"\x00"
        if n:
            apdu += n.to_bytes(2, "big") + data
        if le:
            apdu += (le & 0xFFFF).to_bytes(2, "big")
    else:
        if n:
            apdu += bytes((n,)) + data
        if le:
            apdu += bytes((le & 0xFF,))
    return apdu


def parse(apdu: bytes) -> tuple[int, int, int, int, bytes, int]:
    """Take a command APDU apart: (cla, ins, p1, p2, data, le); le 0 means no reply data expected.

    Raises ApduError with 6700 for any length that ISO/IEC 7816-4 section 5.1 does not know.
    """
    n = len(apdu)
    if n < 4:
        raise ApduError(SW_LENGTH)
    data = b""
    le = 0
    if n == 5:
        le = apdu[4] or 256
    elif n > 5:
        lc = apdu[4]
        start = 5
        wide = 1
        if lc == 0:
            if n < 7:
                raise ApduError(SW_LENGTH)
            lc = apdu[5] << 8 | apdu[6]
            start = 7
            wide = 2
            if n == 7:  # case 2 extended: only Le
                return apdu[0], apdu[1], apdu[2], apdu[3], b"", lc or 65536
            if lc == 0:
                raise ApduError(SW_LENGTH)
        rest = n - start - lc
        if rest not in (0, wide):
            raise ApduError(SW_LENGTH)
        data = apdu[start : start + lc]
        if rest:
            le = int.from_bytes(apdu[start + lc :], "big") or (256 if wide == 1 else 65536)
    return apdu[0], apdu[1], apdu[2], apdu[3], data, le
