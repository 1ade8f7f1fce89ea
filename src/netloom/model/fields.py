"""Reading a JSON object field by field, with errors that a user can act on.

``Fields`` is how every parser of ``model`` and ``core`` takes a mapping apart: each ``take_*``
removes one field; :meth:`Fields.done` refuses what is left and suggests the nearest known name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from netloom.model.errors import InvalidConfig


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest of ``known`` to ``word``, or lists them all."""
    names = sorted(known)
    close = difflib.get_close_matches(word.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    if close:
        match = next(n for n in names if n.lower() == close[0])
        return f"did you mean {match!r}?"
    return "known: " + ", ".join(names)


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
            raise InvalidConfig(f"{self.path(name)}: missing", field=self.path(name))
        return value

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
        if isinstance(value, str) and value.strip().lstrip("-").isdigit():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, value, "a whole number")
        if not low <= value <= high:
            raise InvalidConfig(
                f"{self.path(name)}: {value} is out of range {low}..{high}",
                field=self.path(name),
                value=value,
                hint=f"choose a number from {low} to {high}",
            )
        return value

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
        for name, value in self._left.items():
            raise InvalidConfig(
                f"{self.path(name)}: unknown field",
                field=self.path(name),
                value=value,
                hint=nearest(name, self._known),
            )

    def _wrong(self, name: str, value: object, wanted: str) -> InvalidConfig:
        return InvalidConfig(
            f"{self.path(name)}: {value!r} is not {wanted}",
            field=self.path(name),
            value=value,
            hint=f"give {wanted}",
        )
