"""Logs on stderr, as lines for people or as one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
#: What every record carries; anything else came in by ``extra=`` and is a fact to report.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(format: str = "text", level: str = "info", stream: TextIO | None = None) -> None:
    """Send everything that is logged to ``stream`` (stderr); repeats replace what was set.

    Raises InvalidConfig for a format or level that is none.
    """
    for name, value, known in (("logFormat", format, FORMATS), ("logLevel", level, LEVELS)):
        if value not in known:
            raise InvalidConfig(
                f"{name}: unknown {value!r}", field=name, value=value, hint=nearest(value, known)
            )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if format == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class TextLines(logging.Formatter):
    """``2026-03-01T12:00:00.123Z WARNING agent.http: text key=value``; more lines are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        name = record.name.removeprefix("netloom.")
        facts = "".join(f" {key}={value}" for key, value in _facts(record).items())
        text = f"{record.getMessage()}{facts}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        # A line that begins with a time is the start of a record, whatever a message holds.
        text = text.replace("\n", "\n    ")
        return f"{_time(record)} {record.levelname:<7} {name}: {text}"


class JsonLines(logging.Formatter):
    """``{"time", "level", "logger", "message", "trace"?, …facts}``."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        document = {
            **_facts(record),
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _facts(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
