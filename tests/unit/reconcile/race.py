"""One host of a race for blocks, as a process: ``race.py STORE HOST POOL SIZE MODE``.

Waits for a line on stdin, so that all start at once; prints the block that it got.
"""

from __future__ import annotations

import sys
from ipaddress import ip_network

from netloom.model.network import Addressing, Network
from netloom.model.pool import Pool
from netloom.reconcile.claims import Search, claim
from netloom.store.sqlite import SqliteStore


def main(path: str, host_id: str, cidr: str, size: str, mode: str) -> None:
    """Claim one block."""
    store = SqliteStore(path, busy_s=60)  # on a busy machine fifty take turns for long
    pool = Pool(ip_network(cidr), int(size))
    network = Network("blue", (pool,), Addressing(mode, 20))
    print("ready", flush=True)
    sys.stdin.readline()
    print(claim(store, Search(network, pool, host_id)).cidr, flush=True)
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
