"""What differs between two versions of a table, by identity."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from netloom.model.tables import replaced

#: For each key two values that are equal and not the same: only identity tells them apart.
VALUES = {key: ([key], [key]) for key in range(10)}
TABLES = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 1), max_size=8)


def ids(values: Iterable[list[int]]) -> set[int]:
    return {id(value) for value in values}


@given(old=TABLES, new=TABLES)
def test_what_went_and_what_came_is_told_by_identity(
    old: dict[int, int], new: dict[int, int]
) -> None:
    before = {key: VALUES[key][place] for key, place in old.items()}
    now = {key: VALUES[key][place] for key, place in new.items()}
    gone, come = replaced(before, now)
    assert ids(gone) == ids(before.values()) - ids(now.values())
    assert ids(come) == ids(now.values()) - ids(before.values())


def test_one_that_came_and_one_that_went_among_many_are_all_that_is_told() -> None:
    before = {number: [number] for number in range(1000)}
    now = {**before, 1000: [1000]}
    gone, come = now.pop(500), now[1000]
    assert replaced(before, now) == ([gone], [come])
    assert replaced(now, now) == ([], [])
