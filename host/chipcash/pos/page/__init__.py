# SPDX-License-Identifier: Apache-2.0
"""The till's page: charging, the queue, refunds, shifts and synchronising, for who works at the till."""
