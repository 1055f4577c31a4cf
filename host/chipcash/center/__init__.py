# SPDX-License-Identifier: Apache-2.0
"""The registration center: ledger, HTTP service and client (protocols/spec/center.md)."""
