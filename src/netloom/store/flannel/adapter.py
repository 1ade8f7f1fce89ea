"""``FlannelStore``: our store contract on flannel's keys, in whatever store they are.

The agent, its claims and the command line work on it as on any store. What flannel's daemons write
they see as hosts, blocks and a network; what they write flannel's daemons see as leases. The
translation is in ``picture`` (reading) and ``changes`` (writing); ``holding`` keeps the leases of
this host. See ``layout`` for what stands where.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol, runtime_checkable

from netloom.model import keys
from netloom.model.datastore import (
    Committed,
    Compare,
    Delete,
    Entry,
    Listing,
    Put,
    Store,
    Transaction,
    Watch,
)
from netloom.store.flannel.changes import Lost, Translation
from netloom.store.flannel.holding import Holding
from netloom.store.flannel.layout import Format
from netloom.store.flannel.picture import Picture
from netloom.store.flannel.records import guests_blocks
from netloom.store.flannel.watch import FlannelWatch, RenamedWatch, StaleWatch

#: For so long after a listing a watch may begin at it; who comes later lists again. The agent's
#: own look waits for its watch however long it takes.
RECENT_S = 10.0


@runtime_checkable
class TellsNews(Protocol):
    """A store that can say what is newer than a listing (``EtcdStore.newer``)."""

    def newer(self, prefix: str, revision: int) -> tuple[Listing, int] | None:
        """Return the entries below ``prefix`` changed since, and how many there are in all."""
        ...


class FlannelStore:
    """A store whose ``cluster/`` is flannel's layout below ``form.prefix`` of ``store``.

    It owns ``store`` and closes it.
    """

    def __init__(
        self,
        store: Store,
        form: Format | None = None,
        *,
        recent_s: float = RECENT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._form = form or Format()
        self._clock = clock
        self._holding = Holding(store, self._form, clock)
        self._alive_lease = 0
        #: What the last look showed, and its revision: 0 where the next has to list all keys, since
        #: what was shown may not be what stands.
        self._shown, self._revision = Picture(self._form, ()), 0
        #: Of recent listings what a watch may begin at.
        self._recent: dict[str, tuple[int, Picture]] = {}
        self._recent_s, self._listed_s = recent_s, 0.0
        #: Held by who looks at ``_shown``.
        self._lock = threading.RLock()

    @property
    def store_id(self) -> str:
        """Name this very store; another prefix is another store."""
        return f"{self._store.store_id}{self._form.root}"

    @property
    def settled(self) -> bool:
        """Tell whether those who wrote before the store went back in time had time to return."""
        return self._store.settled

    @property
    def shared(self) -> bool:
        """Tell that flannel's daemons keep their leases here."""
        return True

    def get(self, key: str) -> Entry | None:
        """Return the newest entry of ``key``, or None."""
        if key.startswith(keys.CLUSTER) and not key.startswith(keys.RESERVATIONS):
            own_host = self._store.get(self._form.raw(key)) if key.startswith(keys.HOSTS) else None
            if own_host is not None:
                return replace(own_host, key=key)
            with self._lock:
                return self._picture()[1].records.get(key)
        entry = self._store.get(self._form.raw(key))
        return replace(entry, key=key) if entry else None

    def list(self, prefix: str) -> Listing:
        """Return all entries whose key starts with ``prefix``, and the revision they stood at."""
        if prefix.startswith(keys.CLUSTER):
            with self._lock:
                if prefix == keys.CLUSTER:
                    self._revision = 0  # the agent's own look is what all the others lean on
                revision, picture = self._picture()
                found = [entry for key, entry in picture.records.items() if key.startswith(prefix)]
                self._remember(prefix, revision, picture)
            return Listing(revision, tuple(sorted(found, key=lambda entry: entry.key)))
        listing = self._store.list(self._form.raw(prefix))
        entries = (replace(e, key=self._form.ours(e.key)) for e in listing.entries)
        return Listing(listing.revision, tuple(entries))

    def commit(self, transaction: Transaction) -> Committed:
        """Try the transaction on flannel's keys."""
        if not self._concerns_cluster(transaction):
            committed = self._store.commit(self._moved(transaction))
            if committed.succeeded:
                self._learn(transaction)
            return committed
        with self._lock:
            revision, picture = self._picture()
            translation = Translation(picture, self._holding, self._holding.lease)
            try:
                raw = translation.translate(transaction)
            except Lost:
                self._revision = 0
                return Committed(False, revision)
        for segment in translation.given_back:
            self._holding.forget(segment)
        committed = self._store.commit(raw)
        if not committed.succeeded:
            with self._lock:
                self._revision = 0
        if committed.succeeded and self._holding.host_id and self._writes_own_host(transaction):
            self._tend()
        return committed

    def watch(self, prefix: str, after_revision: int) -> Watch:
        """Watch the keys that start with ``prefix`` for changes later than ``after_revision``."""
        if not prefix.startswith(keys.CLUSTER):
            raw = self._store.watch(self._form.raw(prefix), after_revision)
            return RenamedWatch(raw, self._form.ours)
        with self._lock:
            revision, picture = self._recent.pop(prefix, (-1, None))
        if picture is None or revision != after_revision:
            return StaleWatch(after_revision)
        raw = self._store.watch(self._form.root, after_revision)
        return FlannelWatch(raw, picture, self._holding, prefix, self._clock)

    def grant(self, ttl_s: float) -> int:
        """Return a new lease (never 0) that ends ``ttl_s`` from now unless it is kept alive."""
        return self._store.grant(ttl_s)

    def keep_alive(self, lease: int) -> bool:
        """Start the lease's time anew; that of the agent's liveness keeps our leases too."""
        alive = self._store.keep_alive(lease)
        self._forget_listings()
        if alive and lease == self._alive_lease:
            self._holding.renew()
            if self._holding.due:
                self._tend()
        return alive

    def revoke(self, lease: int) -> None:
        """End the lease now and delete its keys; absent is well."""
        self._store.revoke(lease)

    def recall(self, entries: Iterable[Entry]) -> None:
        """Learn from the records of an earlier run at which address each guest was.

        The host of a lease that cannot be read any more is known by that alone.
        """
        known = dict(guests_blocks(entries))
        with self._lock:
            self._shown = Picture(self._form, self._shown.raw.values(), known)

    def take_incidents(self) -> tuple[str, ...]:
        """Return what happened to this host's leases since the last call, in sentences."""
        return self._holding.take_incidents()

    def close(self) -> None:
        """Close every watch and connection; idempotent."""
        self._store.close()

    def _picture(self) -> tuple[int, Picture]:
        """Look at all raw keys; own leases that are gone are put back first.

        The caller holds the lock for as long as it looks at the picture.
        """
        self._look()
        put_back = [self._holding.put_back(each) for each in self._holding.missing(self._shown)]
        if any(put_back):
            self._look()
        self._holding.note(self._shown)
        return self._revision, self._shown

    def _look(self) -> None:
        """Bring the picture to what stands: where the store can say what is new, by that alone."""
        newer = None
        if self._revision and isinstance(self._store, TellsNews):
            newer = self._store.newer(self._form.root, self._revision)
        if newer is not None and self._shown.learn(*newer):
            self._revision = newer[0].revision
            return
        listing = self._store.list(self._form.root)
        self._shown.become(listing.entries)
        self._revision = listing.revision

    def _remember(self, prefix: str, revision: int, picture: Picture) -> None:
        """Keep what a watch below ``prefix`` begins with; of the agent's own look, the last too."""
        agents = self._recent.get(keys.CLUSTER)
        self._recent = {keys.CLUSTER: agents} if agents else {}
        self._recent[prefix] = (revision, picture.copy())
        self._listed_s = self._clock()

    def _forget_listings(self) -> None:
        """Let go of what nobody began to watch at in time: of thousands of leases it is much.

        Another time will do where somebody is looking: no lease may wait for that.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._clock() - self._listed_s > self._recent_s:
                agents = self._recent.get(keys.CLUSTER)
                self._recent = {keys.CLUSTER: agents} if agents else {}
        finally:
            self._lock.release()

    def _tend(self) -> None:
        with self._lock:
            self._holding.tend(self._picture()[1])

    def _learn(self, transaction: Transaction) -> None:
        """Learn whose agent works here: it is the host that it says is alive."""
        for operation in transaction.operations:
            if (
                isinstance(operation, Put)
                and operation.key.startswith(keys.ALIVE)
                and operation.lease
            ):
                self._holding.host_id = operation.key.removeprefix(keys.ALIVE)
                self._alive_lease = operation.lease
                self._tend()

    def _writes_own_host(self, transaction: Transaction) -> bool:
        own = keys.host_key(self._holding.host_id)
        return any(isinstance(op, Put) and op.key == own for op in transaction.operations)

    def _concerns_cluster(self, transaction: Transaction) -> bool:
        parts = (*transaction.operations, *transaction.compares)
        return any(part.key.startswith(keys.CLUSTER) for part in parts)

    def _moved(self, transaction: Transaction) -> Transaction:
        raw = self._form.raw
        return Transaction(
            [
                Put(raw(op.key), op.value, op.lease) if isinstance(op, Put) else Delete(raw(op.key))
                for op in transaction.operations
            ],
            [Compare(raw(c.key), c.mod_revision) for c in transaction.compares],
        )
