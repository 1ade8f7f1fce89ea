"""What the contract suite needs of an implementation: a place where a store is."""

from __future__ import annotations

from typing import Protocol

from netloom.model.datastore import Store


class Place(Protocol):
    """One empty store that several objects and processes can open.

    ``url`` is for ``open_store``; ``least_ttl_s`` is the shortest time to live that the store
    takes at its word (etcd: some seconds).
    """

    url: str
    least_ttl_s: float

    def open(self) -> Store:
        """Return one more store object on the same data; the fixture closes it."""
        ...

    def forget_history(self) -> None:
        """Make the store forget the history that there is now, as compaction would."""
        ...
