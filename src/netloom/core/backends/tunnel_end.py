"""The address that a host's own end of a tunnel has: one of the host's blocks, and no container's.

It is the block's first one, which no container is dealt while the network has a tunnel, and which
is never lent. A routed network without one deals it like any other; when such a network gets a
tunnel while a container still has it, the tunnel takes the last address of the block that nobody
has, until that container goes. Peers need not know: what leads them to a block names the host,
never this address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from netloom.core.backends.contract import Side
from netloom.model.addr import Family, IPAddress, IPInterface
from netloom.model.host import Block


def tunnel_ends(side: Side, families: Iterable[Family] = (4, 6)) -> dict[Family, IPAddress]:
    """Return the address for each family; none where the host has no block with a free one."""
    found: dict[Family, IPAddress] = {}
    for family in families:
        blocks = (b for b in side.blocks if b.cidr.version == family and not b.lender)
        free = (_free(block, side.taken) for block in blocks)
        address = next((each for each in free if each is not None), None)
        if address is not None:
            found[family] = address
    return found


def kept_back(block: Block, ends: Iterable[IPAddress]) -> frozenset[IPAddress]:
    """Return what of an own block no container is dealt: its first address, and the tunnel's."""
    return frozenset({block.cidr.network_address, *(end for end in ends if end in block.cidr)})


def _free(block: Block, taken: frozenset[IPAddress]) -> IPAddress | None:
    """Return the block's first address, else the last one that is in nobody's hands."""
    first = block.cidr.network_address
    if first not in taken:
        return first
    kind = type(first)
    number = int(block.cidr.broadcast_address)
    while number > int(first):
        address = kind(number)
        if address not in taken:
            return address
        number -= 1
    return None


def single(address: IPAddress) -> IPInterface:
    """Return the address as an interface has it that is alone in its network."""
    return ipaddress.ip_interface((address, address.max_prefixlen))
