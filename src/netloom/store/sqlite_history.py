"""The statements on entries and history: what one revision writes, what a watch reads.

Every function runs inside a transaction that its caller opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from netloom.model.datastore import Delete, Entry, Event, Put

_ENTRY = "SELECT key, value, create_revision, mod_revision, lease FROM entries"
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)  # code points that no text holds

#: History is cut back every so many revisions, to the last so many, of at most so many bytes.
TRIM_EVERY = 256
KEEP_BYTES = 64 << 20


def after_prefix(prefix: str) -> str | bytes:
    """Return the least value greater than every key with ``prefix``.

    For an empty prefix that is a blob: SQLite sorts every blob after every text.
    """
    while prefix:
        last = ord(prefix[-1]) + 1
        if last <= _LAST_CODE_POINT:
            last = _SURROGATES.stop if last in _SURROGATES else last
            return prefix[:-1] + chr(last)
        prefix = prefix[:-1]
    return b""


def revisions(db: sqlite3.Connection) -> tuple[int, int]:
    """Return the store's revision and the one up to which history is gone."""
    revision, compacted = db.execute("SELECT revision, compacted FROM state").fetchone()
    return revision, compacted


def read(db: sqlite3.Connection, key: str) -> Entry | None:
    """Return one entry."""
    row = db.execute(f"{_ENTRY} WHERE key = ?", (key,)).fetchone()
    return Entry(*row) if row else None


def read_below(db: sqlite3.Connection, prefix: str) -> tuple[Entry, ...]:
    """Return the entries below ``prefix``, sorted by key."""
    rows = db.execute(
        f"{_ENTRY} WHERE key >= ? AND key < ? ORDER BY key", (prefix, after_prefix(prefix))
    )
    return tuple(Entry(*row) for row in rows)


def write(db: sqlite3.Connection, revision: int, operations: Iterable[Put | Delete]) -> int:
    """Do ``operations`` as the revision after ``revision``; return the store's revision then.

    Of several operations on one key the last counts. Nothing but deletions of what is absent
    makes no revision.
    """
    new = revision + 1
    seq = 0
    record: tuple[bytes | None, int, int]
    for operation in {operation.key: operation for operation in operations}.values():
        row = db.execute(
            "SELECT create_revision FROM entries WHERE key = ?", (operation.key,)
        ).fetchone()
        if isinstance(operation, Put):
            created = row[0] if row else new
            value, lease = operation.value, operation.lease
            db.execute(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)",
                (operation.key, value, created, new, lease),
            )
            record = (value, created, lease)
        elif row:
            db.execute("DELETE FROM entries WHERE key = ?", (operation.key,))
            record = (None, 0, 0)
        else:
            continue
        db.execute(
            "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", (new, seq, operation.key, *record)
        )
        seq += 1
    if not seq:
        return revision
    db.execute("UPDATE state SET revision = ?", (new,))
    return new


def read_changes(db: sqlite3.Connection, prefix: str, after: int, upto: int) -> tuple[Event, ...]:
    """Return the changes below ``prefix`` of revisions ``after < r <= upto``, in order."""
    rows = db.execute(
        "SELECT key, value, create_revision, revision, lease FROM history"
        " WHERE revision > ? AND revision <= ? AND key >= ? AND key < ? ORDER BY revision, seq",
        (after, upto, prefix, after_prefix(prefix)),
    )
    return tuple(Event(row[0], None if row[1] is None else Entry(*row)) for row in rows)


def trim(db: sqlite3.Connection, revision: int, keep: int) -> None:
    """Forget all but the last ``keep`` revisions, and what is beyond ``KEEP_BYTES`` of values."""
    (beyond,) = db.execute(
        "SELECT max(revision) FROM (SELECT revision, sum(length(value))"
        " OVER (ORDER BY revision DESC, seq DESC) AS total FROM history) WHERE total > ?",
        (KEEP_BYTES,),
    ).fetchone()
    upto = max(revision - keep, beyond or 0)
    _, compacted = revisions(db)
    if upto > compacted:
        db.execute("DELETE FROM history WHERE revision <= ?", (upto,))
        db.execute("UPDATE state SET compacted = ?", (upto,))
