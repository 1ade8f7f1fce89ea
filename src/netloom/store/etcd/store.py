"""The store in an etcd cluster of one member or several."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from typing import Any

from netloom.model.datastore import Committed, Entry, Listing, Transaction, Watch
from netloom.model.errors import InvalidConfig, NetloomError, Unavailable
from netloom.model.keys import STORE_MARK
from netloom.store.etcd import refusals
from netloom.store.etcd.gateway import Answer, Gateway
from netloom.store.etcd.identity import FIRST_EPOCH, Identity
from netloom.store.etcd.refusals import Refusal
from netloom.store.etcd.transport import Dial, dial
from netloom.store.etcd.url import parse_url
from netloom.store.etcd.watch import EtcdWatch
from netloom.store.etcd.wire import Keyspace
from netloom.store.limits import check_key, check_operation

#: Entries in one answer; a listing of more comes in pages, all at one revision.
PAGE = 1000
_ATTEMPTS = 3


class EtcdStore:
    """A store at the endpoints of ``url`` (see ``url.py``).

    ``dial`` makes its connections, for callers that are elsewhere than the endpoints' network.
    Raises InvalidConfig, NotPermitted, and Unavailable when no endpoint answers.
    """

    def __init__(self, url: str, *, dial: Dial = dial) -> None:
        parsed = parse_url(url)
        self._keys = Keyspace(parsed.prefix)
        self._gateway = Gateway(parsed, dial)
        self._watches: weakref.WeakSet[EtcdWatch] = weakref.WeakSet()
        self._listed: dict[str, int] = {}
        try:
            self._identity = Identity(self._gateway, self._keys)
        except NetloomError:
            self._gateway.close()
            raise

    @property
    def store_id(self) -> str:
        """Name this very store: a new, empty one in the same place has another id."""
        return self._identity.store_id

    @property
    def settled(self) -> bool:
        """Tell whether those who wrote before the store went back in time had time to return."""
        return self._identity.settled

    @property
    def shared(self) -> bool:
        """Tell that our own layout is for our agents alone."""
        return False

    def recall(self, entries: Iterable[Entry]) -> None:
        """Do nothing: what is here can be read again."""

    def take_incidents(self) -> tuple[str, ...]:
        """Return nothing: no record here is put back behind its writer's back."""
        return ()

    def get(self, key: str) -> Entry | None:
        """Return the newest entry of ``key``, or None."""
        check_key(key)
        if not key or key == STORE_MARK:
            return None
        answer = self._ask("/v3/kv/range", {"key": self._keys.key(key)})
        for kv in answer.data.get("kvs", ()):
            return self._keys.entry(kv)
        return None

    def list(self, prefix: str) -> Listing:
        """Return all entries whose key starts with ``prefix``, and the revision they stood at."""
        check_key(prefix)
        for _ in range(_ATTEMPTS):
            before = self._identity.settle()
            try:
                listing = self._read_pages(prefix)
            except Refusal as refusal:
                if refusal.code != refusals.OUT_OF_RANGE:
                    raise Unavailable(f"etcd: {refusal}") from None
                continue  # compacted between two pages: begin again
            epoch = self._identity.settle()
            if epoch != before:
                continue  # the store became another one while it was read
            if epoch != FIRST_EPOCH:
                self._listed[prefix] = epoch
            return listing
        raise Unavailable(
            "etcd is compacted or replaced faster than it can be listed", hint="try again"
        )

    def newer(self, prefix: str, revision: int) -> tuple[Listing, int] | None:
        """Return the entries below ``prefix`` that changed after ``revision``, and how many it has.

        ``revision`` is that of the last listing. What was deleted shows in the number alone. None
        where there is too much to tell, or the store is another one than was listed: list again.
        """
        check_key(prefix)
        epoch = self._listed.get(prefix, FIRST_EPOCH)
        if self._identity.settle() != epoch:
            return None
        request = {**self._keys.below(prefix), "limit": PAGE, "min_mod_revision": str(revision + 1)}
        answer = self._ask("/v3/kv/range", request)
        if self._identity.settle() != epoch or answer.data.get("more"):
            return None
        entries = tuple(self._keys.entry(kv) for kv in answer.data.get("kvs", ()))
        return Listing(answer.revision, entries), int(answer.data.get("count", 0))

    def commit(self, transaction: Transaction) -> Committed:
        """Try the transaction; once it returns, a majority of the members has it on disk."""
        for operation in transaction.operations:
            check_operation(operation)
        for compare in transaction.compares:
            check_key(compare.key)
        request = self._keys.transaction(transaction)
        answer = self._ask("/v3/kv/txn", request, repeat=not transaction.operations)
        return Committed(bool(answer.data.get("succeeded")), answer.revision)

    def watch(self, prefix: str, after_revision: int) -> Watch:
        """Watch the keys that start with ``prefix`` for changes later than ``after_revision``."""
        check_key(prefix)
        # a revision that no listing of this epoch gave is of the time before the store changed
        epoch = self._listed.get(prefix, FIRST_EPOCH)
        watch = EtcdWatch(
            self._gateway, self._identity, self._keys, (prefix, after_revision, epoch)
        )
        self._watches.add(watch)
        return watch

    def grant(self, ttl_s: float) -> int:
        """Return a new lease (never 0); etcd counts in whole seconds and has a least time."""
        if ttl_s <= 0:
            raise InvalidConfig(f"a lease of {ttl_s} s has ended already", field="ttl_s")
        return int(self._call("/v3/lease/grant", {"TTL": str(math.ceil(ttl_s))})["ID"])

    def keep_alive(self, lease: int) -> bool:
        """Start the lease's time anew; False when it has ended already."""
        data = self._call("/v3/lease/keepalive", {"ID": str(lease)})
        return int(data["result"].get("TTL", 0)) > 0

    def revoke(self, lease: int) -> None:
        """End the lease now and delete its keys; absent is well."""
        try:
            self._gateway.call("/v3/lease/revoke", {"ID": str(lease)})
        except Refusal as refusal:
            if refusal.code != refusals.NOT_FOUND:
                raise Unavailable(f"etcd: {refusal}") from None

    def close(self) -> None:
        """Close every watch and connection; idempotent."""
        for watch in list(self._watches):
            watch.close()
        self._gateway.close()

    def _read_pages(self, prefix: str) -> Listing:
        answer = self._identity.ask("/v3/kv/range", {**self._keys.below(prefix), "limit": PAGE})
        revision, entries = answer.revision, []
        while kvs := answer.data.get("kvs"):
            entries += [self._keys.entry(kv) for kv in kvs]  # page by page: a kv is a large dict
            if not answer.data.get("more"):
                break
            request = {**self._keys.after(kvs[-1]["key"], prefix), "limit": PAGE}
            request["revision"] = str(revision)
            answer = self._identity.ask("/v3/kv/range", request)
        return Listing(revision, tuple(entry for entry in entries if entry.key != STORE_MARK))

    def _ask(self, path: str, request: dict[str, Any], *, repeat: bool = True) -> Answer:
        try:
            return self._identity.ask(path, request, repeat=repeat)
        except Refusal as refusal:
            raise self._refused(refusal) from None

    def _call(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._gateway.call(path, request).data
        except Refusal as refusal:
            raise self._refused(refusal) from None

    def _refused(self, refusal: Refusal) -> NetloomError:
        url = self._gateway.url
        return refusals.translate(refusal, url.endpoints[0], url.user)
