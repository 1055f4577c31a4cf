# SPDX-License-Identifier: Apache-2.0
"""The tests in pcsc/ run inside a private pcscd only; test_transport_pcsc.py starts them there."""

from chipcash_sim import pcscd

collect_ignore = [] if pcscd.current() else ["pcsc"]
