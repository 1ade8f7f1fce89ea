"""What of a network no block is claimed of: reservations of its own, and IPReservations."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from netloom.core.ipam.reserved import KIND, from_documents
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Store
from netloom.model.errors import NetloomError
from netloom.model.host import Reservation
from netloom.model.keys import RESERVATIONS, RESOURCES
from netloom.model.network import Network
from netloom.model.resource import Resource

T = TypeVar("T")


def reserved(store: Store, network: Network) -> list[IPNetwork]:
    """Return the reserved ranges that touch a network, as they stand in the store now."""
    own = _readable(store, f"{RESERVATIONS}{network.name}/", Reservation.parse)
    documents = _readable(store, f"{RESOURCES}{KIND}/", Resource.parse)
    return [each.cidr for each in (*own, *from_documents(documents, network))]


def _readable(store: Store, prefix: str, parse: Callable[[object, str], T]) -> list[T]:
    found = []
    for entry in store.list(prefix).entries:
        with suppress(ValueError, NetloomError):  # of what cannot be read the view reports
            found.append(parse(json.loads(entry.value), entry.key))
    return found
