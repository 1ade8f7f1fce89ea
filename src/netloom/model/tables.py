"""What differs between two versions of a table of values, and the part of it that somebody wants.

Tables of thousands of entries are copied at each change, and all values but a few are the same
objects in both versions. Finding those few costs some tens of microseconds: a list compares its
items by identity first, so neither equality nor a hash is asked for where nothing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import compress, count
from operator import is_not
from types import MappingProxyType
from typing import Generic, TypeVar

#: So many are compared at once.
_STEP = 256
Key = TypeVar("Key")
Value = TypeVar("Value")


def replaced(
    before: Mapping[Key, Value], now: Mapping[Key, Value]
) -> tuple[list[Value], list[Value]]:
    """Return the values that only ``before`` has and those that only ``now`` has.

    A value that was replaced by an equal one is in both lists or in none. Each is in the table's
    order. No value may be in a table twice.
    """
    if before is now:
        return [], []
    old, new = list(before.values()), list(now.values())
    first = _alike(old, new)
    old, new = old[first:], new[first:]
    last = _alike(old[::-1], new[::-1])
    old, new = old[: len(old) - last], new[: len(new) - last]
    if not old or not new:
        return old, new
    there, kept = set(map(id, old)), set(map(id, new))
    return [each for each in old if id(each) not in kept], [
        each for each in new if id(each) not in there
    ]


class Kept(Generic[Key, Value]):
    """Those of a table's values that are ``wanted``, kept from version to version; for one thread.

    What is wanted does not change.
    """

    def __init__(self, wanted: Callable[[Value], bool]) -> None:
        self._values: tuple[Value, ...] = ()
        self._wanted = wanted
        self._table: Mapping[Key, Value] = MappingProxyType({})

    def look(self, table: Mapping[Key, Value]) -> tuple[Value, ...]:
        """Return what is wanted of ``table``, by what differs from the table before."""
        gone, come = replaced(self._table, table)
        self._table = table
        left = (value for value in self._values if value not in gone)
        self._values = (*left, *filter(self._wanted, come))
        return self._values


def _alike(ones: list[Value], others: list[Value]) -> int:
    """Return for how many places from the first on both have the same."""
    most, start = min(len(ones), len(others)), 0
    while start < most and ones[start : start + _STEP] == others[start : start + _STEP]:
        start += _STEP
    unlike = map(is_not, ones[start:most], others[start:most])
    return min(start + next(compress(count(), unlike), most), most)
