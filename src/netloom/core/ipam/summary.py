"""Count addresses of pools and blocks, and say all that is known of one address."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

from netloom.core.ipam.blocks import first_last, merged, within
from netloom.core.ipam.reserved import reserved
from netloom.model.addr import IPAddress, IPNetwork
from netloom.model.endpoint import Endpoint
from netloom.model.host import Block, Reservation, block_order
from netloom.model.pool import Pool
from netloom.model.view import Cluster


@dataclass(frozen=True, slots=True)
class Count:
    """The addresses of one CIDR; ``reserved`` counts those that are not in use. Free is the rest.

    What attachment and backend keep of a block for themselves counts as free here.
    """

    cidr: IPNetwork
    total: int
    in_use: int
    reserved: int

    @property
    def free(self) -> int:
        """How many are neither in use nor reserved."""
        return self.total - self.in_use - self.reserved


@dataclass(frozen=True, slots=True)
class PoolCount:
    """One pool of a network with its blocks, sorted by address."""

    network: str
    pool: Pool
    count: Count
    blocks: tuple[tuple[Block, Count], ...]


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What is known of one address in one network; None where nothing is."""

    network: str
    pool: Pool
    block: Block | None
    holders: tuple[Endpoint, ...]
    reservations: tuple[Reservation, ...]


def summarise(cluster: Cluster, endpoints: Iterable[Endpoint]) -> list[PoolCount]:
    """Count every pool and block, networks by name, pools as they are defined."""
    used: dict[tuple[str, int], set[int]] = {}
    for endpoint in endpoints:
        for address in endpoint.addresses:
            used.setdefault((endpoint.network, address.version), set()).add(int(address))
    result = []
    for name, network in sorted(cluster.networks.items()):
        withheld = reserved(cluster, network)
        for pool in network.pools:
            taken = sorted(used.get((name, pool.family), ()))
            spans = merged(
                first_last(each.cidr) for each in withheld if each.cidr.version == pool.family
            )
            blocks = sorted(
                (b for b in cluster.blocks.values() if b.network == name and _in(b, pool)),
                key=block_order,
            )
            counted = tuple((block, _count(block.cidr, taken, spans)) for block in blocks)
            result.append(PoolCount(name, pool, _count(pool.cidr, taken, spans), counted))
    return result


def find(cluster: Cluster, endpoints: Iterable[Endpoint], address: IPAddress) -> list[Whereabouts]:
    """Return what is known of ``address``, for each network that has it in a pool."""
    holding = [each for each in endpoints if address in each.addresses]
    result = []
    for name, network in sorted(cluster.networks.items()):
        for pool in network.pools:
            if address not in pool.cidr:
                continue
            blocks = [b for b in cluster.blocks.values() if b.network == name and address in b.cidr]
            kept = tuple(each for each in reserved(cluster, network) if address in each.cidr)
            holders = tuple(each for each in holding if each.network == name)
            block = max(blocks, key=lambda block: block.cidr.prefixlen, default=None)
            result.append(Whereabouts(name, pool, block, holders, kept))
    return result


def _in(block: Block, pool: Pool) -> bool:
    return within(block.cidr, pool.cidr)


def _count(cidr: IPNetwork, taken: list[int], spans: list[tuple[int, int]]) -> Count:
    first, last = first_last(cidr)
    in_use = _between(taken, first, last)
    kept = 0
    for start, end in spans:
        low, high = max(first, start), min(last, end)
        if low <= high:
            kept += high - low + 1 - _between(taken, low, high)
    return Count(cidr, last - first + 1, in_use, kept)


def _between(numbers: list[int], first: int, last: int) -> int:
    return bisect.bisect_right(numbers, last) - bisect.bisect_left(numbers, first)
