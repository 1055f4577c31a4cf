# SPDX-License-Identifier: Apache-2.0
"""The tests in inside/ run inside a private pcscd only; test_till_browser.py starts them there."""

from chipcash_sim import pcscd

collect_ignore = [] if pcscd.current() else ["inside"]
