# SPDX-License-Identifier: Apache-2.0
"""The POS: payments to a durable queue, sync with the registration center, books in whole fen."""

from chipcash.pos.charging import BILL_SECONDS
from chipcash.pos.errors import (
    AnotherCard,
    AnswerLost,
    InsufficientFunds,
    NotAsked,
    PendingMoney,
    PosError,
    yuan,
)
from chipcash.pos.model import (
    Balance,
    Change,
    Charge,
    Exposure,
    OpenRequest,
    Payment,
    PaymentState,
    Promise,
    PromiseState,
    RequestState,
    Shift,
    StateChange,
    Summary,
    SyncReport,
    Total,
    Transfer,
    TransferKind,
)
from chipcash.pos.pos import Pos
from chipcash.pos.settling import CenterService
from chipcash.pos.syncing import BILL_GRACE

__all__ = [
    "BILL_GRACE",
    "BILL_SECONDS",
    "AnotherCard",
    "AnswerLost",
    "Balance",
    "CenterService",
    "Change",
    "Charge",
    "Exposure",
    "InsufficientFunds",
    "NotAsked",
    "OpenRequest",
    "Payment",
    "PaymentState",
    "PendingMoney",
    "Pos",
    "PosError",
    "Promise",
    "PromiseState",
    "RequestState",
    "Shift",
    "StateChange",
    "Summary",
    "SyncReport",
    "Total",
    "Transfer",
    "TransferKind",
    "yuan",
]
