"""Reading a JSON object field by field, with errors that a user can act on.

``Fields`` is how every parser of ``model`` and ``core`` takes a mapping apart: each ``take_*``
removes one field; :meth:`Fields.done` refuses what is left and suggests the nearest known name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from netloom.model.errors import InvalidConfig

#: Longer than any number that means something, and far from where ``int`` gives up.
_WHOLE = re.compile(r"-?[0-9]{1,40}")
#: How much one that has to be there is like one that stands there instead: "cird" is "cidr".
_MISSPELT = 0.7
#: A longer list of names is no hint any more.
_MOST_LISTED = 40


def closest(word: str, known: Iterable[str]) -> str:
    """Return the one of ``known`` that is most like ``word``, whatever their case, or ""."""
    by_lower = {name.lower(): name for name in sorted(known, reverse=True)}
    close = difflib.get_close_matches(word.lower(), sorted(by_lower), n=1, cutoff=0.5)
    return by_lower[close[0]] if close else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest of ``known`` to ``word``, or lists them if few."""
    names = sorted(known)
    if match := closest(word, names):
        return f"did you mean {match!r}?"
    if len(names) > _MOST_LISTED:
        return f"none of the {len(names)} names that are known is like it"
    return "known: " + ", ".join(names)


def whole_number(text: str) -> int | None:
    """Return the number that ``text`` writes in the digits 0 to 9; None for any other text.

    ``int`` alone takes more (other scripts' digits, ``1_000``), and ``str.isdigit`` promises what
    ``int`` refuses ("²").
    """
    return int(text) if _WHOLE.fullmatch(text) else None


def _is_object(data: object) -> TypeGuard[Mapping[str, Any]]:
    """Tell a JSON object; thousands of records are taken apart, and nearly all are plain dicts."""
    return isinstance(data, dict) or isinstance(data, Mapping)  # noqa: SIM101 - the first is quick


class Fields:
    """One JSON object being taken apart; ``where`` is its dotted path for messages."""

    def __init__(self, data: object, where: str) -> None:
        if not _is_object(data):
            raise InvalidConfig(
                f"{where or 'document'}: expected an object with fields, "
                f"found {type(data).__name__}",
                field=where,
                value=data,
            )
        self._left: dict[str, Any] = dict(data)
        self._known: set[str] = set()
        self.where = where

    def path(self, name: str) -> str:
        """Return the dotted path of field ``name``."""
        return f"{self.where}.{name}" if self.where else name

    def take(self, name: str, default: Any = None) -> Any:
        """Remove and return field ``name`` as it is."""
        self._known.add(name)
        value = self._left.pop(name, None)
        return default if value is None else value

    def take_required(self, name: str) -> Any:
        """Remove and return field ``name``. Raises InvalidConfig when it is absent or null."""
        value = self.take(name)
        if value is None:
            raise self.missing(name)
        return value

    def missing(self, name: str, hint: str = "") -> InvalidConfig:
        """Return what is wrong where ``name`` has to be and is not: a misspelt one stands there."""
        left = {str(other).lower(): other for other in self._left}
        for near in difflib.get_close_matches(name.lower(), sorted(left), n=1, cutoff=_MISSPELT):
            if abs(len(near) - len(name)) <= 2:
                return self._unknown(left[near], f"did you mean {name!r}?")
        return InvalidConfig(f"{self.path(name)}: missing", field=self.path(name), hint=hint)

    def take_str(self, name: str, default: str = "") -> str:
        """Remove and return a string field."""
        value = self.take(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a string")
        return value

    def take_bool(self, name: str, default: bool) -> bool:
        """Remove and return a true/false field; "true" and "false" as strings are taken too."""
        value = self.take(name, default)
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def take_int(self, name: str, default: int, low: int, high: int) -> int:
        """Remove and return a whole number in ``low..high``; decimal strings are taken too."""
        value = self.take(name, default)
        number = whole_number(value.strip()) if isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, int):
            raise self._wrong(name, value, "a whole number")
        if not low <= number <= high:
            raise InvalidConfig(
                f"{self.path(name)}: {number} is out of range {low}..{high}",
                field=self.path(name),
                value=number,
                hint=f"choose a number from {low} to {high}",
            )
        return number

    def take_list(self, name: str) -> list[Any]:
        """Remove and return a list field; absent means empty."""
        value = self.take(name, [])
        if not isinstance(value, (list, tuple)):
            raise self._wrong(name, value, "a list")
        return list(value)

    def take_map(self, name: str) -> dict[str, Any]:
        """Remove and return an object field; absent means empty."""
        value = self.take(name, {})
        if not _is_object(value):
            raise self._wrong(name, value, "an object with fields")
        return dict(value)

    def rest(self) -> dict[str, Any]:
        """Remove and return every field that was not taken."""
        left, self._left = self._left, {}
        return left

    def done(self) -> None:
        """Refuse fields that nobody took. Raises InvalidConfig with the nearest known name."""
        for name in self._left:
            raise self._unknown(name, nearest(str(name), self._known))

    def _unknown(self, name: str, hint: str) -> InvalidConfig:
        field = self.path(name)
        return InvalidConfig(
            f"{field}: unknown field", field=field, value=self._left[name], hint=hint
        )

    def _wrong(self, name: str, value: object, wanted: str) -> InvalidConfig:
        return InvalidConfig(
            f"{self.path(name)}: {value!r} is not {wanted}",
            field=self.path(name),
            value=value,
            hint=f"give {wanted}",
        )
