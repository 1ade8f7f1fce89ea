"""Why a host gets no further block: the sentences, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from netloom.core.ipam.blocks import block_count, within
from netloom.model.addr import IPNetwork
from netloom.model.errors import Exhausted, Unavailable
from netloom.model.host import Block
from netloom.model.network import Network
from netloom.model.pool import Pool


class FormerSize(Unavailable):
    """A pool has no room for a block of its new size: the host goes on with those it holds."""

    @classmethod
    def of(cls, why: Exhausted, held: Collection[IPNetwork]) -> FormerSize:
        """Return it for the blocks ``held`` of the former size."""
        former = ", ".join(str(cidr) for cidr in held)
        return cls(f"{why}; until there is one, addresses come from {former}", hint=why.hint)


def limit_reached(network: Network, host_id: str, pool: Pool, own: Sequence[Block]) -> Exhausted:
    """Return the error of a host that holds as many blocks of ``pool`` as it may."""
    held = ", ".join(str(block.cidr) for block in own)
    what = "the one block" if len(own) == 1 else f"all {len(own)} blocks"
    remedy = (
        "free addresses (netloom ipam check), or use larger blocks or addressing mode on-demand"
        if network.addressing.mode == "host-block"
        else "free addresses (netloom ipam check), or raise addressing.maxBlocksPerHost, or that "
        "of the IPAMConfiguration"
    )
    return Exhausted(
        f"network {network.name}: host {host_id} holds {what} of pool "
        f"{pool.cidr} that it may: {held}",
        hint=remedy,
    )


def pool_exhausted(
    network: Network, pool: Pool, claimed: Mapping[IPNetwork, Block | None]
) -> Exhausted:
    """Return the error of a pool without a free block; ``claimed`` is None where unreadable."""
    held = [block for cidr, block in claimed.items() if within(cidr, pool.cidr)]
    hosts = {block.host_id for block in held if block is not None}
    return Exhausted(
        f"network {network.name}: pool {pool.cidr} has no free /"
        f"{pool.block_size} block: {len(held)} of {block_count(pool)} are held by "
        f"{len(hosts)} hosts, the rest is reserved or overlapped by blocks of another size",
        hint="add a pool, lift a reservation (netloom ipam unreserve), or forget hosts that are "
        "gone (netloom host forget)",
    )
