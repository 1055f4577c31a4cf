# SPDX-License-Identifier: Apache-2.0
"""What a board runs at power on: the card. chipcash_config is the board's, with the FORM of card it is."""

import chipcash_config
from chipcash_board.start import start

start(chipcash_config, chipcash_config.FORM)
