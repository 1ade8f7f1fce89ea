"""A store in memory that keeps the contract, and one that dies after its k-th operation."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Iterable

from netloom.model.datastore import (
    Committed,
    Delete,
    Entry,
    Listing,
    Put,
    Store,
    Transaction,
    Watch,
)


class MemoryStore:
    """Keys, revisions and transactions as ``model/datastore.py`` promises; no watches or leases."""

    settled = True
    shared = False

    def __init__(self) -> None:
        self.store_id = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._revision = 0

    def recall(self, entries: Iterable[Entry]) -> None:
        pass

    def take_incidents(self) -> tuple[str, ...]:
        return ()

    def get(self, key: str) -> Entry | None:
        with self._lock:
            return self._entries.get(key)

    def list(self, prefix: str) -> Listing:
        with self._lock:
            keys = sorted(key for key in self._entries if key.startswith(prefix))
            return Listing(self._revision, tuple(self._entries[key] for key in keys))

    def commit(self, transaction: Transaction) -> Committed:
        with self._lock:
            for compare in transaction.compares:
                entry = self._entries.get(compare.key)
                if (entry.mod_revision if entry else 0) != compare.mod_revision:
                    return Committed(False, self._revision)
            changes = [
                operation
                for operation in transaction.operations
                if isinstance(operation, Put) or operation.key in self._entries
            ]
            if changes:
                self._revision += 1
            for operation in changes:
                self._change(operation)
            return Committed(True, self._revision)

    def _change(self, operation: Put | Delete) -> None:
        if isinstance(operation, Delete):
            self._entries.pop(operation.key, None)
            return
        old = self._entries.get(operation.key)
        created = old.create_revision if old else self._revision
        self._entries[operation.key] = Entry(
            operation.key, operation.value, created, self._revision, operation.lease
        )

    def watch(self, prefix: str, after_revision: int) -> Watch:
        raise NotImplementedError

    def grant(self, ttl_s: float) -> int:
        raise NotImplementedError

    def keep_alive(self, lease: int) -> bool:
        raise NotImplementedError

    def revoke(self, lease: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Died(BaseException):
    """The process that used the store is gone; no handler of ours may catch this."""


class FaultyStore:
    """Hand calls to ``inner`` until the k-th, which fails.

    ``done`` says whether the k-th call takes effect before it fails. ``error`` is raised then:
    ``Died`` for a kill, ``Unavailable`` for a connection that broke with the outcome unknown.
    """

    def __init__(
        self, inner: Store, fails_at: int, *, done: bool, error: type[BaseException] = Died
    ) -> None:
        self._inner = inner
        self._calls = itertools.count(1)
        self._fails_at = fails_at
        self._done = done
        self._error = error
        self.failed = False
        self._healed = False

    def heal(self) -> None:
        """Work from now on."""
        self._healed = True

    @property
    def store_id(self) -> str:
        return self._inner.store_id

    @property
    def settled(self) -> bool:
        return self._inner.settled

    @property
    def shared(self) -> bool:
        return self._inner.shared

    def recall(self, entries: Iterable[Entry]) -> None:
        self._inner.recall(entries)

    def take_incidents(self) -> tuple[str, ...]:
        return self._inner.take_incidents()

    def _fails(self) -> bool:
        if next(self._calls) == self._fails_at:
            self.failed = True
        return self.failed and not self._healed

    def get(self, key: str) -> Entry | None:
        if self._fails():
            raise self._error("get")
        return self._inner.get(key)

    def list(self, prefix: str) -> Listing:
        if self._fails():
            raise self._error("list")
        return self._inner.list(prefix)

    def commit(self, transaction: Transaction) -> Committed:
        before = self.failed
        if self._fails():
            if self._done and not before:
                self._inner.commit(transaction)
            raise self._error("commit")
        return self._inner.commit(transaction)

    def watch(self, prefix: str, after_revision: int) -> Watch:
        return self._inner.watch(prefix, after_revision)

    def grant(self, ttl_s: float) -> int:
        return self._inner.grant(ttl_s)

    def keep_alive(self, lease: int) -> bool:
        return self._inner.keep_alive(lease)

    def revoke(self, lease: int) -> None:
        self._inner.revoke(lease)

    def close(self) -> None:
        pass
