# SPDX-License-Identifier: Apache-2.0
"""Structured logs: each record as one line of JSON, without what is nobody's business.

No key, serial or id of anybody's money is written, and no address of a client: of an exception its kind and
where it was raised, of texts no long run of hex digits. Whoever logs gives numbers and names in `extra`, as
`{"fields": {...}}`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chipcash.errors import ChipcashError

__all__ = ["JsonLines", "log_to"]

_HEX = re.compile(r"(?:0x|\\x)?[0-9A-Fa-f]{16,}")
_FRAMES = 8
_LIBRARIES = ("uvicorn", "httpx", "httpcore", "asyncio", "alembic")
"""What they tell below a warning is of their work, with addresses."""


class JsonLines(logging.Formatter):
    """A record as a JSON object: time (UTC, ISO 8601), level, logger, event, and what `fields` holds.

    Of an exception also error, its kind, and at, where it came from.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        args = record.args
        if isinstance(args, tuple):
            args = tuple(_shown(each) for each in args)
        event = str(record.msg) % args if args else str(record.msg)
        data: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": _without_ids(event.strip()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            data["error"] = str(_shown(error))
            frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
            data["at"] = [f"{Path(x.filename).name}:{x.lineno} {x.name}" for x in frames]
        return json.dumps(data)


def log_to(where: str) -> None:
    """Have the whole program log to a file, which may be moved away while it runs, or to "-", stderr."""
    handler: logging.Handler
    if where == "-":
        handler = logging.StreamHandler(sys.stderr)
    else:
        from logging.handlers import WatchedFileHandler

        handler = WatchedFileHandler(where, encoding="utf-8")
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _shown(value: object) -> object:
    """A value in a message: what somebody else's exception says may hold anything."""
    if isinstance(value, ChipcashError):
        return f"{type(value).__name__}: {_without_ids(value.message)}"
    if isinstance(value, OSError) and value.strerror:
        return f"{type(value).__name__}: {value.strerror}"
    if isinstance(value, BaseException):
        return type(value).__name__
    return value


def _without_ids(text: str) -> str:
    return _HEX.sub("(id)", text)
