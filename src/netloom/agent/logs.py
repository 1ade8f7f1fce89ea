"""Logs on stderr, as lines for people or as one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from netloom.model.errors import InvalidConfig, NetloomError
from netloom.model.fields import nearest

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
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


class _WithoutValues(logging.Formatter):
    """Tells where an exception came from, and of one that is not ours never what it was about.

    Its arguments may be anything: all of BIRD's configuration, with its passwords.
    """

    def formatException(self, ei: ExcInfo) -> str:
        """Render the chain of exceptions, the first one first."""
        blocks: list[str] = []
        error, seen = ei[1], set[int]()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            words = f": {error}" if isinstance(error, NetloomError) else ""
            kind = type(error)
            frames = "".join(traceback.format_tb(error.__traceback__))
            head = "Traceback (most recent call last):\n"
            blocks.insert(0, f"{head}{frames}{kind.__module__}.{kind.__qualname__}{words}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(blocks)


class TextLines(_WithoutValues):
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


class JsonLines(_WithoutValues):
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
