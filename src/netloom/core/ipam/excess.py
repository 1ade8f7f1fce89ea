"""Hosts that hold more blocks of a pool than they may by now, since the limit was lowered.

Nothing is taken from them: they keep what they hold and claim no more. Blocks of a disabled pool,
or of a former size, and loans do not count: they go anyway. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from netloom.core.ipam import configured
from netloom.core.ipam.blocks import block_limit, within
from netloom.model.addr import IPNetwork
from netloom.model.host import Block
from netloom.model.view import Cluster, Problem


@dataclass(frozen=True, slots=True)
class Excess:
    """What one host holds of one pool beyond ``limit``, which ``source`` sets."""

    network: str
    pool: IPNetwork
    host_id: str
    held: int
    limit: int
    source: str

    def problem(self, host_name: str) -> Problem:
        """Return it as people are told."""
        return Problem(
            "warning",
            f"network {self.network}",
            f"host {host_name} holds {self.held} blocks of pool {self.pool}, {self.source} lets it "
            f"have {self.limit}: it keeps them and claims no more",
            "nothing to do; to let it have more, raise the limit",
        )


def excess(cluster: Cluster, blocks: Iterable[Block]) -> list[Excess]:
    """Return where hosts hold more than they may, of ``blocks`` of this cluster, in order."""
    by_network: dict[str, list[Block]] = {}
    for block in blocks:
        if block.confirmed and not block.lender:
            by_network.setdefault(block.network, []).append(block)
    found = []
    for name, own in sorted(by_network.items()):
        network = cluster.networks.get(name)
        if network is None:
            continue
        addressing = configured.limited(cluster, network).addressing
        limit, source = block_limit(addressing), "addressing.maxBlocksPerHost"
        if addressing.mode == "host-block":
            source = "addressing mode host-block"
        elif limit != block_limit(network.addressing):
            source = f"the {configured.KIND}"
        for pool in network.pools:
            if pool.disabled:
                continue
            held = Counter(
                block.host_id
                for block in own
                if block.cidr.prefixlen == pool.block_size and within(block.cidr, pool.cidr)
            )
            found += [
                Excess(name, pool.cidr, host_id, count, limit, source)
                for host_id, count in sorted(held.items())
                if count > limit
            ]
    return found
