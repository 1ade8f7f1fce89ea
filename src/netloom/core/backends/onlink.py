"""Plain routes to peers on the same segment: what ``host-gw`` is and ``directRouting`` prefers."""

from __future__ import annotations

from collections.abc import Mapping

from netloom.core.backends.contract import Reach
from netloom.model.addr import Family, IPAddress, IPInterface
from netloom.model.host import Block, Host
from netloom.model.kernel import IPV6_METRIC, Route, state_of


def on_link(underlay: IPInterface, address: IPAddress) -> bool:
    """Tell whether ``address`` is on the segment that the underlay interface is configured for."""
    return address.version == underlay.version and address in underlay.network


def direct_reach(
    underlay: Mapping[Family, tuple[str, IPInterface]], peer: Host, block: Block, word: str
) -> Reach | None:
    """Return the way to ``block`` through the peer itself, which ``word`` says for people.

    None when the peer is not on-link.
    """
    family: Family = block.cidr.version
    address = peer.underlay(family)
    if family not in underlay or address is None:
        return None
    link, interface = underlay[family]
    if not on_link(interface, address):
        return None
    route = Route(block.cidr, link, address, metric=IPV6_METRIC if family == 6 else 0)
    return Reach(state_of(route), f"{word} via {address} dev {link}")
