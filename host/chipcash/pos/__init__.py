# SPDX-License-Identifier: Apache-2.0
"""The POS: payments to a durable queue, sync with the registration center, books in whole fen."""

from chipcash.pos.books import BILL_GRACE, BILL_SECONDS, CenterService, Pos
from chipcash.pos.errors import (
    AnotherCard,
    AnswerLost,
    InsufficientFunds,
    PendingMoney,
    PosError,
    yuan,
)
from chipcash.pos.model import (
    Balance,
    Change,
    Charge,
    OpenRequest,
    Payment,
    PaymentState,
    RequestState,
    SyncReport,
    Transfer,
    TransferKind,
)

__all__ = [
    "BILL_GRACE",
    "BILL_SECONDS",
    "AnotherCard",
    "AnswerLost",
    "Balance",
    "CenterService",
    "Change",
    "Charge",
    "InsufficientFunds",
    "OpenRequest",
    "Payment",
    "PaymentState",
    "PendingMoney",
    "Pos",
    "PosError",
    "RequestState",
    "SyncReport",
    "Transfer",
    "TransferKind",
    "yuan",
]
