# SPDX-License-Identifier: Apache-2.0
"""What a board runs at power on: the card. chipcash_config is the board's, with the FORM of card it is."""

from chipcash_wire.compat import keep_heap_whole

keep_heap_whole()  # before the rest is loaded, and lies scattered among garbage

import chipcash_config  # noqa: E402
from chipcash_board.start import start  # noqa: E402

start(chipcash_config, chipcash_config.FORM)
