"""The store contract: what every datastore (SQLite, etcd, later Kubernetes) promises.

A store is an ordered map from keys (text, '/'-separated) to values (bytes) with one revision
counter that grows by one with every committed transaction that changes something. The contract is
etcd's, cut to what we use, so that etcd is a thin adapter and SQLite can keep every promise.
``tests/store_contract`` holds the suite that each implementation passes unchanged.

All calls block, with a time limit of the store's own, and may be made from any thread. A store
that cannot be reached raises ``Unavailable``; nothing else means "away".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One key at one revision. ``lease`` is 0 for a key without time to live."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries below a prefix, sorted by key, as they stood at ``revision``."""

    revision: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One key changed. ``entry`` is None when it was deleted."""

    key: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Batch:
    """All changes of one or more whole revisions, in order; ``revision`` is the last of them.

    A batch without events is a sign of progress: the watcher has seen all up to ``revision``.
    ``compacted`` True means: history up to the wanted revision is gone, or the store is another one
    than before (``store_id`` changed), or its revision went back (an older copy was restored). It
    is the last batch of its watch: list again, compare, watch anew.
    """

    revision: int
    events: tuple[Event, ...] = ()
    compacted: bool = False


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction: the key's ``mod_revision`` is this; 0 means absent."""

    key: str
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write ``key``; with ``lease`` not 0 the key goes when that lease ends."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete ``key``; absent is well."""

    key: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """Do all ``operations`` in order if every one of ``compares`` holds, else nothing.

    All are one revision; of several operations on one key only the last counts. A transaction that
    changes nothing (no operation, deletions of the absent) makes no revision.
    """

    operations: Sequence[Put | Delete]
    compares: Sequence[Compare] = field(default=())


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction's outcome; ``revision`` is the store's after it, whether it was done or not."""

    succeeded: bool
    revision: int


class Watch(Protocol):
    """A running watch. Iterate with :meth:`next`; closing wakes a blocked reader."""

    def next(self, timeout_s: float | None = None) -> Batch | None:
        """Block until something changed; None when ``timeout_s`` passed or the watch has ended.

        Changes below other prefixes do not wake the caller one by one; a few seconds after them at
        the latest comes a batch without events.

        Raises Unavailable when the store went away; the caller watches again from the revision it
        has seen.
        """
        ...

    def close(self) -> None:
        """End the watch; idempotent, callable from any thread."""
        ...


class Store(Protocol):
    """The contract. Keys are text without NUL; values are at most 1 MiB."""

    @property
    def store_id(self) -> str:
        """Name this very store: a new, empty one in the same place has another id."""
        ...

    @property
    def settled(self) -> bool:
        """Tell whether those who wrote here before the store went back in time had time to return.

        False for a few seconds, in a store that was restored from an older copy; True otherwise.
        Raises Unavailable.
        """
        ...

    @property
    def shared(self) -> bool:
        """Tell whether programs of others keep their records here as well, by their own rules.

        There a host has one block of a network, and what its record says may be taken for the word
        of another's daemon. Our own layout is for our agents alone.
        """
        ...

    def recall(self, entries: Iterable[Entry]) -> None:
        """Learn from the entries of an earlier run what can no longer be read; else do nothing."""
        ...

    def take_incidents(self) -> tuple[str, ...]:
        """Return what happened to this host's records since the last call, in sentences."""
        ...

    def get(self, key: str) -> Entry | None:
        """Return the newest entry of ``key``, or None."""
        ...

    def list(self, prefix: str) -> Listing:
        """Return all entries whose key starts with ``prefix``, and the revision they stood at."""
        ...

    def commit(self, transaction: Transaction) -> Committed:
        """Try the transaction; durable against the death of any process when it returns.

        Raises Unavailable when the outcome is unknown or the store is away; InvalidConfig for a
        lease that does not exist.
        """
        ...

    def watch(self, prefix: str, after_revision: int) -> Watch:
        """Watch the keys that start with ``prefix`` for changes later than ``after_revision``.

        ``list`` followed by ``watch(prefix, listing.revision)`` sees every change exactly once.
        """
        ...

    def grant(self, ttl_s: float) -> int:
        """Return a new lease (never 0) that ends ``ttl_s`` from now unless it is kept alive."""
        ...

    def keep_alive(self, lease: int) -> bool:
        """Start the lease's time anew; False when it has ended already."""
        ...

    def revoke(self, lease: int) -> None:
        """End the lease now and delete its keys; absent is well."""
        ...

    def close(self) -> None:
        """Close every watch and connection; idempotent."""
        ...
