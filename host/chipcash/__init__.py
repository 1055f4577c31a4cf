# SPDX-License-Identifier: Apache-2.0
"""chipcash: a kit for dual-offline digital cash."""

__version__ = "0.1.0"
