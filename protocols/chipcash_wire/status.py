# SPDX-License-Identifier: Apache-2.0
"""What the card's commands are called, what its status words mean, for people. See spec/commands.md."""

from chipcash_wire import commands as c

NAMES = {
    c.INS_VERIFY: "VERIFY",
    c.INS_CHANGE_REFERENCE_DATA: "CHANGE REFERENCE DATA",
    c.INS_RESET_RETRY_COUNTER: "RESET RETRY COUNTER",
    c.INS_GENERATE_KEY_PAIR: "GENERATE ASYMMETRIC KEY PAIR",
    c.INS_PAY: "PAY",
    c.INS_UPDATE_FIRMWARE: "UPDATE FIRMWARE",
    c.INS_SAM: "SAM",
    c.INS_GENERAL_AUTHENTICATE: "GENERAL AUTHENTICATE",
    c.INS_INTERNAL_AUTHENTICATE: "INTERNAL AUTHENTICATE",
    c.INS_SELECT: "SELECT",
    c.INS_GET_RESPONSE: "GET RESPONSE",
    c.INS_ENVELOPE: "ENVELOPE",
    c.INS_GET_DATA: "GET DATA",
    c.INS_PUT_DATA: "PUT DATA",
    c.INS_STORE_DATA: "STORE DATA",
}
"""What instructions are called (ISO/IEC 7816-4)."""

STATUS = {
    c.SW_OK: ("ok", "done"),
    c.SW_MORE: ("more data", "GET RESPONSE fetches the rest; the last byte says how much"),
    c.SW_PIN_WRONG: ("wrong PIN", "the last digit says how many tries are left"),
    c.SW_MEMORY: (
        "memory failure",
        "the card's files cannot be written; its money lies elsewhere and is safe",
    ),
    c.SW_LENGTH: ("wrong length", "the command's length fields do not fit"),
    c.SW_CHANNEL: ("logical channel not supported", "use the basic channel"),
    c.SW_SECURE_MESSAGING: ("secure messaging not supported", "send the command in clear"),
    c.SW_CHAIN_BROKEN: ("command chain broken", "start the chained command again"),
    c.SW_SECURITY: ("PIN required", "verify the PIN first"),
    c.SW_BLOCKED: ("PIN blocked", "unblock it with the PUK"),
    c.SW_CONDITIONS: (
        "conditions not satisfied",
        "not in this state of the card, or not on this link",
    ),
    c.SW_CHANNEL_BROKEN: (
        "secure channel broken",
        "what arrived is not what was sent; nothing of it was carried out: begin again with SELECT",
    ),
    c.SW_DATA: ("wrong data", "the data field is not a canonical object of the kind expected"),
    c.SW_NOT_SUPPORTED: ("function not supported", "this card takes no firmware updates"),
    c.SW_NOT_FOUND: ("application not found", "this is no chipcash card"),
    c.SW_RECORD_NOT_FOUND: ("nothing at this index", "the list ends before it"),
    c.SW_NO_SPACE: (
        "card memory full",
        "spend or exchange titles first; the money stays at the center",
    ),
    c.SW_P1P2: ("wrong P1 or P2", "not defined for this command"),
    c.SW_LE: ("wrong Le", "repeat with the length in the last byte"),
    c.SW_INS: ("command not supported", "unknown instruction"),
    c.SW_CLA: ("class not supported", "unknown class"),
    c.SW_INTERNAL: (
        "internal error",
        "power the card anew and repeat the same command: it never pays twice",
    ),
    c.SW_INSUFFICIENT_FUNDS: ("insufficient funds", "the card holds less than the amount"),
    c.SW_LIMIT_PAYMENT: ("above the limit per payment", "pay less, or online"),
    c.SW_LIMIT_CUMULATIVE: ("offline total exhausted", "synchronise the card"),
    c.SW_LIMIT_COUNT: ("offline payments exhausted", "synchronise the card"),
    c.SW_EXPIRED: ("expired", "synchronise the card: its certificate or its money needs renewal"),
    c.SW_TIME_PAST: ("time before what the card knows", "set the terminal's clock"),
    c.SW_TIME_FUTURE: ("time too far ahead", "set the terminal's clock, or synchronise the card"),
    c.SW_NETWORK: (
        "another network, version or suite",
        "terminal and card belong to different networks",
    ),
    c.SW_SIGNATURE: (
        "signature does not verify",
        "the object is not from this network's authority",
    ),
    c.SW_STALE: ("not newer than what the card has", "nothing to do"),
    c.SW_NOT_MINE: ("not for this card", "the object names another key"),
    c.SW_ASKED: (
        "the holder is asked",
        "confirm on the card's screen, then tap it again: the same request is repeated",
    ),
    c.SW_DECLINED: ("refused by the holder", "ask the holder, or charge another amount"),
}
"""Status word: (name, what it means or what to do). The last digit of 63Cx, 61xx, 6Cxx carries a number."""


def status(sw: int) -> tuple[str, str]:
    """Name and meaning of a status word; one that is not in the specification stays usable as hex."""
    if sw >> 4 == c.SW_PIN_WRONG >> 4:
        sw = c.SW_PIN_WRONG
    elif sw >> 8 in (c.SW_MORE >> 8, c.SW_LE >> 8):
        sw &= 0xFF00
    return STATUS.get(sw, ("status %04X" % sw, "not defined by chipcash"))
