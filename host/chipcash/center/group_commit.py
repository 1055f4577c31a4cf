# SPDX-License-Identifier: Apache-2.0
"""Deposits that come while the ledger is busy share the next transaction, and so wait for the disk once
(group commit: DeWitt et al., Implementation Techniques for Main Memory Database Systems, 1984)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from chipcash.center.verification import Checked
from chipcash_wire import objects as o

__all__ = ["GroupCommit"]

_Settle = Callable[[Sequence[Checked]], list[o.Receipt]]


class GroupCommit:
    """Settles deposits of several threads together.

    settle: deposits in one transaction, one after the other; their receipts, durable. Whoever's turn it is
    settles for all who wait by then, and nobody waits for others to come.
    """

    def __init__(self, settle: _Settle) -> None:
        self._settle = settle
        self._turn = threading.Lock()
        self._waiting: deque[tuple[Checked, Future[o.Receipt]]] = deque()

    def settle(self, deposit: Checked) -> o.Receipt:
        """The deposit's receipt, as if it had been settled alone. Raises what settling it raises."""
        receipt: Future[o.Receipt] = Future()
        self._waiting.append((deposit, receipt))
        with self._turn:
            if not receipt.done():
                self._carry_out([self._waiting.popleft() for _ in range(len(self._waiting))])
        return receipt.result()

    def _carry_out(self, group: Sequence[tuple[Checked, Future[o.Receipt]]]) -> None:
        """Settle the group, and tell everybody in it."""
        try:
            receipts = self._settle([deposit for deposit, _ in group])
        except BaseException as error:
            if len(group) > 1 and isinstance(error, Exception):
                # It may be about one of them, which must not stop the others; all are asked alone.
                for each in group:
                    self._carry_out([each])
            else:
                for _, receipt in group:
                    receipt.set_exception(error)
            return
        for (_, receipt), made in zip(group, receipts, strict=True):
            receipt.set_result(made)
