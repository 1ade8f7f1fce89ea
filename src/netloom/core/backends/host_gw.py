"""Backend ``host-gw``: the peer itself is the gateway of its blocks; no tunnel, no overhead.

It needs all hosts on one layer-2 segment. A peer that is not on-link is refused by name, since a
route through a router that does not know our blocks would lose every packet silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netloom.core.backends.contract import Reach, Side
from netloom.core.backends.lacking import own_addresses, peers_address
from netloom.core.backends.onlink import direct_reach
from netloom.model.addr import Family, IPAddress, IPInterface
from netloom.model.fields import Fields
from netloom.model.host import Block, Host
from netloom.model.kernel import KernelObject
from netloom.model.network import Network
from netloom.model.view import Problem


@dataclass(frozen=True, slots=True)
class PreparedHostGw:
    """One host-gw network on this host; it needs no object of its own."""

    network: str
    underlay: Mapping[Family, tuple[str, IPInterface]]
    mtu_bytes: int
    problems: tuple[Problem, ...] = ()
    objects: Mapping[str, KernelObject] = field(default_factory=dict)

    def reach(self, peer: Host, block: Block) -> Reach:
        """Return the route through the peer, or the reason why there cannot be one."""
        family = block.cidr.version
        direct = direct_reach(self.underlay, peer, block, "host-gw")
        if direct:
            return direct
        if family not in self.underlay:
            return Reach()  # said once, in ``problems``, and not for each peer
        return Reach(problem=self._refusal(peer, self.underlay[family]))

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return nothing: plain routes take no address."""
        return frozenset()

    def _refusal(self, peer: Host, own: tuple[str, IPInterface]) -> Problem:
        link, interface = own
        address = peer.underlay(interface.version)
        if address is None:
            return peers_address(self.network, "host-gw", peer, interface.version)
        text = f"{address} is not on-link: it is not in {interface.network} of {link}"
        remedy = (
            "host-gw needs all hosts on one layer-2 segment; use backend vxlan, "
            "with directRouting for the peers that are on-link"
        )
        return Problem("error", f"peer {peer.name}", f"network {self.network}: {text}", remedy)


class HostGwBackend:
    """The table's entry for ``host-gw``."""

    name = "host-gw"
    families: frozenset[Family] = frozenset({4, 6})
    least_host_bits = 0

    def parse(self, options: Mapping[str, Any], where: str) -> None:
        """Refuse any option: host-gw has none. Raises InvalidConfig."""
        Fields(options, where).done()

    def claims(self, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return nothing: any number of networks may share the underlay's routes."""
        return ()

    def publish(self, network: Network, host_id: str) -> str:
        """Return "": a plain route needs no MAC of ours."""
        return ""

    def prepare(self, side: Side) -> PreparedHostGw:
        """Return the underlay as this host sees it."""
        mtu = min(side.facts.mtu_bytes, side.network.mtu_bytes or side.facts.mtu_bytes)
        problems = own_addresses(side, self.name, side.network.families)
        underlay = {family: side.facts.underlay[family] for family in sorted(side.facts.underlay)}
        return PreparedHostGw(side.network.name, underlay, mtu, problems)
