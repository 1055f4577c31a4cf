# SPDX-License-Identifier: Apache-2.0
"""The issuing library (central bank) and the bank library (commercial bank)."""
