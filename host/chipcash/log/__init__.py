# SPDX-License-Identifier: Apache-2.0
"""The registration center's append-only Merkle log, its witnesses and its audit (protocols/spec/log.md)."""
