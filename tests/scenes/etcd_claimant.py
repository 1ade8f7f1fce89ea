"""One host that opens a store and claims a block of the network ``crowd``. Not a test."""

from __future__ import annotations

import sys
from contextlib import suppress

from netloom.core import definition
from netloom.model.errors import Unavailable
from netloom.reconcile import claims
from netloom.store.opening import open_store


def claim(url: str, host_id: str) -> None:
    """Wait for the start, then print the store's id and the block."""
    network = definition.parse({"name": "crowd", "pools": ["10.244.0.0/16"]})
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        with suppress(Unavailable):  # an agent tries again as well
            store = open_store(url)
            block = claims.claim(store, claims.Search(network, network.pools[0], host_id))
            print(store.store_id, block.cidr, flush=True)
            store.close()
            return


if __name__ == "__main__":
    claim(*sys.argv[1:])
