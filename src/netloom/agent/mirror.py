"""Copy the host's endpoints to the cluster store, where other hosts and people can read them.

Level-triggered: whatever the store holds below ``endpoints/<host id>/`` is made equal to what the
journal says. The journal is the truth and the mirror may lag, be wrong or be away without harm to
any container; it is read back only where a host lost its journal (:meth:`Mirror.shown`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from netloom.agent.addresses import AddressBook
from netloom.agent.journal import encode
from netloom.model.datastore import Delete, Put, Store, Transaction
from netloom.model.endpoint import Endpoint
from netloom.model.errors import NetloomError
from netloom.model.keys import ENDPOINTS, endpoint_key

#: Operations of one transaction: etcd takes 128 by default.
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Synced:
    """What one run changed; ``version`` is the book's that the store shows now."""

    version: int
    written: int
    deleted: int


class Mirror:
    """The mirror of one host. One thread at a time."""

    def __init__(self, book: AddressBook, host_id: str) -> None:
        self._book = book
        self._host_id = host_id
        self._encoded: dict[str, tuple[Endpoint, bytes]] = {}
        #: What the store is believed to hold, and which store and version of the book that was.
        self._held: dict[str, bytes] | None = None
        self._store_id = ""
        self._version = -1

    @property
    def version(self) -> int:
        """The version of the book that the store shows, or a later one; -1 before the first run."""
        return self._version

    def sync_once(self, store: Store) -> Synced:
        """Make the store show the journal's endpoints; the second run changes nothing.

        After a change of the book only the difference to the last run is written; a run without
        one reads the store first, and so repairs what another hand did. Raises Unavailable when
        the store is away; the next run then reads it first.
        """
        version = self._book.version
        held, self._held = self._held, None  # until this run succeeded, nothing is known
        if held is None or version == self._version or store.store_id != self._store_id:
            listing = store.list(f"{ENDPOINTS}{self._host_id}/")
            held = {entry.key: entry.value for entry in listing.entries}
        wanted = self._wanted()
        puts = [Put(key, value) for key, value in wanted.items() if held.get(key) != value]
        deletes = [Delete(key) for key in held if key not in wanted]
        operations: list[Put | Delete] = [*deletes, *puts]
        for start in range(0, len(operations), _BATCH):
            store.commit(Transaction(operations[start : start + _BATCH]))
        self._held, self._version, self._store_id = dict(wanted), version, store.store_id
        return Synced(version, len(puts), len(deletes))

    def shown(self, store: Store) -> tuple[Endpoint, ...]:
        """Return this host's endpoints as the store shows them; unreadable ones are left out.

        For a host that lost its journal alone; all others know better. Raises Unavailable.
        """
        return read_endpoints(store, f"{ENDPOINTS}{self._host_id}/")

    def _wanted(self) -> Mapping[str, bytes]:
        # An endpoint that did not change is the same object, so it is encoded once.
        encoded = {}
        for endpoint in self._book.endpoints():
            key = endpoint_key(
                self._host_id, endpoint.network, endpoint.container_id, endpoint.ifname
            )
            known = self._encoded.get(key)
            if known is None or known[0] is not endpoint:
                known = (endpoint, encode(endpoint.render()))
            encoded[key] = known
        self._encoded = encoded
        return {key: value for key, (_, value) in encoded.items()}


def read_endpoints(store: Store, prefix: str = ENDPOINTS) -> tuple[Endpoint, ...]:
    """Return the endpoints below ``prefix`` as the store shows them; unreadable ones are left out.

    Their hosts write those anew. Raises Unavailable.
    """
    found = []
    for entry in store.list(prefix).entries:
        with suppress(ValueError, NetloomError):
            found.append(Endpoint.parse(json.loads(entry.value), entry.key))
    return tuple(found)
