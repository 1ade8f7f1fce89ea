"""Leases in a SQLite store: keys that go when nobody keeps them alive.

Time is ``CLOCK_BOOTTIME``, which nobody can set and which goes on while the machine sleeps. It
begins anew with every boot, so each lease also names the boot it was measured in; the leases of an
earlier boot are given their whole time again when the store is opened. There is no timekeeper:
whichever process meets an ended lease first (every write looks, and so does every watch) deletes
its keys, in one revision.
"""

from __future__ import annotations

import os
import sqlite3
import time

from netloom.model.errors import InvalidConfig

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def now() -> float:
    """Return the seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return the name of this boot of the machine (random(4))."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def restart_foreign(db: sqlite3.Connection, boot: str) -> None:
    """Start the time of every lease anew that was measured in another boot."""
    db.execute(
        "UPDATE leases SET boot = ?, ends = ? + ttl_s WHERE boot != ?",
        (boot, now(), boot),
    )


def any_foreign(db: sqlite3.Connection, boot: str) -> bool:
    """Tell whether :func:`restart_foreign` has something to do."""
    row = db.execute("SELECT 1 FROM leases WHERE boot != ? LIMIT 1", (boot,)).fetchone()
    return row is not None


def grant(db: sqlite3.Connection, ttl_s: float, boot: str) -> int:
    """Return a new lease; random, so that no lease of another store is ever taken for it."""
    lease = int.from_bytes(os.urandom(8), "big") >> 2 | 1
    db.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", (lease, ttl_s, boot, now() + ttl_s))
    return lease


def keep_alive(db: sqlite3.Connection, lease: int) -> bool:
    """Start the lease's time anew; False when it has ended."""
    moment = now()
    cursor = db.execute(
        "UPDATE leases SET ends = ? + ttl_s WHERE id = ? AND ends > ?", (moment, lease, moment)
    )
    return cursor.rowcount == 1


def check(db: sqlite3.Connection, lease: int) -> None:
    """Raise InvalidConfig unless the lease exists; call :func:`take_ended` first."""
    if db.execute("SELECT 1 FROM leases WHERE id = ?", (lease,)).fetchone() is None:
        raise InvalidConfig(
            f"lease {lease} does not exist or has ended",
            field="lease",
            value=lease,
            hint="grant a new one and write the key again",
        )


def next_end(db: sqlite3.Connection) -> float | None:
    """Return when the next lease ends (as :func:`now` counts), None without leases."""
    (ends,) = db.execute("SELECT min(ends) FROM leases").fetchone()
    return float(ends) if ends is not None else None


def take_ended(db: sqlite3.Connection) -> list[str]:
    """Forget the leases whose time is over and return their keys, for deletion."""
    moment = now()
    ids = db.execute("SELECT id FROM leases WHERE ends <= ?", (moment,)).fetchall()
    return [key for (lease,) in ids for key in take(db, lease)]


def take(db: sqlite3.Connection, lease: int) -> list[str]:
    """Forget one lease and return its keys, for deletion; absent is well."""
    db.execute("DELETE FROM leases WHERE id = ?", (lease,))
    rows = db.execute("SELECT key FROM entries WHERE lease = ? AND lease != 0", (lease,))
    return [key for (key,) in rows]
