"""JSON as Go's decoder takes it: field names match whatever their case, null means absent.

flannel's users have written their files for that decoder; a file that works there has to work here.
Source: Go's documentation of encoding/json, ``Unmarshal``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from netloom.model.errors import InvalidConfig

_ESCAPED = "<>&\u2028\u2029"
_TO_ESCAPE = re.compile(f"[{_ESCAPED}]")


def decode(text: bytes | str, where: str) -> dict[str, Any]:
    """Return a JSON object's fields in the order in which they are written.

    Raises InvalidConfig with line, column and what stands there.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise InvalidConfig(
                f"{where}: not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}",
                field=where,
                hint="write it anew as UTF-8",
            ) from None
    try:
        data = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        near = text[error.pos : error.pos + 20].splitlines()[:1]
        raise InvalidConfig(
            f"{where}: not JSON: {error.msg}, at line {error.lineno} column {error.colno}"
            f" (character {error.pos}){f', before {near[0]!r}' if near and near[0] else ''}",
            field=where,
            value=text[:200],
            hint="check quotes, commas and braces there",
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"{where}: not JSON: {error}", field=where) from None
    if not isinstance(data, dict):
        raise InvalidConfig(
            f"{where}: expected an object in braces, found {json.dumps(data)[:40]}",
            field=where,
            value=data,
        )
    return data


def folded(
    data: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sort fields by the names that a decoder knows: (known ones by proper name, the others).

    Of several spellings of one name the last one written counts; null counts as not written.
    """
    proper, exact = _proper(names)
    if data.keys() <= exact:  # as a daemon writes them, thousands of times
        return {sys.intern(key): value for key, value in data.items() if value is not None}, {}
    known: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in data.items():
        name = proper.get(key.casefold())
        if name is None:
            others[key] = value
        elif value is not None:
            known[name] = value
    return known, others


def encode(data: Any) -> bytes:
    """Return compact JSON with the escapes that Go's encoder makes, field order as given."""
    text = _ENCODER.encode(data)
    if _TO_ESCAPE.search(text):
        for char in _ESCAPED:
            text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()


def take(fields: Mapping[str, Any], name: str, kind: type, default: Any, where: str) -> Any:
    """Return a field of one JSON type. Raises InvalidConfig: Go converts none into another."""
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) is not (kind is bool) or not isinstance(value, kind):
        wanted = {bool: "true or false", int: "a whole number", str: "a text", dict: "an object"}
        raise InvalidConfig(
            f"{where}{name}: {json.dumps(value)} is not {wanted[kind]}",
            field=where + name,
            value=value,
            hint=f"give {wanted[kind]}" + (", without quotes" if kind in (bool, int) else ""),
        )
    return value


@cache
def _proper(names: tuple[str, ...]) -> tuple[dict[str, str], frozenset[str]]:
    """Return names by what they are compared by, and as they are."""
    return {name.casefold(): name for name in names}, frozenset(names)


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON value")


#: Made once: ``json.loads`` and ``json.dumps`` would make theirs anew for each of the leases.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
