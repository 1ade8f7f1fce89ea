"""Errors on the wire: the JSON that the local API answers with when it does not answer 200.

Both ends of the socket use this module, so that an error raised in the agent is the same error,
with the same exit code and hint, in the process that called. The document is::

    {"error": text, "hint": text, "exitCode": number, "kind": class name, "details": {…}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netloom.model.errors import (
    Bug,
    Conflict,
    Exhausted,
    InvalidConfig,
    KernelRejected,
    NetloomError,
    NotPermitted,
    Unavailable,
)

#: The HTTP status of each kind of error; a subclass not named here has its parent's.
HTTP_STATUS: Mapping[type[NetloomError], int] = {
    InvalidConfig: 400,
    NotPermitted: 403,
    Conflict: 409,
    Unavailable: 503,
    KernelRejected: 502,
    NetloomError: 500,
}
_KINDS: Mapping[str, type[NetloomError]] = {
    kind.__name__: kind
    for kind in (Bug, Conflict, Exhausted, InvalidConfig, NotPermitted, Unavailable)
}


def http_status(error: NetloomError) -> int:
    """Return the HTTP status that fits ``error``."""
    return next(HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS)


def render_error(error: NetloomError) -> dict[str, Any]:
    """Return the document of ``error``; :func:`parse_error` reads it."""
    details: dict[str, Any] = {}
    if isinstance(error, InvalidConfig):
        details = {"field": error.field, "value": _plain(error.value)}
    elif isinstance(error, KernelRejected):
        details = {
            "operation": error.operation,
            "subject": error.subject,
            "errno": error.errno,
            "detail": error.detail,
        }
    return {
        "error": str(error),
        "hint": error.hint,
        "exitCode": error.exit_code,
        "kind": type(error).__name__,
        "details": details,
    }


def parse_error(document: object) -> NetloomError:
    """Return the error that a document stands for; one that is none becomes a Bug."""
    if not isinstance(document, Mapping) or "error" not in document:
        return Bug(f"the agent answered with an error that we cannot read: {document!r:.200}")
    text, hint = str(document["error"]), str(document.get("hint") or "")
    kind = document.get("kind")
    details = document.get("details")
    details = details if isinstance(details, Mapping) else {}
    if kind == "InvalidConfig":
        return InvalidConfig(
            text, field=str(details.get("field", "")), value=details.get("value"), hint=hint
        )
    if kind == "KernelRejected" and isinstance(details.get("errno"), int):
        return KernelRejected(
            str(details.get("operation", "")),
            str(details.get("subject", "")),
            details["errno"],
            str(details.get("detail", "")),
            hint=hint,
        )
    return _KINDS.get(str(kind), Bug)(text, hint=hint)


def _plain(value: object) -> Any:
    """Return ``value`` if JSON has it, else its text: an offending value may be anything."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
