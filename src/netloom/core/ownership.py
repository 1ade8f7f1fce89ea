"""How we know that a kernel object is ours. One rule per kind; ARCHITECTURE.md has the table.

What is ours and no longer desired is swept; what is not ours is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable

from netloom.model.kernel import (
    ALIAS_PREFIX,
    BIRD_PROTOCOL,
    IPIP_DEVICE,
    NFT_TABLE,
    ROUTE_PROTOCOL,
    Address,
    Admission,
    Bird,
    Fdb,
    Ipip,
    KernelObject,
    Link,
    Neighbour,
    NftTable,
    Qdisc,
    Route,
    UdpPeer,
    UdpProxy,
)


def our_links(objects: Iterable[KernelObject]) -> frozenset[str]:
    """Return the names of the links that are ours: those whose alias begins with our prefix."""
    return frozenset(
        obj.name for obj in objects if isinstance(obj, Link) and obj.alias.startswith(ALIAS_PREFIX)
    )


def owns(obj: KernelObject, links: frozenset[str]) -> bool:
    """Tell whether ``obj`` is ours, given the names of our links.

    Sysctls are never owned: they are set, not swept.
    """
    if isinstance(obj, Route):
        return obj.protocol == ROUTE_PROTOCOL or (is_in_birds_name(obj) and obj.link in links)
    if isinstance(obj, Link | Neighbour | Fdb):
        return (obj.name if isinstance(obj, Link) else obj.link) in links
    if isinstance(obj, Qdisc):
        return obj.link in links or outlives_link(obj)
    if isinstance(obj, Address):
        return obj.link in links and not obj.kernel_made
    if isinstance(obj, NftTable):
        return obj.name == NFT_TABLE
    # Proxies and BIRD are in our own run directory; an admission is a chain that has our name.
    return isinstance(obj, UdpProxy | UdpPeer | Bird | Admission)


def is_lasting(obj: KernelObject) -> bool:
    """Tell whether ``obj`` is the device that module ipip makes: it cannot be deleted.

    It becomes ours by our alias. What is no longer wanted of it is given back: the addresses and
    the alias go, and it is set down (net/ipv4/ip_tunnel.c, ip_tunnel_dellink).
    """
    return isinstance(obj, Link) and obj.kind == "ipip" and obj.name == IPIP_DEVICE


def is_vacant(obj: KernelObject) -> bool:
    """Tell whether ``obj`` is the device of module ipip as it comes: down, without a mark.

    Nobody uses it, so we may take it. One that is up is another's, such as Calico's.
    """
    return (
        is_lasting(obj)
        and isinstance(obj, Link)
        and not obj.alias
        and not obj.up
        and obj.ipip == Ipip()
    )


def is_in_birds_name(obj: KernelObject) -> bool:
    """Tell whether ``obj`` is a route of ours, if its device is, that says it is BIRD's.

    Those of Calico's users do. No configuration of ours lets BIRD write into a tunnel.
    """
    return isinstance(obj, Route) and obj.protocol == BIRD_PROTOCOL and obj.link == IPIP_DEVICE


def outlives_link(obj: KernelObject) -> bool:
    """Tell whether ``obj`` may stand when its link is gone.

    What polices does: it is a chain in a table of ours, and kernels from 6.16 on keep it.
    """
    return isinstance(obj, Qdisc) and obj.direction == "ingress"
