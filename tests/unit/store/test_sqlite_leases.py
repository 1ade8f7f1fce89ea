"""Leases and the clock: a boot begins time anew, the dead keep nothing alive."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from netloom.model.datastore import Compare, Put, Transaction
from netloom.model.errors import InvalidConfig
from netloom.store import sqlite_leases as leases
from netloom.store.sqlite import SqliteStore


def leased(store: SqliteStore, ttl_s: float) -> int:
    lease = store.grant(ttl_s)
    store.commit(Transaction([Put("/alive/h1", b"", lease)]))
    return lease


def pretend(path: Path, boot: str, ends: float) -> None:
    """Make the leases of the database those of another boot."""
    with sqlite3.connect(path) as database:
        database.execute("UPDATE leases SET boot = ?, ends = ?", (boot, ends))


def test_a_lease_of_an_earlier_boot_gets_its_whole_time_again(tmp_path: Path):
    """The clock counts from boot: what an earlier boot wrote may lie far ahead or behind."""
    path = tmp_path / "cluster.db"
    for ends in (0.0, leases.now() + 1e9):
        store = SqliteStore(str(path))
        lease = leased(store, 60)
        store.close()
        pretend(path, "an earlier boot", ends)
        store = SqliteStore(str(path))
        assert store.get("/alive/h1") is not None
        assert store.keep_alive(lease)
        with sqlite3.connect(path) as database:
            (left,) = database.execute("SELECT ends FROM leases WHERE id = ?", (lease,)).fetchone()
        assert left - leases.now() <= 60
        store.revoke(lease)
        store.close()


def test_a_lease_of_this_boot_keeps_its_end_when_the_store_is_opened_again(tmp_path: Path):
    path = tmp_path / "cluster.db"
    store = SqliteStore(str(path))
    leased(store, 60)
    pretend(path, leases.boot_id(), leases.now() - 1)
    again = SqliteStore(str(path))
    assert again.get("/alive/h1") is None
    store.close()
    again.close()


def test_many_that_notice_an_end_at_once_make_one_revision(tmp_path: Path):
    path = tmp_path / "cluster.db"
    store = SqliteStore(str(path))
    leased(store, 60)
    before = store.list("").revision
    others = [SqliteStore(str(path)) for _ in range(8)]
    pretend(path, leases.boot_id(), leases.now() - 1)
    threads = [threading.Thread(target=other.list, args=("",)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.list("").revision == before + 1
    for other in (store, *others):
        other.close()


def test_a_lease_whose_time_is_over_is_dead_before_anybody_noticed(tmp_path: Path):
    path = tmp_path / "cluster.db"
    store = SqliteStore(str(path))
    lease = leased(store, 60)
    pretend(path, leases.boot_id(), leases.now() - 1)
    assert not store.keep_alive(lease)
    with pytest.raises(InvalidConfig, match="has ended"):
        store.commit(Transaction([Put("/alive/h1", b"", lease)]))
    assert store.get("/alive/h1") is None
    store.close()


def test_a_transaction_meets_no_lease_that_is_over(tmp_path: Path):
    path = tmp_path / "cluster.db"
    store = SqliteStore(str(path))
    leased(store, 60)
    before = store.list("").revision
    pretend(path, leases.boot_id(), leases.now() - 1)
    assert store.commit(Transaction([Put("/a", b"")], [Compare("/alive/h1", 0)])).succeeded
    assert store.list("").revision == before + 2
    store.close()


def test_a_refused_transaction_still_ends_leases_that_are_over(tmp_path: Path):
    """The end of a lease is no part of the transaction that notices it."""
    path = tmp_path / "cluster.db"
    store = SqliteStore(str(path))
    leased(store, 60)
    before = store.list("").revision
    pretend(path, leases.boot_id(), leases.now() - 1)
    refused = store.commit(Transaction([Put("/a", b"")], [Compare("/a", 99)]))
    assert (refused.succeeded, refused.revision) == (False, before + 1)
    assert store.list("").entries == ()
    store.close()
