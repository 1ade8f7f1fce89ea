"""The arithmetic of blocks against the slow and plain way: looking at every single one."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from netloom.core.ipam.blocks import Preference, next_block, overlap
from netloom.core.ipam.summary import summarise
from netloom.model.addr import IPNetwork
from netloom.model.endpoint import Endpoint
from netloom.model.host import Block, Reservation
from netloom.model.network import Network
from netloom.model.pool import Pool
from netloom.model.view import Cluster

POOL = Pool(ipaddress.ip_network("10.0.0.0/24"), 28)
POOL6 = Pool(ipaddress.ip_network("fd00::/120"), 124)


@st.composite
def cidrs(draw: st.DrawFn, pool: Pool) -> IPNetwork:
    """CIDRs of all sizes, in the pool, around it and next to it."""
    length = draw(st.integers(pool.cidr.prefixlen - 1, pool.cidr.max_prefixlen))
    offset = draw(st.integers(-64, 300))
    number = max(0, int(pool.cidr.network_address) + offset)
    return ipaddress.ip_network((type(pool.cidr.network_address)(number), length), strict=False)


def wholly(block: IPNetwork, reserved: list[IPNetwork]) -> bool:
    return all(any(address in each for each in reserved) for address in block)


@given(
    pool=st.sampled_from([POOL, POOL6]),
    data=st.data(),
    host=st.text(st.characters(codec="ascii"), max_size=5),
    attempt=st.integers(0, 70),
    tidy=st.booleans(),
)
def test_the_next_block_is_one_that_may_be_had_and_found_whenever_there_is_one(
    pool: Pool, data: st.DataObject, host: str, attempt: int, tidy: bool
) -> None:
    taken = data.draw(st.lists(cidrs(pool), max_size=8))
    reserved = data.draw(st.lists(cidrs(pool), max_size=5))
    free = [
        block
        for block in pool.cidr.subnets(new_prefix=pool.block_size)
        if not any(overlap(block, each) for each in taken) and not wholly(block, reserved)
    ]
    chosen = next_block(pool, taken, reserved, Preference(host, tidy, attempt=attempt))
    assert (chosen is None) == (not free)
    if chosen is not None:
        assert chosen in free
        if tidy and attempt == 0:
            assert chosen == free[0]


@given(data=st.data())
def test_counts_are_those_of_looking_at_every_address(data: st.DataObject) -> None:
    network = Network("blue", (POOL, POOL6))
    used = data.draw(
        st.lists(
            st.integers(0, 255).map(lambda n: POOL.cidr[n])
            | st.integers(0, 255).map(lambda n: POOL6.cidr[n]),
            max_size=12,
        )
    )
    reserved = data.draw(st.lists(cidrs(POOL) | cidrs(POOL6), max_size=5))
    blocks = [pool.cidr for pool in (POOL, POOL6)]
    blocks += [next(pool.cidr.subnets(new_prefix=pool.block_size)) for pool in (POOL, POOL6)]
    cluster = Cluster(
        networks={"blue": network},
        blocks={("blue", cidr): Block("blue", cidr, "h1", True) for cidr in blocks},
        reservations={("blue", cidr): Reservation("blue", cidr) for cidr in reserved},
    )
    endpoint = Endpoint("blue", "h1", "c", "eth0", "", "", "02:00:00:00:00:01", tuple(used))
    for each in summarise(cluster, [endpoint]):
        for count in (each.count, *(count for _, count in each.blocks)):
            addresses = list(count.cidr)
            in_use = {a for a in addresses if a in used}
            kept = {a for a in addresses if any(a in cidr for cidr in reserved)}
            assert count.total == len(addresses)
            assert count.in_use == len(in_use)
            assert count.reserved == len(kept - in_use)
            assert count.free == len(addresses) - len(kept | in_use)
