"""History is kept for watches that come late, and cut back before it grows for ever."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from netloom.model.datastore import Put, Transaction
from netloom.store import sqlite_history as history
from netloom.store.sqlite import SqliteStore


def rows(path: Path) -> tuple[int, int]:
    with sqlite3.connect(path) as database:
        count, size = database.execute(
            "SELECT count(*), sum(length(value)) FROM history"
        ).fetchone()
        return int(count), int(size)


def test_history_is_cut_back_to_the_revisions_to_keep(tmp_path: Path):
    path = tmp_path / "cluster.db"
    store = SqliteStore(str(path), keep_revisions=300)
    for number in range(4 * history.TRIM_EVERY):
        last = store.commit(Transaction([Put("/a", b"%d" % number)])).revision
    count, _ = rows(path)
    assert 300 <= count < 300 + history.TRIM_EVERY
    late = store.watch("/", last - 300).next(0)
    assert late is not None
    assert not late.compacted
    assert [event.entry.value for event in late.events if event.entry][-1] == b"%d" % number
    too_late = store.watch("/", last - 300 - history.TRIM_EVERY).next(0)
    assert too_late is not None
    assert too_late.compacted
    store.close()


def test_history_is_bounded_in_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "KEEP_BYTES", 100_000)
    path = tmp_path / "cluster.db"
    store = SqliteStore(str(path))
    for _ in range(history.TRIM_EVERY):
        store.commit(Transaction([Put("/a", bytes(10_000))]))
    count, size = rows(path)
    assert count == 10
    assert size <= 100_000
    assert store.get("/a") is not None
    store.close()


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("", b""),
        ("a", "b"),
        ("/netloom/", "/netloom0"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", b""),
        ("\ud7ff", "\ue000"),
    ],
)
def test_the_end_of_a_prefix_is_the_next_text_that_it_does_not_begin(prefix: str, end: str | bytes):
    assert history.after_prefix(prefix) == end
