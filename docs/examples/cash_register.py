# SPDX-License-Identifier: Apache-2.0
"""A cash register that took cash, and takes chipcash now: what was added stands between the rulers."""

import sys

# ------------------------------------------------------------------------------------------------
from chipcash.errors import ChipcashError
from chipcash.pos import AnswerLost, Pos
from chipcash.transports import open_path


def take_chipcash(order: str, fen: int) -> bool:
    with Pos(TILL) as pos:
        while True:
            try:
                with open_path(READER, wait=60) as card:
                    pos.charge(card, fen, reference=order)  # it is stored: paid
                    return True
            except AnswerLost as lost:  # the card may have paid: ask the same one again
                print(lost.message, lost.hint)
                if input("Tap again? ") == "no":
                    pos.give_up(lost.nonce)
                    return False
            except ChipcashError as error:
                print(error.message, error.hint)
                return False
# ------------------------------------------------------------------------------------------------


def sell(order: str, fen: int, take) -> None:
    print(f"{order}, {fen / 100:.2f} yuan:", "paid" if take(order, fen) else "NOT PAID")


if __name__ == "__main__":
    TILL, READER, *prices = sys.argv[1:]
    for number, price in enumerate(prices, 1):
        sell(f"order-{number}", int(price), take_chipcash)
