# SPDX-License-Identifier: Apache-2.0
"""The one family of exceptions that the toolkit raises for things people have to deal with.

Libraries raise them, carrying facts; the command line turns each into one line, what to do next
and an exit code, or into JSON. No message, hint or fact ever holds a secret.
"""

from __future__ import annotations


class ChipcashError(Exception):
    """Something failed that a person has to know about.

    message: what happened, and what it means for their money where money is concerned.
    hint: what to do next; empty when there is nothing to do.
    facts: JSON-ready values for programs (reader, path, status word, tries left, ...).
    """

    exit_code: int = 1
    """What the command line exits with; 2 is kept for wrong usage."""

    def __init__(self, message: str, *, hint: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts: dict[str, object] = facts

    def as_dict(self) -> dict[str, object]:
        """The failure as --json prints it."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
            "facts": self.facts,
        }


class TransportError(ChipcashError):
    """The path to the card failed; also the base of what follows."""

    exit_code = 3


class PathError(TransportError):
    """The path is not written as any transport understands it."""

    exit_code = 2


class NoReaderError(TransportError):
    """There is no such reader, or no service to ask for one."""

    exit_code = 4


class NoCardError(TransportError):
    """The reader is there, the card is not."""

    exit_code = 5


class LinkLostError(TransportError):
    """The link broke during a session: card removed, reader unplugged, service stopped.

    maybe_executed: whether the card may have executed the command that got no answer. When it is
    False the command certainly did not reach the card. When it is True, only repeating the very
    same request is safe: the card answers a payment request it has seen with the same bytes.
    """

    exit_code = 6

    def __init__(
        self, message: str, *, maybe_executed: bool, hint: str = "", **facts: object
    ) -> None:
        super().__init__(message, hint=hint, maybe_executed=maybe_executed, **facts)
        self.maybe_executed = maybe_executed


class SimError(ChipcashError):
    """An emulated card cannot be run as asked."""
