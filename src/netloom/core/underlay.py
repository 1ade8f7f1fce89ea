"""The host's own facts: which interface and address are the underlay, and what else is there.

Facts are a function of what was read from the kernel. The method here is the default route's;
further methods (by name, by reachability, by range) are further functions of the same shape.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from netloom.model.addr import Family, IPInterface
from netloom.model.errors import InvalidConfig
from netloom.model.kernel import ALIAS_PREFIX, ROUTE_PROTOCOL, Address, KernelObject, Link, Route
from netloom.model.view import HostFacts

Chosen = tuple[str, IPInterface]
_LOOPBACK = "lo"


def facts(objects: Iterable[KernelObject], interface: str = "") -> HostFacts:
    """Return the host's facts from all links, addresses and routes of its kernel.

    ``interface`` "" chooses by the default route: per family the route of least metric. A family
    without a default route takes the other family's interface, and a host without any takes the
    first interface, by index, that has a global address. Addresses of our own links, of lo and
    link-local ones never count. Raises InvalidConfig when ``interface`` is not there.
    """
    links: dict[str, Link] = {}
    addresses: list[Address] = []
    routes: list[Route] = []
    for obj in objects:
        if isinstance(obj, Link):
            links[obj.name] = obj
        elif isinstance(obj, Address):
            addresses.append(obj)
        elif isinstance(obj, Route):
            routes.append(obj)
    ours = {name for name, link in links.items() if link.alias.startswith(ALIAS_PREFIX)}
    usable = _usable(addresses, ours, links)
    if interface:
        chosen, reason = _named(interface, links, usable)
    else:
        chosen, reason = _by_default_route(links, routes, usable)
    mtus = [links[name].mtu_bytes or 1500 for name, _ in chosen.values() if name in links]
    return HostFacts(
        MappingProxyType(chosen),
        min(mtus, default=1500),
        reason,
        _foreign_ranges(routes, addresses, ours),
        tuple(
            (link.name, link.vxlan.vni, link.vxlan.port)
            for link in links.values()
            if link.vxlan and link.name not in ours
        ),
    )


def _usable(
    addresses: Iterable[Address], ours: set[str], links: Mapping[str, Link]
) -> dict[tuple[str, Family], IPInterface]:
    """Return the best global address per (interface, family): permanent ones before others."""
    best: dict[tuple[str, Family], Address] = {}
    for address in addresses:
        ip = address.interface.ip
        if address.link in ours or address.link == _LOOPBACK or address.link not in links:
            continue
        if ip.is_link_local or ip.is_loopback or ip.is_multicast:
            continue
        place = (address.link, ip.version)
        held = best.get(place)
        if held is None or (address.permanent and not held.permanent):
            best[place] = address
    return {place: address.interface for place, address in best.items()}


def _named(
    interface: str, links: Mapping[str, Link], usable: Mapping[tuple[str, Family], IPInterface]
) -> tuple[dict[Family, Chosen], str]:
    if interface not in links:
        raise InvalidConfig(
            f"interface: {interface!r} is not an interface of this host",
            field="interface",
            value=interface,
            hint="there are: " + ", ".join(sorted(links)),
        )
    chosen: dict[Family, Chosen] = {
        family: (interface, usable[interface, family])
        for family in (4, 6)
        if (interface, family) in usable
    }
    if not chosen:
        raise InvalidConfig(
            f"interface: {interface!r} has no global address",
            field="interface",
            value=interface,
            hint="give it an address, or name another interface",
        )
    return chosen, f"interface {interface} by setting"


def _by_default_route(
    links: Mapping[str, Link],
    routes: Iterable[Route],
    usable: Mapping[tuple[str, Family], IPInterface],
) -> tuple[dict[Family, Chosen], str]:
    chosen: dict[Family, Chosen] = {}
    reasons = []
    defaults = sorted(
        (r for r in routes if r.destination.prefixlen == 0 and r.type == "unicast"),
        key=lambda route: route.metric,
    )
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        for route in defaults:
            found = usable.get((route.link, family))
            if route.destination.version == family and found:
                chosen[family] = (route.link, found)
                reasons.append(f"IPv{family}: {found.ip} on {route.link}, the default route's")
                break
    pairs: tuple[tuple[Family, Family], ...] = ((4, 6), (6, 4))
    for family, other in pairs:
        if family not in chosen and other in chosen:
            name = chosen[other][0]
            if (name, family) in usable:
                chosen[family] = (name, usable[name, family])
                reasons.append(f"IPv{family}: {usable[name, family].ip} on {name}, as IPv{other}")
    if not chosen:
        chosen, reasons = _first(links, usable)
    return dict(sorted(chosen.items())), "; ".join(reasons)


def _first(
    links: Mapping[str, Link], usable: Mapping[tuple[str, Family], IPInterface]
) -> tuple[dict[Family, Chosen], list[str]]:
    for link in sorted(links.values(), key=lambda candidate: candidate.index):
        chosen: dict[Family, Chosen] = {
            family: (link.name, usable[link.name, family])
            for family in (4, 6)
            if (link.name, family) in usable
        }
        if chosen:
            text = " and ".join(str(interface.ip) for _, interface in chosen.values())
            return chosen, [f"{text} on {link.name}: no default route, the first with an address"]
    return {}, ["no interface has a global address"]


def _foreign_ranges(
    routes: Iterable[Route], addresses: Iterable[Address], ours: set[str]
) -> tuple[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str], ...]:
    """Return what others route or are connected to, without default routes and link-local ones."""
    ranges = {
        (route.destination, route.link)
        for route in routes
        if route.link not in ours
        and route.protocol != ROUTE_PROTOCOL
        and route.destination.prefixlen
        and not route.destination.is_link_local
        and not route.destination.is_multicast
    }
    ranges |= {
        (address.interface.network, address.link)
        for address in addresses
        if address.link not in ours
        and not address.interface.ip.is_link_local
        and not address.interface.ip.is_loopback
    }
    return tuple(sorted(ranges, key=lambda r: (r[0].version, int(r[0].network_address), r[1])))
