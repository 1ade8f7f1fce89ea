"""Backend ``bgp``: pure layer 3. A routing daemon tells blocks and learns them; no tunnel.

The agent writes no route to a peer: the host's BIRD does (``core/bgp`` has its plan), and what it
has learned is in the host's facts. A peer may be behind routers, if those know the blocks too.

Sources: reference/calico.md §5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netloom.core.backends.contract import Reach, Side
from netloom.core.backends.lacking import own_addresses, peers_address
from netloom.core.bgp.plan import covers
from netloom.model.addr import Family, IPAddress, IPInterface, IPNetwork
from netloom.model.fields import Fields
from netloom.model.host import Block, Host
from netloom.model.kernel import KernelObject
from netloom.model.network import Network
from netloom.model.view import Problem


@dataclass(frozen=True, slots=True)
class PreparedBgp:
    """One bgp network on this host. ``learned`` are the blocks to which BIRD has a route.

    Blocks inside ``unexported`` are told to nobody: that nothing leads there is as it should be.
    """

    network: str
    underlay: Mapping[Family, tuple[str, IPInterface]]
    learned: Mapping[IPNetwork, IPAddress]
    mtu_bytes: int
    problems: tuple[Problem, ...] = ()
    unexported: tuple[IPNetwork, ...] = ()
    objects: Mapping[str, KernelObject] = field(default_factory=dict)

    def reach(self, peer: Host, block: Block) -> Reach:
        """Return how BIRD reaches ``block``, or why it never can."""
        family = block.cidr.version
        gateway = self.learned.get(block.cidr)
        if gateway is not None:
            return Reach(path=f"bgp via {gateway}", stands=True)
        if family not in self.underlay:
            return Reach()  # said once, in ``problems``, and not for each peer
        address = peer.underlay(family)
        if address is None:
            return Reach(problem=peers_address(self.network, "bgp", peer, family))
        if any(covers(pool, block.cidr) for pool in self.unexported):
            return Reach(path="not announced (disableBGPExport)", stands=True)
        return Reach(path=f"bgp, no route from {address} yet")

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return nothing: plain routes take no address."""
        return frozenset()

    def announces(self, block: Block) -> bool:
        """Leave every block to the daemon."""
        return True


class BgpBackend:
    """The table's entry for ``bgp``."""

    name = "bgp"
    families: frozenset[Family] = frozenset({4, 6})
    least_host_bits = 0

    def parse(self, options: Mapping[str, Any], where: str) -> None:
        """Refuse any option: peers and AS numbers are resources. Raises InvalidConfig."""
        Fields(options, where).done()

    def claims(self, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return nothing: one daemon routes for any number of networks."""
        return ()

    def publish(self, network: Network, host_id: str) -> str:
        """Return "": BGP itself tells peers what they need."""
        return ""

    def prepare(self, side: Side) -> PreparedBgp:
        """Return the underlay as this host sees it, and what is learned of this network."""
        facts, network = side.facts, side.network
        room = facts.mtu_bytes
        pools = [pool.cidr for pool in network.pools]
        learned = {
            cidr: gateway
            for cidr, gateway in facts.learned.items()
            if gateway is not None and any(covers(pool, cidr) for pool in pools)
        }
        problems = own_addresses(side, self.name, network.families)
        underlay = {family: facts.underlay[family] for family in sorted(facts.underlay)}
        mtu_bytes = min(room, network.mtu_bytes or room)
        unexported = tuple(pool.cidr for pool in network.pools if pool.unexported)
        return PreparedBgp(network.name, underlay, learned, mtu_bytes, problems, unexported)
