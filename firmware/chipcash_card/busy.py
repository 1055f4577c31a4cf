# SPDX-License-Identifier: Apache-2.0
"""Signs of life during long work.

Arithmetic on a curve takes a microcontroller longer than a reader waits. It calls working() at each of its
steps, and who serves the link may have that call itself, to ask the reader for more time: S(WTX) of ISO/IEC
14443-4 and ISO/IEC 7816-3, the time extension of CCID. A processor does one thing at a time, so one hook
will do."""

from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

_hook: "list[Callable[[], None]]" = []


def attend(hook: "Callable[[], None] | None") -> None:
    """Have hook called at each step of long work, in place of the one before; None for nobody."""
    _hook[:] = [hook] if hook is not None else []


def working() -> None:
    """One more step of long work was done."""
    for hook in _hook:
        hook()
