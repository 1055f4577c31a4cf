# SPDX-License-Identifier: Apache-2.0
"""People in front of pages: accounts, sessions, the record of what they did, and the way of a request.

What the pages of a center's staff and the page of a till share. `accounts.py` who they are, `trail.py` what
they did, `words.py` their language, `site.py` how a request is answered, `service.py` where that happens.
"""
