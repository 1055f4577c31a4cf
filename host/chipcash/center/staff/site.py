# SPDX-License-Identifier: Apache-2.0
"""The pages of a center's staff: the table of their routes, each with the right that it takes.

Every look is written down before it is answered (chipcash.people.site). Nothing here moves money; the one
thing that changes the ledger is `block`, which is written down before it is done as well as after.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response

from chipcash.center.errors import CenterRefused, LedgerError
from chipcash.center.inquiry import LATEST, Inquiry, Moment
from chipcash.center.staff.health import Health
from chipcash.center.staff.roles import Right
from chipcash.center.staff.views import FILTERS, Views
from chipcash.errors import ChipcashError
from chipcash.people import site as people
from chipcash.people.accounts import Staff
from chipcash.people.errors import TrailBroken
from chipcash.people.site import Answer, Page, Stop, account_pages
from chipcash.trust import Trust

__all__ = ["PAGES", "Center", "create_app"]

_log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
_SIZES = {"key": 33, "id": 32, "digest": 32, "serial": 16}
_COUNT = 100
"""Rows of a page of a list."""
_FIRST = 1 << 62
"""Above the number of every entry of the record."""
_MAX_REASON = 400


@dataclass(frozen=True)
class Center:
    """The center that the pages are about.

    inquiry: its ledger, to be read; trust: the network; block: puts a key on the blacklist, for good, and
    raises ChipcashError if that cannot be done here; health: how it is.
    """

    inquiry: Inquiry
    trust: Trust
    block: Callable[[bytes], None]
    health: Callable[[], Health]


Visit: TypeAlias = "people.Visit[Site]"


# ---- handlers ------------------------------------------------------------------------------------------


def _home(visit: Visit) -> Answer:
    if visit.account.temporary:
        return Answer(RedirectResponse("/password", 303))
    for right, path in ((Right.LOOK, ""), (Right.BLOCK, "/block"), (Right.TRAIL, "/trail")):
        if visit.account.may(right):
            return Answer(RedirectResponse(path, 303) if path else visit.site.html(visit, "home"))
    return Answer(RedirectResponse("/health", 303))


def _find(visit: Visit) -> Answer:
    """To the page of a serial, a title's, claim's or evidence's id, or a key."""
    text = _hex(visit.query.get("q", ""))
    if not re.fullmatch("(?:[0-9a-f]{2})+", text):
        raise Stop(400, "This is no serial, id or key: these are digits of hex.", "malformed")
    data = bytes.fromhex(text)
    inquiry = visit.site.center.inquiry
    where = ""
    if len(data) == 16:
        where = f"/coins/{text}"
    elif len(data) == 33:
        where = f"/holders/{text}"
    elif len(data) == 32:
        for kind, look in (
            ("titles", inquiry.title),
            ("claims", inquiry.claim),
            ("evidence", inquiry.evidence),
        ):
            try:
                look(data)
                where = f"/{kind}/{text}"
                break
            except CenterRefused:
                continue
    if not where:
        raise Stop(404, "The ledger knows nothing of this name.", "unknown")
    return Answer(RedirectResponse(where, 303), subject=text)


def _coin(visit: Visit) -> Answer:
    view = visit.site.views.coin(visit.ident, visit.number("page", 1), visit.number("part", 1))
    return Answer(visit.site.html(visit, "coin", **view))


def _title(visit: Visit) -> Answer:
    return Answer(visit.site.html(visit, "title", **visit.site.views.title(visit.ident)))


def _claim(visit: Visit) -> Answer:
    return Answer(visit.site.html(visit, "claim", **visit.site.views.claim(visit.ident)))


def _disputes(visit: Visit) -> Answer:
    view = visit.site.views.disputes(_moment(visit))
    return Answer(visit.site.html(visit, "disputes", **view))


def _dispute(visit: Visit) -> Answer:
    return Answer(visit.site.html(visit, "dispute", **visit.site.views.dispute(visit.ident)))


def _evidence(visit: Visit) -> Answer:
    evidence = visit.site.center.inquiry.evidence(visit.ident)
    name = f"evidence-{visit.ident.hex()[:16]}.bin"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Answer(Response(evidence.encode(), 200, headers, "application/octet-stream"))


def _holder(visit: Visit) -> Answer:
    view = visit.site.views.holder(visit.ident, _moment(visit))
    return Answer(visit.site.html(visit, "holder", **view))


def _health(visit: Visit) -> Answer:
    return Answer(visit.site.html(visit, "health", health=visit.site.center.health()))


def _block_form(visit: Visit) -> Answer:
    text = _hex(visit.query.get("key", ""))
    listed = card = None
    if re.fullmatch("0[23][0-9a-f]{64}", text):
        inquiry = visit.site.center.inquiry
        listed, card = inquiry.listed(bytes.fromhex(text)), inquiry.card(bytes.fromhex(text))
    response = visit.site.html(
        visit, "block", key=text, listed=listed, card=card, problem="", reason=""
    )
    return Answer(response, subject=text)


