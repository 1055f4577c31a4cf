# SPDX-License-Identifier: Apache-2.0
"""Emulated hardware between a card's plug (chipcash_sim.plug) and what a real host stack opens."""
