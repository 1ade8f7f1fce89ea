"""Watching a SQLite store: read the history past what was seen, then wait for the bell.

No thread of its own: the caller's blocks in :meth:`SqliteWatch.next`. A writer may be killed
between its commit and its ring, so a watch looks at the store every second in any case.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from netloom.model.datastore import Batch
from netloom.store import sqlite_history as history
from netloom.store import sqlite_leases as leases
from netloom.store.sqlite_bell import Bell

if TYPE_CHECKING:
    from netloom.store.sqlite import SqliteStore

LOOK_S = 1.0
PROGRESS_S = 1.0
_MOST_REVISIONS = 1000  # in one batch


class SqliteWatch:
    """A watch on one prefix; see ``model.datastore.Watch``.

    Changes elsewhere in the store do not wake the caller, but at most once in ``PROGRESS_S`` there
    is an empty batch that says how far the watch has come.
    """

    def __init__(self, store: SqliteStore, prefix: str, after_revision: int, epoch: int) -> None:
        self._store = store
        self._prefix = prefix
        self._seen = self._told = after_revision
        self._epoch = epoch
        self._told_at = time.monotonic()
        self._ended = False
        self._bell: Bell | None = Bell(store.connections.path)
        self._reader = threading.Lock()
        self._closing = threading.Lock()

    def next(self, timeout_s: float | None = None) -> Batch | None:
        """Block until something changed; None when ``timeout_s`` passed or the watch has ended."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._reader:
            while not self._ended and self._bell is not None:
                batch, lease_ends = self._read()
                if batch is not None:
                    self._told, self._told_at = batch.revision, time.monotonic()
                    self._ended = batch.compacted
                    return batch
                wait_s = LOOK_S if lease_ends is None else min(LOOK_S, lease_ends - leases.now())
                if deadline is not None:
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        return None
                    wait_s = min(wait_s, left_s)
                self._bell.wait(wait_s)
                if lease_ends is not None and lease_ends <= leases.now():
                    self._store.end_due_leases()
        return None

    def close(self) -> None:
        """End the watch; idempotent, callable from any thread."""
        self._ended = True
        with self._closing:
            if self._bell is None:
                return
            self._bell.wake()
            with self._reader:  # the reader has left
                self._bell.close()
                self._bell = None

    def _read(self) -> tuple[Batch | None, float | None]:
        """Return what is new, if anything, and when the next lease ends."""
        with self._store.connections.reading() as db:
            revision, compacted = history.revisions(db)
            lease_ends = leases.next_end(db)
            epoch = self._store.connections.epoch
            if epoch != self._epoch or not compacted <= self._seen <= revision:
                return Batch(revision, compacted=True), lease_ends
            while self._seen < revision:
                upto = min(revision, self._seen + _MOST_REVISIONS)
                events = history.read_changes(db, self._prefix, self._seen, upto)
                self._seen = upto
                if events:
                    return Batch(upto, events), lease_ends
        if self._told < self._seen and time.monotonic() - self._told_at >= PROGRESS_S:
            return Batch(self._seen), lease_ends
        return None, lease_ends
