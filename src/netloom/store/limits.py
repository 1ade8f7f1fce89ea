"""What every store asks of keys and values, checked before anything is sent or written."""

from __future__ import annotations

from netloom.model.datastore import Delete, Put
from netloom.model.errors import InvalidConfig

MAX_VALUE_BYTES = 1 << 20


def check_key(key: str) -> None:
    """Refuse text that is no key or prefix. Raises InvalidConfig."""
    if "\0" in key or not _is_unicode(key):
        raise InvalidConfig(
            f"key {key!r} holds a NUL or a lone surrogate",
            field="key",
            value=key,
            hint="use text that can be written as UTF-8",
        )


def check_operation(operation: Put | Delete) -> None:
    """Refuse an operation that no store takes. Raises InvalidConfig."""
    if not operation.key:
        raise InvalidConfig("an operation needs a key that is not empty", field="key")
    check_key(operation.key)
    if isinstance(operation, Put) and len(operation.value) > MAX_VALUE_BYTES:
        raise InvalidConfig(
            f"key {operation.key}: its value has {len(operation.value)} bytes, more than "
            f"{MAX_VALUE_BYTES}",
            field="value",
            hint="store at most 1 MiB under one key",
        )


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
