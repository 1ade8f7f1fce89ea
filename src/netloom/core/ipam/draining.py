"""Which of a host's blocks are emptied: nothing new is dealt from them, and once empty they go.

A block is drained when its pool is disabled, and when its pool's block size was changed and the
host holds a block of the new size. Until it does, and where the pool has no room for one, the
former block is dealt from as before. It is stranded where the host would get no block any more: in
no pool of the network, or in one whose selector does not select the host. Containers keep their
addresses until they go. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

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


def stranded(
    network: Network, held: Iterable[IPNetwork], labels: Mapping[str, str] | None
) -> frozenset[IPNetwork]:
    """Return those of a host's blocks, ``held``, that are stranded.

    ``labels`` are the host's; where they are not known, None, no selector counts against it.
    """
    pools = [
        pool
        for pool in network.pools
        if labels is None or pool.node_selector is None or pool.node_selector.matches(labels)
    ]
    return frozenset(c for c in held if not any(within(c, pool.cidr) for pool in pools))


def outgrown(pool: Pool, held: Iterable[IPNetwork]) -> bool:
    """Tell whether a host holds blocks of ``pool``, but none of the size that it has now."""
    mine = [cidr for cidr in held if within(cidr, pool.cidr)]
    return bool(mine) and not of_present_size(pool, mine)


def of_present_size(pool: Pool, held: Iterable[IPNetwork]) -> list[IPNetwork]:
    """Return the blocks of ``pool`` that count towards a host's limit: former sizes do not."""
    return [c for c in held if c.prefixlen == pool.block_size and within(c, pool.cidr)]
