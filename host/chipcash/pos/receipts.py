# SPDX-License-Identifier: Apache-2.0
"""The customer's receipt of a payment: one value, told as text or as a piece of a web page; printing.py makes
paper of it.

Its code is the claim that the card has signed, by which anybody asks the verification site what became of
the payment (protocols/spec/site.md). Not the titles: who finds a receipt is not to see where the rest of them
goes.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from chipcash import qr
from chipcash.pos.errors import PosError
from chipcash.pos.model import Payment, PromiseState
from chipcash.pos.model import PaymentState as P
from chipcash_wire import objects as o

if TYPE_CHECKING:
    from chipcash.pos.pos import Pos

__all__ = [
    "LANGUAGES",
    "PAPERS",
    "Line",
    "Receipt",
    "Return",
    "Shop",
    "find_payment",
    "render_html",
    "render_text",
    "wrapped",
]

LANGUAGES = {"en": ("en",), "zh": ("zh",), "both": ("en", "zh")}
"""What a shop may choose, and in which languages its receipts speak then."""
PAPERS = {80: (48, 576), 58: (32, 384)}
"""Widths of paper in mm, and how many letters and dots an ESC/POS printer has on it."""

_CARD_DIGITS = 8
_ID_DIGITS = 8

_LABELS: Mapping[str, Mapping[str, str]] = {
    "title": {"en": "RECEIPT", "zh": "收据"},
    "till": {"en": "Till", "zh": "收款终端"},
    "time": {"en": "Time", "zh": "时间"},
    "amount": {"en": "Amount", "zh": "金额"},
    "card": {"en": "Card", "zh": "卡"},
    "reference": {"en": "Order", "zh": "订单"},
    "id": {"en": "Payment", "zh": "支付编号"},
    "operator": {"en": "Cashier", "zh": "收银员"},
    "shift": {"en": "Shift", "zh": "班次"},
    "deadline": {"en": "Deposit by", "zh": "存入期限"},
    "refunded": {"en": "Refunded", "zh": "已退款"},
    "refunding": {"en": "Refund under way", "zh": "退款处理中"},
    "promised": {"en": "Refund promised", "zh": "承诺退款"},
    "lapsed": {"en": "Refund lapsed", "zh": "退款失效"},
    "proof": {"en": "Proof of the promised refund", "zh": "承诺退款的证明"},
    "site": {"en": "Check this payment", "zh": "查验这笔支付"},
    "code": {
        "en": "Check this payment on the network's verification site.",
        "zh": "可在本网络的查验网站上查验这笔支付。",
    },
}
_STATES: Mapping[str, Mapping[str, str]] = {
    "pending": {
        "en": "PAID - Pending Repeat Payment Verification. You have paid, and owe the shop nothing more. The "
        "shop could not ask the registration center yet, and does so by the date below.",
        "zh": "已付款，待重复支付验证。您已付款，无须再向商店支付。"
        "商店尚未能联系登记中心，将在下列期限前完成。",
    },
    "verified": {
        "en": "PAID and verified by the registration center.",
        "zh": "已付款，登记中心已验证。",
    },
    "disputed": {
        "en": "DISPUTED: the registration center did not credit %(lost)s of this payment to the shop.",
        "zh": "有争议：登记中心未将其中 %(lost)s 记入商店账户。",
    },
    "expired": {
        "en": "NOT PAID: the shop asked the registration center too late; the money goes back to the card.",
        "zh": "未付款：商店联系登记中心过迟，款项退回该卡。",
    },
    "promise": {
        "en": "A promised refund takes effect when the payment is verified; synchronise your card then.",
        "zh": "承诺的退款在支付验证后生效，届时请同步您的卡。",
    },
}
_TOLD = {
    P.PENDING: "pending",
    P.SUBMITTED: "pending",
    P.VERIFIED: "verified",
    P.REDEEMED: "verified",
    P.SPENT: "verified",
    P.DISPUTED: "disputed",
    P.EXPIRED: "expired",
}
"""What the states of a payment are to who paid it: that the shop spent the money since is none of theirs."""


@dataclass(frozen=True)
class Shop:
    """What a till prints of its shop, and where. site: URL of the network's verification site, empty for
    none; language: one of LANGUAGES; paper: mm, one of PAPERS; printer: as of printing.print_receipt, empty
    for none."""

    name: str = ""
    till: str = ""
    site: str = ""
    language: str = "both"
    paper: int = 80
    printer: str = ""

    def __post_init__(self) -> None:
        """Raises PosError on what cannot be printed."""
        wrong = ""
        if not (self.name + self.till).isprintable() or max(len(self.name), len(self.till)) > 64:
            wrong = "The names of shop and till are one line each, of at most 64 letters."
        elif self.language not in LANGUAGES or self.paper not in PAPERS:
            wrong = f"A receipt's language is one of {', '.join(LANGUAGES)}, its paper 80 or 58 mm wide."
        elif self.printer and not re.fullmatch(
            r"(tcp|file|serial):[\x21-\x7e]{1,200}", self.printer
        ):
            wrong = f"{self.printer} is no printer: tcp:HOST:9100, file:/dev/usb/lp0, serial:/dev/ttyUSB0."
        elif self.site and not _is_site(self.site):
            wrong = f"{self.site} is no address of a verification site."
        if wrong:
            raise PosError(
                f"{wrong} Nothing was changed.", hint="A site is named like https://site.example/."
            )

    @classmethod
    def load(cls, pos: Pos) -> Shop:
        """The one that a POS has stored."""
        get = pos.store.get
        return cls(
            name=get("shop_name"),
            till=get("till_name"),
            site=get("site_url"),
            language=get("receipt_language", "both"),
            paper=int(get("receipt_paper", "80")),
            printer=get("receipt_printer"),
        )

    def save(self, pos: Pos) -> None:
        """Have a POS print this from now on."""
        with pos.store.transaction():
            pos.store.set("shop_name", self.name)
            pos.store.set("till_name", self.till)
            pos.store.set("site_url", self.site)
            pos.store.set("receipt_language", self.language)
            pos.store.set("receipt_paper", str(self.paper))
            pos.store.set("receipt_printer", self.printer)


@dataclass(frozen=True)
class Return:
    """Money of a payment that goes back to its card: fen, seconds since 1970. state: how far it is; lapsed:
    it was promised, and the payment did not become money."""

    amount: int
    time: int
    state: Literal["refunded", "refunding", "promised", "lapsed"]


@dataclass(frozen=True)
class Line:
    """A line of a receipt, in one language or two. kind: what it is, for who lays it out; label: empty but
    in rows."""

    kind: Literal["heading", "amount", "state", "row", "note"]
    value: str
    label: str = ""


@dataclass(frozen=True)
class Receipt:
    """What a customer gets about a payment. Amounts are fen, times seconds since 1970.

    payment: the first digits of its claim's id; card: the last of the card's key; reference: the order's name
    at the till; code: what its QR code holds, an address of the verification site where the shop names one;
    proofs: refunds that were promised, and what the code of each holds, the promise as the till signed it.
    """

    shop: Shop
    payment: str
    time: int
    amount: int
    state: P
    lost: int
    card: str
    deadline: int
    code: str
    reference: str = ""
    operator: str = ""
    shift: int | None = None
    returns: tuple[Return, ...] = ()
    proofs: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, pos: Pos, payment: Payment) -> Receipt:
        """The receipt of a payment of a POS, as things stand."""
        shop = Shop.load(pos)
        claim = o.Payment.decode(payment.data).claim
        (text,) = qr.encode(claim.encode())
        returns = [
            Return(
                row["amount"] if row["settled_fen"] is None else row["settled_fen"],
                row["time"],
                "refunding" if row["settled_fen"] is None else "refunded",
            )
            for row in pos.store.all(
                # Of one that came too late nothing went back: it is made again, or is none.
                "SELECT amount, settled_fen, time FROM deposits WHERE refund_of = ?"
                " AND settled_fen IS NOT 0 ORDER BY id",
                payment.claim_id,
            )
        ]
        proofs = []
        for promise in reversed(pos.promises(payment.claim_id)):
            left = promise.amount - promise.paid_fen
            if promise.state is PromiseState.PROMISED:
                returns.append(Return(left, promise.time, "promised"))
                proofs.append((promise.amount, qr.encode(promise.data)[0]))
            elif promise.state in (PromiseState.PARTLY, PromiseState.CANCELLED):
                returns.append(Return(left, promise.time, "lapsed"))
        return cls(
            shop=shop,
            payment=payment.claim_id.hex()[:_ID_DIGITS],
            time=payment.time,
            amount=payment.amount,
            state=payment.state,
            lost=payment.disputed_fen,
            card=payment.payer.hex()[-_CARD_DIGITS:],
            deadline=payment.deadline,
            code=f"{shop.site}#{text}" if shop.site else text,
            reference=payment.reference or "",
            operator=payment.operator,
            shift=payment.shift,
            returns=tuple(returns),
            proofs=tuple(proofs),
        )

    def lines(self) -> Iterator[Line]:
        """What it says, from top to bottom, but for its code."""
        yield Line("heading", self.shop.name or self._label("title"))
        yield Line("amount", self._money(self.amount))
        told = _TOLD[self.state]
        yield from self._paragraphs("state", _STATES[told], lost=self.lost)
        rows = (
            ("till", self.shop.till),
            ("operator", self.operator),
            ("shift", "" if self.shift is None else str(self.shift)),
            ("time", _when(self.time)),
            ("reference", self.reference),
            ("card", f"...{self.card}"),
            ("id", self.payment),
            ("deadline", _when(self.deadline) if told == "pending" else ""),
        )
        for name, value in rows:
            if value:
                yield Line("row", value, self._label(name))
        for each in self.returns:
            yield Line(
                "row", f"{self._money(each.amount)}, {_when(each.time)}", self._label(each.state)
            )
        if any(each.state == "promised" for each in self.returns):
            yield from self._paragraphs("note", _STATES["promise"])
        if self.shop.site:
            yield Line("note", f"{self._label('site')}: {self.shop.site}")
        else:
            yield from self._paragraphs("note", _LABELS["code"])

    def codes(self) -> Iterator[tuple[str, str]]:
        """Caption and text of each QR code below its lines: of the payment, then of what was promised."""
        yield "", self.code
        for amount, text in self.proofs:
            yield f"{self._label('proof')}: {self._money(amount)}", text

    @property
    def title(self) -> str:
        """What it is called, in its languages."""
        return self._label("title")

    @property
    def check(self) -> str:
        """What its code is for, in its languages."""
        return self._label("site")

    @property
    def _languages(self) -> tuple[str, ...]:
        return LANGUAGES[self.shop.language]

    def _label(self, name: str) -> str:
        return " ".join(_LABELS[name][language] for language in self._languages)

    def _money(self, fen: int) -> str:
        return _money(fen, "元" if self._languages == ("zh",) else "yuan")

    def _paragraphs(
        self, kind: Literal["state", "note"], texts: Mapping[str, str], lost: int = 0
    ) -> Iterator[Line]:
        for language in self._languages:
            money = _money(lost, "元" if language == "zh" else "yuan")
            yield Line(kind, texts[language] % {"lost": money})


def find_payment(pos: Pos, name: str) -> Payment:
    """A payment by what people know it by: what its receipt calls it (or more digits of its claim's id), its
    nonce in hex, or the order's name at the till. Raises PosError if it names none, or not one alone."""
    found = pos.store.all(
        "SELECT nonce FROM requests WHERE reference = ? AND state = 'ANSWERED'", name
    )
    if not found and re.fullmatch(f"[0-9a-fA-F]{{{_ID_DIGITS},64}}", name) and len(name) % 2 == 0:
        start = bytes.fromhex(name)
        found = pos.store.all(
            "SELECT nonce FROM payments WHERE nonce = ? OR claim_id BETWEEN ? AND ? LIMIT 2",
            start,
            start,
            start.ljust(32, b"\xff"),
        )
    if len(found) != 1:
        raise PosError(
            f"{name} names {'several payments' if found else 'no payment'} in these books.",
            hint="Give more digits of its claim's id: chipcash pos list shows them.",
        )
    return pos.payment(found[0]["nonce"])


def render_text(receipt: Receipt, columns: int | None = None) -> list[str]:
    """The receipt in lines of so many columns, by default as many as the shop's paper has; without its code.

    A Chinese letter takes two.
    """
    from rich.cells import cell_len

    width = columns or PAPERS[receipt.shop.paper][0]
    lines: list[str] = []
    before = ""
    for line in receipt.lines():
        if before and line.kind != before:
            lines.append("")
        before = line.kind
        if line.kind == "row":
            gap = width - cell_len(line.label) - cell_len(line.value)
            if gap > 0:
                lines.append(line.label + " " * gap + line.value)
                continue
        for text in (line.label, line.value):
            for part in wrapped(text, width) if text else ():
                indent = (width - cell_len(part)) // 2 if line.kind in ("heading", "amount") else 0
                lines.append(" " * indent + part)
    return lines


def render_html(receipt: Receipt) -> str:
    """The receipt as a piece of a web page, with its codes as SVG: one `<article class="receipt">`."""
    rows = []
    out = [f'<article class="receipt" aria-label="{html.escape(receipt.title)}">']
    for line in receipt.lines():
        value = html.escape(line.value)
        if line.kind == "row":
            rows.append(f"<dt>{html.escape(line.label)}</dt><dd>{value}</dd>")
            continue
        if rows:
            out.append(f"<dl>{''.join(rows)}</dl>")
            rows = []
        tag = "h2" if line.kind == "heading" else "p"
        out.append(f'<{tag} class="receipt-{line.kind}">{value}</{tag}>')
    for caption, text in receipt.codes():
        if caption:
            out.append(f'<p class="receipt-note">{html.escape(caption)}</p>')
        name = html.escape(caption or receipt.check)
        picture = io.BytesIO()
        qr.symbol(text).save(
            picture, kind="svg", xmldecl=False, omitsize=True, svgclass="code", lineclass=None
        )
        svg = picture.getvalue().decode().strip()
        out.append(svg.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1))
        if text == receipt.code and receipt.shop.site:
            out[-1] = f'<a href="{html.escape(text)}" rel="noreferrer">{out[-1]}</a>'
    return "\n".join([*out, "</article>"])


_PIECES = re.compile(r"\s+|[\u2e80-\uffef][，。、：；？！）]*|[^\s\u2e80-\uffef]+")
"""Where a line may be broken: around words and Chinese letters, but not in front of what ends a sentence."""


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of so many columns."""
    from rich.cells import cell_len, chop_cells

    lines = [""]
    for piece in _PIECES.findall(text):
        for part in chop_cells(piece, width):
            if cell_len(lines[-1]) + cell_len(part.rstrip()) > width:
                lines[-1] = lines[-1].rstrip()
                lines.append("")
            if lines[-1] or part.strip():
                lines[-1] += part
    return [line.rstrip() for line in lines]


def _money(fen: int, unit: str) -> str:
    return f"{fen // 100}.{fen % 100:02d} {unit}"


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _is_site(url: str) -> bool:
    """Whether an address can be printed, and have the code behind its #."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    plain = re.fullmatch(r"[\x21-\x7e]{1,200}", url) is not None
    return plain and parts.scheme in ("https", "http") and bool(parts.hostname) and "#" not in url
