"""From whose blocks a host borrows an address when it can claim no block, and which ones. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from netloom.core.ipam.blocks import first_last, merged, overlap, within
from netloom.core.ipam.supply import NeedBlock
from netloom.model.addr import IPAddress, as_network
from netloom.model.host import Block
from netloom.model.view import Cluster


def lenders(cluster: Cluster, need: NeedBlock) -> list[Block]:
    """Return the blocks of other hosts that may lend what is needed, in the order to ask.

    Each host has an order of its own, so that not all ask the same one first. Blocks of a former
    size are left out, which are about to be emptied, unless it is one of their addresses that is
    asked for; so are those of one address, of which nothing can be lent.
    """
    found = [
        block
        for block in cluster.blocks.values()
        if block.network == need.network.name
        and block.confirmed
        and not block.lender
        and block.host_id != need.host_id
        and block.cidr.prefixlen < block.cidr.max_prefixlen
        and _serves(block, need)
    ]
    return sorted(found, key=lambda b: zlib.crc32(f"{need.host_id} {b.host_id} {b.cidr}".encode()))


def offers(
    cluster: Cluster, need: NeedBlock, block: Block, used: Iterable[IPAddress]
) -> Iterator[IPAddress]:
    """Yield the addresses of ``block`` to ask for; ``used`` are those known to be in use.

    From the last one down: the block's own host deals from the first one up. Never the first, by
    which a tunnel reaches the whole block, if the network has one some day.
    """
    loans = (b.cidr for b in cluster.blocks.values() if b.lender and overlap(b.cidr, block.cidr))
    withheld = [c for c in need.supply.reserved() if overlap(c, block.cidr)]
    busy = [first_last(as_network(address)) for address in used if address in block.cidr]
    busy += [first_last(loan) for loan in loans]
    busy.append(first_last(as_network(block.cidr.network_address)))
    if need.wish is not None:
        number = int(need.wish)
        if not any(low <= number <= high for low, high in busy):
            yield need.wish
        return
    kind = type(block.cidr.network_address)
    first, number = first_last(block.cidr)
    for low, high in reversed(merged([*busy, *(first_last(cidr) for cidr in withheld)])):
        yield from map(kind, range(number, max(high, first - 1), -1))
        number = min(number, low - 1)
    yield from map(kind, range(number, first - 1, -1))


def _serves(block: Block, need: NeedBlock) -> bool:
    if need.wish is not None:
        return need.wish in block.cidr
    return any(
        within(block.cidr, pool.cidr) and block.cidr.prefixlen == pool.block_size
        for pool in need.pools
    )
