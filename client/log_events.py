"""The daemon's own log on standard error: events with keys, for a person or for a program.

    12:31:02 INFO    sent  study=3fa9c1d20b77 kind=ready round=4 attempt=4 bytes=412
    {"time":"2026-01-31T11:31:02.114+00:00","level":"info","event":"sent","round":4,...}

No event holds patient data: keys are named in this program, and errors name files and rules.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from protocol.terminal.printable import printable

LOGGER = "wardround.site"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SHORT = 12
"""Digits of a study's digest that a person reads."""
_MAX_LENGTH = 1000
"""Characters of a message; a hostile study may name a key half a megabyte long."""


def configure(style: Literal["text", "json"], *, verbose: bool = False) -> None:
    """Sends the events to standard error. systemd's journal adds its own time and unit."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Text())
    logger = logging.getLogger(LOGGER)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def event(name: str, level: int = logging.INFO, **keys: object) -> None:
    """Logs one event. Keys whose value is None are left out."""
    extra = {f"{key}_" if key in _STANDARD else key: value for key, value in keys.items()}
    logging.getLogger(LOGGER).log(level, name, extra=extra)


def _keys(record: logging.LogRecord) -> dict[str, Any]:
    return {
        key.removesuffix("_"): value
        for key, value in vars(record).items()
        if key not in _STANDARD and value is not None
    }


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        pairs = []
        for key, value in _keys(record).items():
            text = str(value)[:_SHORT] if key == "study" else str(value)
            bare = text.isprintable() and " " not in text and '"' not in text
            pairs.append(f"{key}={text if bare else json.dumps(text)}")
        message = printable(record.getMessage()[:_MAX_LENGTH])  # may quote another party
        return f"{time} {record.levelname:7} {message}  {' '.join(pairs)}".rstrip()


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower()}
        line["event"] = record.getMessage()[:_MAX_LENGTH]
        return json.dumps(line | _keys(record), default=str)