def _block(visit: Visit) -> Answer:
    text = _hex(visit.form.get("key", ""))
    reason = " ".join(visit.form.get("reason", "").split())
    problem = ""
    if not re.fullmatch("0[23][0-9a-f]{64}", text):
        problem = "A key has 66 digits of hex and begins with 02 or 03."
    elif not 5 <= len(reason) <= _MAX_REASON:
        problem = (
            "Say why, in 5 to 400 characters: who asked for it, and how you know that it is theirs."
        )
    elif visit.form.get("sure") != "yes":
        problem = "Confirm that you have compared the key: there is no way back."
    if problem:
        response = visit.site.html(
            visit, "block", 400,
            key=text, listed=None, card=None, problem=visit.words(problem), reason=reason,
        )  # fmt: skip
        return Answer(response, subject=text, outcome="malformed", note=reason)
    visit.site.staff.record(
        visit.account, "block", visit.address, subject=text, outcome="begun", note=reason
    )
    try:
        visit.site.center.block(bytes.fromhex(text))
    except (ChipcashError, OSError) as error:
        _log.error("a key was not blocked: %s", error)
        raise Stop(503, "It may not have been done. Look at the key again before you repeat it.",
                    "failed") from None  # fmt: skip
    return Answer(RedirectResponse(f"/block?key={text}", 303), subject=text, note=reason)


def _trail(visit: Visit) -> Answer:
    problem, entries = "", []
    try:
        entries = visit.site.staff.trail.page(visit.number("before", _FIRST), _COUNT)
    except TrailBroken as error:
        _log.error("%s", error.message)
        problem = visit.words(
            "Entry %(number)s of the record is missing, changed or not in its place.",
            number=error.facts["number"],
        )
    older = entries[-1].number if entries and entries[-1].number > 1 else None
    response = visit.site.html(
        visit, "trail", entries=entries, problem=problem, older=older,
        head=visit.site.staff.trail.head(),
    )  # fmt: skip
    return Answer(response, note="" if not problem else "the record is broken")


PAGES: tuple[Page[Any], ...] = (
    Page("GET", "/", "home", Right.ANY, _home),
    *account_pages(),
    Page("GET", "/find", "find", Right.LOOK, _find),
    Page("GET", "/coins/{serial}", "coin", Right.LOOK, _coin),
    Page("GET", "/titles/{id}", "title", Right.LOOK, _title),
    Page("GET", "/claims/{id}", "claim", Right.LOOK, _claim),
    Page("GET", "/disputes", "disputes", Right.DISPUTES, _disputes),
    Page("GET", "/disputes/{id}", "dispute", Right.DISPUTES, _dispute),
    Page("GET", "/evidence/{digest}", "evidence", Right.DISPUTES, _evidence),
    Page("GET", "/holders/{key}", "holder", Right.DISPUTES, _holder),
    Page("GET", "/block", "block form", Right.BLOCK, _block_form),
    Page("POST", "/block", "block", Right.BLOCK, _block),
    Page("GET", "/trail", "trail", Right.TRAIL, _trail),
    Page("GET", "/health", "health", Right.ANY, _health),
)
"""Every route. /static holds a style sheet and a script, the same for everybody."""


class Site(people.Site):
    """The pages over a center, its staff's accounts and their record."""

    sizes = _SIZES
    no_id = "This is no serial, id or key: these are digits of hex."
    unreadable = "The ledger cannot be read just now. Try again later."

    def __init__(self, center: Center, staff: Staff) -> None:
        super().__init__(staff, PAGES, _HERE)
        self.center = center
        self.views = Views(center.inquiry, center.trust)
        self.templates.filters.update(FILTERS)
        self.templates.globals["Right"] = Right

    def told(self, visit: people.Visit[Any], error: ChipcashError) -> Answer | None:
        """What the ledger does not know, and where it contradicts itself."""
        if isinstance(error, CenterRefused):
            message = "The ledger knows nothing of this name."
            return Answer(self.failure(visit, error.status, message), outcome="unknown")
        if isinstance(error, LedgerError):
            _log.error("%s", error.message)
            message = "The ledger contradicts itself here. Stop the center, and tell who runs it."
            return Answer(self.failure(visit, 500, message), outcome="failed")
        return None


def create_app(center: Center, staff: Staff, names: Sequence[str] = ()) -> Starlette:
    """The ASGI application of the staff's pages. names: see people.Site.app."""
    return Site(center, staff).app(names)


def _moment(visit: Visit) -> Moment:
    """Before what a list begins, `before` of the query; with its newest if there is none."""
    found = re.fullmatch("([0-9]{1,18})-([0-9a-f]{64})", visit.query.get("before", ""))
    return (int(found[1]), bytes.fromhex(found[2])) if found else LATEST


def _hex(text: str) -> str:
    """Hex as people paste it."""
    return re.sub(r"\s", "", text)[:200].lower()
