# SPDX-License-Identifier: Apache-2.0
"""The page of a registration center's staff: who may look at what, and the record of who did."""
