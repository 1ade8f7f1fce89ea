"""What differs between two versions of a table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netloom.model.tables import _STEP, Kept, replaced

#: For each key two values that are equal and not the same, and one that is another.
VALUES = {key: ([key], [key], [key, 1]) for key in range(8)}
#: What stands before and behind them in both versions, so that there is more than one step.
CROWD = {key: [key] for key in range(100, 100 + 2 * _STEP)}
TABLES = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 2), max_size=8)


def table(kinds: dict[int, int], before: int, behind: int) -> dict[int, list[int]]:
    own = {key: VALUES[key][kind] for key, kind in kinds.items()}
    crowd = sorted(CROWD.items())
    return {**dict(crowd[:before]), **own, **dict(crowd[:behind])}


@given(old=TABLES, new=TABLES, around=st.tuples(*[st.sampled_from([0, 3, 300])] * 2))
def test_taking_out_what_went_and_putting_in_what_came_makes_one_table_of_the_other(
    old: dict[int, int], new: dict[int, int], around: tuple[int, int]
) -> None:
    before, now = table(old, *around), table(new, *around)
    gone, come = replaced(before, now)
    there, here = set(map(id, before.values())), set(map(id, now.values()))
    assert set(map(id, gone)) <= there - here
    assert set(map(id, come)) <= here - there
    left = {value[0]: value for value in before.values()}
    for value in gone:
        assert left.pop(value[0]) is value
    assert not left.keys() & {value[0] for value in come}
    assert left | {value[0]: value for value in come} == now


def test_one_that_came_and_one_that_went_among_many_are_all_that_is_told() -> None:
    before = {number: [number] for number in range(1000)}
    now = {**before, 1000: [1000]}
    gone, come = now.pop(500), now[1000]
    assert replaced(before, now) == ([gone], [come])
    assert replaced(now, now) == ([], [])


@given(versions=st.lists(TABLES, max_size=6))
def test_what_is_kept_of_a_table_is_what_is_wanted_of_its_last_version(
    versions: list[dict[int, int]],
) -> None:
    kept = Kept[int, list[int]](lambda value: value[0] % 2 == 1)
    for kinds in versions:
        now = table(kinds, 0, 300)
        wanted = [value for value in now.values() if value[0] % 2]
        assert sorted(kept.look(now)) == sorted(wanted)
