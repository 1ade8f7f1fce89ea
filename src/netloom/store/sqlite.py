"""The embedded store: one SQLite file that all processes of a host share.

The database is in WAL mode: readers never wait, writers take turns, and a process that dies at any
moment leaves either its whole transaction or nothing. A commit costs about as much as writing a
page; watchers in other processes learn of it by a bell file beside the database (see
``sqlite_watch``). It is for the processes of *one kernel*: SQLite's WAL cannot be shared over a
network file system.

To move a store, stop the agents first; to put a copy in its place, remove ``-wal`` and ``-shm``
with the old file. Running agents notice either way and keep the last good state.
"""

from __future__ import annotations

import contextlib
import sqlite3
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from netloom.model.datastore import Committed, Delete, Entry, Listing, Put, Transaction, Watch
from netloom.model.errors import InvalidConfig, Unavailable
from netloom.store import sqlite_history as history
from netloom.store import sqlite_leases as leases
from netloom.store.limits import check_key, check_operation
from netloom.store.sqlite_connections import Connections

if TYPE_CHECKING:
    from netloom.store.sqlite_watch import SqliteWatch

BUSY_S = 5.0
KEEP_REVISIONS = 10_000
_FIRST_EPOCH = 1


class SqliteStore:
    """A store in the file at ``path``, created with its directory (0700) when absent.

    ``create`` False: an absent one is Unavailable instead, and nothing comes into being.
    ``busy_s``: how long a write waits for other processes' writes. ``keep_revisions``: how much
    history there is for watches that come late. Raises InvalidConfig, NotPermitted, Unavailable.
    """

    def __init__(
        self,
        path: str,
        *,
        busy_s: float = BUSY_S,
        keep_revisions: int = KEEP_REVISIONS,
        create: bool = True,
    ) -> None:
        self._connections = Connections(path, busy_s, create=create)
        self._keep_revisions = keep_revisions
        self._boot = leases.boot_id()
        self._watches: weakref.WeakSet[SqliteWatch] = weakref.WeakSet()
        self._listed: set[tuple[int, str]] = set()
        with self._connections.reading() as db:
            foreign = leases.any_foreign(db, self._boot)
        if foreign:
            with self._connections.writing() as db:
                leases.restart_foreign(db, self._boot)

    @property
    def store_id(self) -> str:
        """Name this very store: a new, empty one in the same place has another id."""
        return self._connections.store_id

    @property
    def settled(self) -> bool:
        """Tell that whoever held something here may be asked: nobody can tell an older copy."""
        return True

    @property
    def shared(self) -> bool:
        """Tell that our own layout is for our agents alone."""
        return False

    def recall(self, entries: Iterable[Entry]) -> None:
        """Do nothing: what is here can be read again."""

    def take_incidents(self) -> tuple[str, ...]:
        """Return nothing: no record here is put back behind its writer's back."""
        return ()

    @property
    def connections(self) -> Connections:
        """The open database, for this store's watches."""
        return self._connections

    def get(self, key: str) -> Entry | None:
        """Return the newest entry of ``key``, or None."""
        check_key(key)
        self.end_due_leases()
        with self._connections.reading() as db:
            return history.read(db, key)

    def list(self, prefix: str) -> Listing:
        """Return all entries whose key starts with ``prefix``, and the revision they stood at."""
        check_key(prefix)
        self.end_due_leases()
        with self._connections.reading() as db:
            revision, _ = history.revisions(db)
            listing = Listing(revision, history.read_below(db, prefix))
            epoch = self._connections.epoch
        if epoch != _FIRST_EPOCH:
            self._listed.add((epoch, prefix))
        return listing

    def commit(self, transaction: Transaction) -> Committed:
        """Try the transaction; durable against the death of any process when it returns."""
        for operation in transaction.operations:
            check_operation(operation)
        with self._connections.writing() as db:
            before, _ = history.revisions(db)
            start = self._write(db, before, [Delete(key) for key in leases.take_ended(db)])
            succeeded = all(
                _mod_revision(db, compare.key) == compare.mod_revision
                for compare in transaction.compares
            )
            after = start
            if succeeded:
                for lease in {op.lease for op in transaction.operations if isinstance(op, Put)}:
                    if lease:
                        leases.check(db, lease)
                after = self._write(db, start, transaction.operations)
        if after != before:
            self._connections.ring()
        return Committed(succeeded, after)

    def watch(self, prefix: str, after_revision: int) -> Watch:
        """Watch the keys that start with ``prefix`` for changes later than ``after_revision``."""
        # ctypes costs as much as all else that a short command imports; only watchers need it
        from netloom.store.sqlite_watch import SqliteWatch  # noqa: PLC0415

        check_key(prefix)
        epoch = self._connections.epoch
        if epoch != _FIRST_EPOCH and (epoch, prefix) not in self._listed:
            epoch = _FIRST_EPOCH  # the caller's revision was read before the store became another
        watch = SqliteWatch(self, prefix, after_revision, epoch)
        self._watches.add(watch)
        return watch

    def grant(self, ttl_s: float) -> int:
        """Return a new lease (never 0) that ends ``ttl_s`` from now unless it is kept alive."""
        if ttl_s <= 0:
            raise InvalidConfig(f"a lease of {ttl_s} s has ended already", field="ttl_s")
        with self._connections.writing() as db:
            return leases.grant(db, ttl_s, self._boot)

    def keep_alive(self, lease: int) -> bool:
        """Start the lease's time anew; False when it has ended already."""
        with self._connections.writing() as db:
            return leases.keep_alive(db, lease)

    def revoke(self, lease: int) -> None:
        """End the lease now and delete its keys; absent is well."""
        with self._connections.writing() as db:
            before, _ = history.revisions(db)
            after = self._write(db, before, [Delete(key) for key in leases.take(db, lease)])
        if after != before:
            self._connections.ring()

    def end_due_leases(self) -> None:
        """Delete the keys of leases whose time is over, if there are any.

        While another process keeps the write lock no lease ends: nobody could keep it alive.
        """
        with self._connections.reading() as db:
            ends = leases.next_end(db)
        if ends is not None and ends <= leases.now():
            with contextlib.suppress(Unavailable):
                self.commit(Transaction(()))

    def close(self) -> None:
        """Close every watch and connection; idempotent."""
        for watch in list(self._watches):
            watch.close()
        self._connections.close()

    def _write(
        self, db: sqlite3.Connection, revision: int, operations: Sequence[Put | Delete]
    ) -> int:
        after = history.write(db, revision, operations)
        if after != revision and after % history.TRIM_EVERY == 0:
            history.trim(db, after, self._keep_revisions)
        return after


def _mod_revision(db: sqlite3.Connection, key: str) -> int:
    row = db.execute("SELECT mod_revision FROM entries WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row else 0
