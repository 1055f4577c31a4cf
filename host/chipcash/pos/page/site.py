# SPDX-License-Identifier: Apache-2.0
"""The till's page: the table of its routes, each with the right that it takes, and what keeps it live.

It is a face of a Till, which does the work in threads of its own; here nothing is decided about money. What
is done is written down (chipcash.people.site), what is only looked at is not. Every page has parts that
change by themselves: the browser asks once for a stream of events, and is sent a part whenever it is another
one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import anyio
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from chipcash.books import layout
from chipcash.errors import ChipcashError
from chipcash.people import site as people
from chipcash.people.accounts import Staff
from chipcash.people.site import Answer, Page, Stop, account_pages
from chipcash.pos import Payment, PaymentState, PosError
from chipcash.pos.errors import NotAsked
from chipcash.pos.page.roles import Right
from chipcash.pos.page.views import FILTERS, WARNINGS, fen, to_payer, told
from chipcash.pos.receipts import Receipt, render_html
from chipcash.pos.till import CenterFactory, SaleState, Till
from chipcash.terminal.words import explain

__all__ = ["PAGES", "Site"]

_HERE = Path(__file__).parent
_SIZES = {"payment": 32}
_ROWS = 50
"""Payments of one page of the queue."""
_STREAM_S = 100.0
"""How long a stream of events lasts: the browser asks anew, long before the server cuts it off."""
_DRAWING = 4
"""Streams that look or draw at once, in threads of their own; none keeps a thread while it waits. So however
many pages are open, the threads that requests go through are free."""
_LOOK_S = 1.0
"""How soon a stream sees that its session, or the server, has ended."""
_BEAT_S = 5.0
"""How often it says that it is alive."""

_UNDECIDED = (PaymentState.PENDING, PaymentState.SUBMITTED)

Visit: TypeAlias = "people.Visit[Site]"


@dataclass(frozen=True)
class Part:
    """A part of a page that changes by itself. values: what its template takes, from a visit."""

    name: str
    values: Callable[[Visit], Mapping[str, Any]]


# ---- parts -----------------------------------------------------------------------------------------------


def _status_part(visit: Visit) -> Mapping[str, Any]:
    return {"status": visit.site.till.status()}


def _sale_part(visit: Visit) -> Mapping[str, Any]:
    """The keypad, or the sale that is under way; its result until this browser has gone on from it."""
    sale = visit.site.till.sale
    if sale is not None and sale.state in _OVER and sale.id == visit.query.get("after"):
        sale = None
    with visit.site.till.pos(visit.account.name) as pos:
        shift = pos.shift
        # Those that a charge of the same amount repeats: no bills, and not what another program has named.
        requests = [
            each for each in pos.open_requests() if each.expiry is None and each.reference is None
        ]
    return {"sale": sale, "shift": shift, "requests": requests[:5]}


_FOR_A_CARD = (SaleState.WAITING, SaleState.PAYING, SaleState.UNKNOWN)
"""A browser without a script asks for these anew; not while somebody types a PIN."""
_OVER = frozenset((SaleState.PAID, SaleState.REFUSED, SaleState.CANCELLED))
"""What a browser can go on from. Of an UNKNOWN one cards are asked until it is left open."""


def _queue_part(visit: Visit) -> Mapping[str, Any]:
    """Payments: those that are pending, the first deadline on top; of one state, or all, the newest first."""
    state = visit.query.get("state", "")
    found = re.fullmatch("([0-9]{1,18})-([0-9]{1,18})", visit.query.get("after", ""))
    after = (int(found[1]), int(found[2])) if found else None
    with visit.site.till.pos(visit.account.name) as pos:
        if state in PaymentState.__members__:
            rows = pos.payments(
                PaymentState(state), before=after[1] if after else None, limit=_ROWS + 1
            )
        elif state == "all":
            rows = pos.payments(before=after[1] if after else None, limit=_ROWS + 1)
        else:
            state = ""
            rows = pos.queue(after=after, limit=_ROWS + 1)
        requests = pos.open_requests() if not state and after is None else ()
        summary, exposure = pos.summary(), pos.exposure()
    more = rows[_ROWS - 1] if len(rows) > _ROWS else None
    return {
        "state": state,
        "states": list(PaymentState),
        "rows": rows[:_ROWS],
        "requests": requests,
        "more": more,
        "summary": summary,
        "exposure": exposure,
        "now": visit.site.till.clock(),
    }


def _shift_part(visit: Visit) -> Mapping[str, Any]:
    with visit.site.till.pos(visit.account.name) as pos:
        return {"shift": pos.shift, "shifts": pos.shifts()[:10], "x": None}


def _sync_part(visit: Visit) -> Mapping[str, Any]:
    return {"status": visit.site.till.status()}


PARTS = {
    "charge": Part("sale", _sale_part),
    "queue": Part("queue", _queue_part),
    "shift": Part("shift", _shift_part),
    "sync": Part("sync", _sync_part),
}
"""The part in the middle of each page that has one; the one in the head of every page is `status`."""


# ---- handlers --------------------------------------------------------------------------------------------


def _home(visit: Visit) -> Answer:
    where = "/password" if visit.account.temporary else "/charge"
    return Answer(RedirectResponse(where, 303))


def _shown(page: str) -> Callable[[Visit], Answer]:
    def show(visit: Visit) -> Answer:
        return Answer(visit.site.live_page(visit, page))

    return show


def _charge(visit: Visit) -> Answer:
    amount = fen(visit.form.get("amount", ""))
    if amount is None:
        problem = visit.words("This is no amount. Write yuan, like 36.80.")
        return Answer(
            visit.site.live_page(visit, "charge", 400, problem=problem), outcome="malformed"
        )
    with visit.site.till.pos() as pos:
        if pos.shift is None:
            raise Stop(409, "No shift is open. Open one before you charge.")
    sale = visit.site.till.begin(
        amount, operator=visit.account.name, fresh=visit.form.get("fresh") == "yes"
    )
    return Answer(RedirectResponse("/charge", 303), subject=sale.id, note=f"{amount} fen")


def _cancel(visit: Visit) -> Answer:
    sale = visit.form.get("sale", "")[:64]
    visit.site.till.cancel(sale)
    return Answer(RedirectResponse(f"/charge?after={sale}", 303), subject=sale)


def _leave(visit: Visit) -> Answer:
    sale = visit.form.get("sale", "")[:64]
    visit.site.till.leave(sale)
    return Answer(RedirectResponse("/charge", 303), subject=sale)


def _pin(visit: Visit) -> Answer:
    sale, pin = visit.form.get("sale", "")[:64], visit.form.get("pin", "")
    if not re.fullmatch("[0-9]{4,12}", pin):
        problem = visit.words("A PIN has 4 to 12 digits.")
        return Answer(
            visit.site.live_page(visit, "charge", 400, problem=problem), outcome="malformed"
        )
    visit.site.till.give_pin(sale, pin)
    return Answer(RedirectResponse("/charge", 303), subject=sale)


def _retry(visit: Visit) -> Answer:
    sale = visit.form.get("sale", "")[:64]
    visit.site.till.retry(sale)
    return Answer(RedirectResponse("/charge", 303), subject=sale)


def _give_up(visit: Visit) -> Answer:
    """Give the request of the sale at the till up, or an older one that stayed open."""
    nonce, till = _hex(visit.form.get("nonce", ""), 16), visit.site.till
    sale = till.sale
    if sale is not None and sale.nonce == nonce:
        till.give_up(sale.id)
    else:
        with till.pos(visit.account.name) as pos:
            pos.give_up(nonce)
        till.sync_now()
    return Answer(RedirectResponse("/charge", 303), subject=nonce.hex())


def _payment(visit: Visit) -> Answer:
    with visit.site.till.pos(visit.account.name) as pos:
        payment = pos.payment(visit.ident)
        changes = pos.changes(payment.claim_id)
        returns = Receipt.of(pos, payment).returns
    response = visit.site.html(
        visit, "payment",
        payment=payment, changes=changes, returns=returns, paid=visit.query.get("refunded", ""),
    )  # fmt: skip
    return Answer(response)


def _receipt(visit: Visit) -> Answer:
    return Answer(_receipt_page(visit))


def _receipt_page(visit: Visit, status: int = 200, *, problem: str = "") -> Response:
    with visit.site.till.pos(visit.account.name) as pos:
        receipt = Receipt.of(pos, pos.payment(visit.ident))
    return visit.site.html(
        visit, "receipt", status,
        payment=visit.ident.hex(), shop=receipt.shop, receipt=Markup(render_html(receipt)),
        problem=problem, printed=visit.query.get("printed", ""),
    )  # fmt: skip


def _receipt_pdf(visit: Visit) -> Answer:
    from chipcash.pos.printing import render_pdf

    with visit.site.till.pos(visit.account.name) as pos:
        receipt = Receipt.of(pos, pos.payment(visit.ident))
    return Answer(Response(render_pdf(receipt), media_type="application/pdf"))


def _print(visit: Visit) -> Answer:
    from chipcash.pos.printing import PrinterError, print_receipt

    with visit.site.till.pos(visit.account.name) as pos:
        receipt = Receipt.of(pos, pos.payment(visit.ident))
    subject = visit.ident.hex()
    try:
        print_receipt(receipt, receipt.shop.printer)
    except PrinterError:
        problem = visit.words(
            "The printer does not take the receipt. The payment stands. See that it is on and has paper."
        )
        return Answer(_receipt_page(visit, 409, problem=problem), subject, outcome="failed")
    return Answer(RedirectResponse(f"/receipts/{subject}?printed=yes", 303), subject)


def _refund_form(visit: Visit) -> Answer:
    with visit.site.till.pos(visit.account.name) as pos:
        payment = pos.payment(visit.ident)
    return Answer(_refund_page(visit, payment))


def _refund_page(
    visit: Visit, payment: Payment, status: int = 200, *, problem: str = "", hint: str = ""
) -> Response:
    # A form has a name of its own, so that sending it twice pays once.
    reference = visit.form.get("reference") or f"page-{secrets.token_hex(8)}"
    return visit.site.html(
        visit, "refund", status,
        payment=payment, problem=problem, hint=hint, reference=reference,
        amount=visit.form.get("amount", ""),
    )  # fmt: skip


def _refund(visit: Visit) -> Answer:
    till = visit.site.till
    amount = fen(visit.form.get("amount", ""))
    reference = visit.form.get("reference", "")
    with till.pos(visit.account.name) as pos:
        payment = pos.payment(visit.ident)
        subject = payment.claim_id.hex()
        if amount is None or not re.fullmatch("page-[0-9a-f]{16}", reference):
            problem = visit.words("This is no amount. Write yuan, like 36.80.")
            return Answer(
                _refund_page(visit, payment, 400, problem=problem), subject, outcome="malformed"
            )
        note = f"{amount} fen, {reference}"
        visit.site.staff.record(
            visit.account, "refund", visit.address, subject=subject, outcome="begun", note=note
        )
        kind = "yes"
        try:
            if payment.state in _UNDECIDED:
                kind = "promised"
                pos.promise_refund(payment.claim_id, amount, reference=reference)
            else:
                with visit.site.center(pos) as center:
                    pos.refund(payment.claim_id, amount, center, reference=reference)
        except PosError as error:
            problem, hint = told(visit.words, error.message), told(visit.words, error.hint)
            page = _refund_page(visit, payment, 409, problem=problem, hint=hint)
            return Answer(page, subject, outcome="refused", note=note)
        except ChipcashError as error:
            # Whatever kept it from being completed: once it is in the books, it goes out.
            if pos.transferred(reference) is None:
                raise
            problem = visit.words(
                "The order is recorded and goes out with the next synchronisation. Do not give it again."
            )
            hint = told(visit.words, error.message)
            page = _refund_page(visit, payment, 503, problem=problem, hint=hint)
            return Answer(page, subject, outcome="unknown", note=note)
    return Answer(RedirectResponse(f"/payments/{subject}?refunded={kind}", 303), subject, note=note)


def _open_shift(visit: Visit) -> Answer:
    with visit.site.till.pos(visit.account.name) as pos:
        shift = pos.open_shift()
    return Answer(RedirectResponse("/charge", 303), subject=str(shift.number))


def _close_shift(visit: Visit) -> Answer:
    with visit.site.till.pos(visit.account.name) as pos:
        shift = pos.shift
        if shift is not None:
            if shift.opened_by != visit.account.name and not visit.account.may(Right.CLOSE):
                raise Stop(403, "This shift is somebody else's: a manager closes it.")
            if visit.form.get("shift") != str(shift.number):
                raise Stop(409, "Another shift is open now. Look at it before you close it.")
        closed = pos.close_shift()
    return Answer(RedirectResponse(f"/report?shift={closed.number}", 303), str(closed.number))


def _report(visit: Visit) -> Answer:
    """The Z report of a closed shift, by its number, else an X: a look at what is since the last Z."""
    number = visit.number("shift", 0)
    with visit.site.till.pos(visit.account.name) as pos:
        report = pos.z_report(number) if number else pos.x_report()
    words = layout.Words(visit.words.language)
    # Which till it is says the page already.
    heading, _, *lines = (x for x in layout.title(report, words) if not x.endswith(report.till))
    response = visit.site.html(
        visit, "report",
        report=report, heading=heading, lines=lines, tables=layout.tables(report, words),
        money=layout.money,
    )  # fmt: skip
    return Answer(response)


def _sync(visit: Visit) -> Answer:
    visit.site.till.sync_now()
    return Answer(RedirectResponse("/sync", 303))


def _settings(visit: Visit) -> Answer:
    with visit.site.till.pos(visit.account.name) as pos:
        limits, center_url, key = pos.limits, pos.center_url, pos.public.hex()
    response = visit.site.html(
        visit, "settings",
        status=visit.site.till.status(), limits=limits, center_url=center_url, key=key,
        accounts=visit.site.staff.all(),
    )  # fmt: skip
    return Answer(response)


PAGES: tuple[Page[Any], ...] = (
    Page("GET", "/", "home", Right.ANY, _home, recorded=False),
    *account_pages(),
    Page("GET", "/charge", "charge form", Right.CHARGE, _shown("charge"), recorded=False),
    Page("POST", "/charge", "charge", Right.CHARGE, _charge),
    Page("POST", "/cancel", "cancel", Right.CHARGE, _cancel),
    Page("POST", "/retry", "retry", Right.CHARGE, _retry),
    Page("POST", "/leave", "leave open", Right.CHARGE, _leave),
    Page("POST", "/pin", "card's PIN", Right.CHARGE, _pin),
    Page("POST", "/giveup", "give up", Right.CHARGE, _give_up),
    Page("GET", "/queue", "queue", Right.CHARGE, _shown("queue"), recorded=False),
    Page("GET", "/payments/{payment}", "payment", Right.CHARGE, _payment, recorded=False),
    Page("GET", "/receipts/{payment}", "receipt", Right.CHARGE, _receipt, recorded=False),
    Page(
        "GET",
        "/receipts/{payment}/pdf",
        "receipt as PDF",
        Right.CHARGE,
        _receipt_pdf,
        recorded=False,
    ),
    Page("POST", "/receipts/{payment}/print", "print receipt", Right.CHARGE, _print),
    Page("GET", "/refund/{payment}", "refund form", Right.REFUND, _refund_form, recorded=False),
    Page("POST", "/refund/{payment}", "refund", Right.REFUND, _refund),
    Page("GET", "/shift", "shift", Right.CHARGE, _shown("shift"), recorded=False),
    Page("POST", "/shift/open", "open shift", Right.CHARGE, _open_shift),
    Page("POST", "/shift/close", "close shift", Right.CHARGE, _close_shift),
    Page("GET", "/report", "report", Right.CHARGE, _report, recorded=False),
    Page("GET", "/sync", "sync state", Right.CHARGE, _shown("sync"), recorded=False),
    Page("POST", "/sync", "sync", Right.CHARGE, _sync),
    Page("GET", "/settings", "settings", Right.SETTINGS, _settings, recorded=False),
)
"""Every page. Beside them /live, the stream of changes, and /static, the same for everybody."""


# ---- the site --------------------------------------------------------------------------------------------


class Site(people.Site):
    """The page of a till, over its staff's accounts and their record.

    till: running; center: opens the way to the center, for refunds; ending: tells streams that the server
    wants to end.
    """

    prefix = "till-"
    policy = "connect-src 'self'; "
    sizes = _SIZES
    no_id = "There is no such payment in these books."
    unreadable = "The till's books cannot be used just now. Nothing was done. Try again."

    def __init__(
        self,
        till: Till,
        staff: Staff,
        center: CenterFactory,
        *,
        ending: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(staff, PAGES, _HERE)
        self.till = till
        self.center = center
        self.ending = ending
        self.templates.filters.update(FILTERS)
        self.templates.globals.update(Right=Right, SaleState=SaleState, warnings=WARNINGS)
        self._drawing = anyio.CapacityLimiter(_DRAWING)
        self._happened = asyncio.Event()
        self._listener: threading.Thread | None = None

    def shown(self, visit: people.Visit[Any]) -> dict[str, Any]:
        """What the head of every page takes, and the function that translates errors. over: the last sale, if
        there is nothing more to do in it."""
        sale, account = self.till.sale, visit.visitor
        return {
            "over": sale.id if sale is not None and sale.state in _OVER else "",
            "told": lambda text: told(visit.words, text),
            "live": "",
            "parts": self._parts(visit, "") if account and account.may(Right.CHARGE) else {},
        }

    def told(self, visit: people.Visit[Any], error: ChipcashError) -> Answer | None:
        """What the till refuses, in its words."""
        if not isinstance(error, PosError):
            return None
        payer = ""
        if isinstance(error, NotAsked):
            payer = explain(error.reason, visit.words.language, asked=False).payer
        page = self.html(
            visit, "refused", 409,
            message=told(visit.words, error.message), hint=told(visit.words, error.hint), payer=payer,
        )  # fmt: skip
        return Answer(page, outcome="refused")

    # ---- live parts -------------------------------------------------------------------------------------

    def live_page(
        self, visit: Visit, page: str, status: int = 200, *, problem: str = ""
    ) -> Response:
        """A page whose middle changes by itself. problem: with what it was asked for."""
        query = {name: visit.query[name] for name in ("after", "state") if name in visit.query}
        sale = self.till.sale
        return self.html(
            visit, page, status,
            parts=self._parts(visit, page), live=page, query=query, problem=problem,
            waiting=sale is not None and sale.state in _FOR_A_CARD,
        )  # fmt: skip

    def _parts(self, visit: Visit, page: str) -> dict[str, tuple[str, Markup]]:
        """The live parts of a page: their hash, and their HTML."""
        found = {}
        for part in (_STATUS, *([PARTS[page]] if page in PARTS else [])):
            # Not html(): a part has no parts.
            account = visit.visitor
            text = self.templates.get_template(f"part_{part.name}.html").render(
                _=visit.words,
                account=account,
                csrf=account.csrf if account else "",
                told=lambda text: told(visit.words, text),
                to_payer=lambda sale: to_payer(visit.words, sale),
                **part.values(visit),
            )
            digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
            found[part.name] = (digest, Markup(text))  # escaped by its template
        return found

    def more_routes(self) -> Sequence[BaseRoute]:
        """The stream of changes."""
        return [Route("/live", self._live, methods=["GET"])]

    async def _live(self, request: Request) -> Response:
        return StreamingResponse(
            self._events(request),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    async def _events(self, request: Request) -> AsyncIterator[str]:
        """Server-sent events: `part` with a part that changed, `beat`, `over` when the session is."""
        self._listen()
        visit = self.visit(request)
        page = visit.query.get("on", "")
        sent: dict[str, str] = {}
        number, began, beat = -1, time.monotonic(), 0.0
        yield "retry: 500\n\n"
        while time.monotonic() - began < _STREAM_S and not self.ending() and not self.till.closing:
            happened = self._happened  # before the look, so that nothing falls between
            number, parts = await anyio.to_thread.run_sync(
                self._look, visit, page, number, limiter=self._drawing
            )
            if parts is None:
                yield "event: over\ndata: over\n\n"
                return
            for name, (digest, html) in parts.items():
                if sent.get(name) != digest:
                    sent[name] = digest
                    data = json.dumps({"name": name, "hash": digest, "html": str(html)})
                    yield f"event: part\ndata: {data}\n\n"
            if time.monotonic() - beat >= _BEAT_S:
                beat = time.monotonic()
                yield "event: beat\ndata: beat\n\n"
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await happened.wait()

    def _listen(self) -> None:
        """Have one thread wait for the till's events, for all streams. Called in the server's loop."""
        if self._listener is None or not self._listener.is_alive():
            loop = asyncio.get_running_loop()
            self._listener = threading.Thread(
                target=self._tell, args=(loop,), name="page's events", daemon=True
            )
            self._listener.start()

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        """The life of that thread."""
        number = -1
        while not self.ending() and not self.till.closing:
            newest = self.till.wait(number, _LOOK_S)
            if newest != number:
                number = newest
                with suppress(RuntimeError):  # the loop was closed just now
                    loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._happened.set()
        self._happened = asyncio.Event()

    def _look(
        self, visit: Visit, page: str, number: int
    ) -> tuple[int, dict[str, tuple[str, Markup]] | None]:
        """The number of the newest event, and the parts as they are, none if nothing changed; None where the
        session is over."""
        newest = self.till.wait(-1, 0)
        try:
            visit = self.identified(visit)
            account = visit.visitor
            if account is None or not account.may(Right.CHARGE):
                return newest, None
            return newest, {} if newest == number else self._parts(visit, page)
        except ChipcashError:
            return number, {}  # the books cannot be read just now: the next look may


_STATUS = Part("status", _status_part)


def _hex(text: str, size: int) -> bytes:
    """The bytes of an id in a form. Raises Stop."""
    if not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", text):
        raise Stop(400, "There is no such payment in these books.", "malformed")
    return bytes.fromhex(text)
