# SPDX-License-Identifier: Apache-2.0
"""The verification site: static files by which anybody checks a title, receipt or evidence in a browser
(protocols/spec/site.md). It knows the network's public file and the log, and neither ledger nor key."""
