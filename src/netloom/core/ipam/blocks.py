"""Choose the next block of a pool for a host.

Pure arithmetic on block numbers: a pool of a million blocks costs no more than a pool of ten; only
the claims and reservations that exist are looked at. ``reconcile/claims.py`` makes the choice true
in the store.

Which free block is chosen:

* one that the host held before (a hint), if nobody else holds any of it;
* in ``host-block`` mode the lowest free one at the first try, since people expect 10.244.0.0/24,
  10.244.1.0/24 and so on; each lost race doubles the window above it in which the next try lands,
  at a place that depends on the host. Hosts that start together thus part after a few tries, and
  the numbers stay small;
* in ``on-demand`` mode a place anywhere in the pool that depends on the host and the try, so that
  simultaneous claims rarely meet at all.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from netloom.model.addr import IPNetwork
from netloom.model.network import Addressing
from netloom.model.pool import Pool

#: Blocks above the lowest free one among which a tidy search lands after its first lost race.
_FIRST_WINDOW = 8


@dataclass(frozen=True, slots=True)
class Preference:
    """How a host searches: ``attempt`` counts the races it lost in this search.

    ``tidy`` asks for low numbers; ``hints`` are blocks to try first, the best one first. A hint may
    have another size than the pool's blocks have now: it dates from before the size was changed.
    """

    host_id: str
    tidy: bool = True
    hints: tuple[IPNetwork, ...] = ()
    attempt: int = 0

    def rank(self, free: int) -> int:
        """Return which of ``free`` blocks, counted from the lowest, this attempt takes."""
        if self.tidy and self.attempt == 0:
            return 0
        window = min(free, _FIRST_WINDOW << min(self.attempt, 64)) if self.tidy else free
        seed = f"{self.host_id}\0{self.attempt}".encode()
        return int.from_bytes(hashlib.sha256(seed).digest()[:16]) % window


def block_limit(addressing: Addressing) -> int:
    """Return how many blocks of one pool a host may hold."""
    return 1 if addressing.mode == "host-block" else addressing.max_blocks_per_host


def first_last(cidr: IPNetwork) -> tuple[int, int]:
    """Return the first and the last address of ``cidr`` as integers."""
    first = int(cidr.network_address)
    return first, first + (1 << (cidr.max_prefixlen - cidr.prefixlen)) - 1


def within(inner: IPNetwork, outer: IPNetwork) -> bool:
    """Tell whether ``inner`` lies in ``outer``; False across families."""
    if inner.version != outer.version:
        return False
    low, high = first_last(outer)
    first, last = first_last(inner)
    return low <= first and last <= high


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    """Tell whether two CIDRs share an address; False across families."""
    return one.version == other.version and (within(one, other) or within(other, one))


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return inclusive spans sorted, with touching and overlapping ones made one."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], last))
        else:
            result.append((first, last))
    return result


def block_at(pool: Pool, number: int) -> IPNetwork:
    """Return block ``number`` of ``pool``, counted from 0."""
    shift = pool.cidr.max_prefixlen - pool.block_size
    address = int(pool.cidr.network_address) + (number << shift)
    kind = ipaddress.IPv4Network if pool.family == 4 else ipaddress.IPv6Network
    return kind((address, pool.block_size))


def block_count(pool: Pool) -> int:
    """Return how many blocks ``pool`` is cut into."""
    return 1 << (pool.block_size - pool.cidr.prefixlen)


def block_of(pool: Pool, cidr: IPNetwork) -> IPNetwork:
    """Return the block of ``pool`` that ``cidr``, not larger than a block, lies in."""
    shift = pool.cidr.max_prefixlen - pool.block_size
    return block_at(pool, (int(cidr.network_address) - int(pool.cidr.network_address)) >> shift)


def free_numbers(
    pool: Pool, taken: Iterable[IPNetwork], reserved: Iterable[IPNetwork]
) -> list[tuple[int, int]]:
    """Return the inclusive spans of block numbers that may be claimed.

    A block is left out when a claim of any size shares an address with it, or when reservations
    cover it wholly; one that is reserved in part still has addresses to deal.
    """
    base, top = first_last(pool.cidr)
    shift = pool.cidr.max_prefixlen - pool.block_size
    busy = [
        ((max(first, base) - base) >> shift, (min(last, top) - base) >> shift)
        for first, last in _in_family(taken, pool)
        if first <= top and last >= base
    ]
    for first, last in merged(_in_family(reserved, pool)):
        low = (max(first, base) - base + (1 << shift) - 1) >> shift
        high = ((min(last, top) + 1 - base) >> shift) - 1
        if low <= high:
            busy.append((low, high))
    free, number = [], 0
    for low, high in merged(busy):
        if number < low:
            free.append((number, low - 1))
        number = high + 1
    if number < block_count(pool):
        free.append((number, block_count(pool) - 1))
    return free


def next_block(
    pool: Pool,
    taken: Iterable[IPNetwork],
    reserved: Iterable[IPNetwork],
    preference: Preference,
) -> IPNetwork | None:
    """Return the block to claim next, or None when the pool has none left.

    ``taken`` are the claims of all hosts, pending ones too, of any size; those outside the pool do
    no harm.
    """
    claims = list(taken)
    for hint in preference.hints:
        if within(hint, pool.cidr) and not any(overlap(hint, claim) for claim in claims):
            return hint
    spans = free_numbers(pool, claims, reserved)
    free = sum(last - first + 1 for first, last in spans)
    if not free:
        return None
    rank = preference.rank(free)
    for first, last in spans:
        if rank <= last - first:
            return block_at(pool, first + rank)
        rank -= last - first + 1
    raise AssertionError("a rank is below the number of free blocks")


def _in_family(cidrs: Iterable[IPNetwork], pool: Pool) -> list[tuple[int, int]]:
    return [first_last(cidr) for cidr in cidrs if cidr.version == pool.family]
