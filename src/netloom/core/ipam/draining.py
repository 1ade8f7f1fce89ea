"""Which of a host's blocks are emptied: nothing new is dealt from them, and once empty they go.

A block is drained when its pool is disabled, and when its pool's block size was changed and the
host holds a block of the new size. Until it does, and where the pool has no room for one, the
former block is dealt from as before. Containers keep their addresses until they go. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from netloom.core.ipam.blocks import within
from netloom.model.addr import IPNetwork
from netloom.model.network import Network
from netloom.model.pool import Pool


def draining(network: Network, held: Collection[IPNetwork]) -> frozenset[IPNetwork]:
    """Return those of a host's confirmed blocks, ``held``, that are drained."""
    found: set[IPNetwork] = set()
    for pool in network.pools:
        mine = [cidr for cidr in held if within(cidr, pool.cidr)]
        if pool.disabled:
            found.update(mine)
        elif of_present_size(pool, mine):
            found.update(cidr for cidr in mine if cidr.prefixlen != pool.block_size)
    return frozenset(found)


def outgrown(pool: Pool, held: Iterable[IPNetwork]) -> bool:
    """Tell whether a host holds blocks of ``pool``, but none of the size that it has now."""
    mine = [cidr for cidr in held if within(cidr, pool.cidr)]
    return bool(mine) and not of_present_size(pool, mine)


def of_present_size(pool: Pool, held: Iterable[IPNetwork]) -> list[IPNetwork]:
    """Return the blocks of ``pool`` that count towards a host's limit: former sizes do not."""
    return [c for c in held if c.prefixlen == pool.block_size and within(c, pool.cidr)]
