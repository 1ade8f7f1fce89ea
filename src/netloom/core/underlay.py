"""The host's own facts: which interface and address are the underlay, and what else is there.

Facts are a function of what was read from the kernel. The way of choosing here is the default
route's; what a person may say instead is in ``core/selection``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from netloom.core.interface_methods import (
    LEADING,
    NO_NAMES,
    Answer,
    Chosen,
    Surroundings,
)
from netloom.core.ownership import is_in_birds_name
from netloom.core.selection import parse
from netloom.core.underlay_told import reasons_by_family
from netloom.model.addr import Family, IPAddress, IPInterface, IPNetwork, cidr_order
from netloom.model.errors import InvalidConfig
from netloom.model.gso import least
from netloom.model.kernel import (
    ALIAS_PREFIX,
    BIRD_PROTOCOL,
    ROUTE_PROTOCOL,
    Address,
    ForwardDrop,
    KernelObject,
    Link,
    Route,
)
from netloom.model.view import HostFacts

_LOOPBACK = "lo"
NO_DEFAULT_ROUTE = "no default route"
DEFAULT_MTU = 1500


def facts(
    objects: Iterable[KernelObject], interface: str = "", names: Mapping[str, Answer] = NO_NAMES
) -> HostFacts:
    """Return the host's facts from all links, addresses and routes of its kernel.

    ``interface`` "" chooses by the default route: per family the route of least metric. A family
    without a default route takes the other family's interface, and a host without any takes the
    first interface, by index, that is up and has a global address. Addresses of our own links, of
    lo and link-local ones never count. Any other text is read by ``core/selection``;
    ``names`` is what is known of the host names in it. Raises InvalidConfig when what it names is
    not there.
    """
    links: dict[str, Link] = {}
    addresses: list[Address] = []
    routes: list[Route] = []
    drops: list[ForwardDrop] = []
    for obj in objects:
        if isinstance(obj, Link):
            links[obj.name] = obj
        elif isinstance(obj, Address):
            addresses.append(obj)
        elif isinstance(obj, Route):
            routes.append(obj)
        elif isinstance(obj, ForwardDrop):
            drops.append(obj)
    ours = {name for name, link in links.items() if link.alias.startswith(ALIAS_PREFIX)}
    candidates = _candidates(addresses, ours, links)
    usable = _best(candidates)
    makeshift: frozenset[Family] = frozenset()
    selection = parse(interface)
    there = Surroundings(links, tuple(candidates), usable, tuple(routes), names)
    chosen, reason = selection.choose(there)
    if not chosen:
        left = {place: each for place, each in usable.items() if place[1] not in selection.without}
        chosen, reason, makeshift = _by_default_route(links, routes, left)
    return HostFacts(
        MappingProxyType(chosen),
        min((_mtu(links[name]) for name, _ in chosen.values()), default=DEFAULT_MTU),
        reason,
        _foreign_ranges(routes, addresses, ours),
        tuple(
            (link.name, link.vxlan.vni, link.vxlan.port)
            for link in links.values()
            if link.vxlan and link.name not in ours
        ),
        tuple((each.link, each.interface, _mtu(links[each.link])) for each in candidates),
        makeshift,
        down=frozenset(each.link for each in candidates if not links[each.link].up),
        unplugged=frozenset(
            each.link for each in candidates if links[each.link].up and not links[each.link].carrier
        ),
        public=selection.public,
        learned=MappingProxyType(_learned(r for r in routes if not is_in_birds_name(r))),
        drops=tuple(drops),
        gso=least(links[name].gso for name, _ in chosen.values()),
    )


def facts_or_kept(
    objects: Sequence[KernelObject],
    interface: str,
    before: HostFacts | None,
    names: Mapping[str, Answer] = NO_NAMES,
) -> HostFacts:
    """Return the facts now, :func:`steady` towards those of ``before``.

    What ``interface`` names may be gone, or never have been: then the underlay of before stays, and
    is said to (``refusal``), so that all else on the host is kept true. Raises InvalidConfig where
    there was none before.
    """
    try:
        fresh = facts(objects, interface, names)
    except InvalidConfig as error:
        if before is None or not before.underlay:
            raise
        fresh = replace(
            facts(objects),
            underlay=MappingProxyType({}),
            reason="",
            makeshift=frozenset(),
            refusal=(str(error), error.hint),
        )
    return steady(before, fresh) if before else fresh


def steady(before: HostFacts, now: HostFacts) -> HostFacts:
    """Keep the underlay of ``before`` where ``now`` merely lost it.

    An address that is gone for a moment, or a default route that is, must not tear down every
    tunnel: a family keeps what it had until something else is found for it. Nor does a second
    address on the same interface move the tunnels, or a choice that is only makeshift, as long as
    what was chosen is still there. An address that is on another interface now (one that was
    renamed, or became a bridge's port) is followed there. The result is a fit ``before`` for the
    next call.
    """
    mtus = {(link, interface): mtu for link, interface, mtu in now.candidates}
    chosen = dict(now.underlay)
    reasons = dict(reasons_by_family(now))
    lost: set[Family] = set()
    for family, held in before.underlay.items():
        found = chosen.get(family)
        there = held in mtus
        if found is None and not there and (now_at := _elsewhere(held[1].ip, now)):
            chosen[family] = now_at
            reasons[family] = (
                f"IPv{family}: {held[1].ip} on {now_at[0]}, chosen before when it was on {held[0]}"
            )
        elif found is None and not there:
            chosen[family] = held
            lost.add(family)
            reasons[family] = (
                f"IPv{family}: {held[1].ip} on {held[0]} is gone, kept until another is there"
            )
        elif (
            found != held
            and there
            and (found is None or found[0] == held[0] or family in now.makeshift)
        ):
            chosen[family] = held
            reasons[family] = (
                f"IPv{family}: {held[1].ip} on {held[0]}, chosen before and still there"
            )
    if chosen == dict(now.underlay):
        return now
    return replace(
        now,
        underlay=MappingProxyType(dict(sorted(chosen.items()))),
        reason="; ".join(text for _, text in sorted(reasons.items())),
        mtu_bytes=min(mtus.get(each, before.mtu_bytes) for each in chosen.values()),
        gso=before.gso,
        lost=frozenset(lost),
    )


def _elsewhere(address: IPAddress, now: HostFacts) -> Chosen | None:
    """Return the interface that has ``address`` now."""
    places = ((link, each) for link, each, _ in now.candidates if each.ip == address)
    return next(places, None)


def _mtu(link: Link) -> int:
    return link.mtu_bytes or DEFAULT_MTU


def _candidates(
    addresses: Iterable[Address], ours: set[str], links: Mapping[str, Link]
) -> list[Address]:
    """Return the global addresses of interfaces that are not ours."""
    return [
        address
        for address in addresses
        if address.link not in ours
        and address.link != _LOOPBACK
        and address.link in links
        and not (ip := address.interface.ip).is_link_local
        and not ip.is_loopback
        and not ip.is_multicast
    ]


def _best(candidates: Iterable[Address]) -> dict[tuple[str, Family], IPInterface]:
    """Return the best address per (interface, family): permanent ones before others.

    Of several, the oldest: the kernel lists IPv4 addresses oldest first (the others are its
    "secondary" ones) and IPv6 addresses newest first, privacy addresses among them.
    """
    best: dict[tuple[str, Family], Address] = {}
    for address in candidates:
        place = (address.link, address.interface.version)
        held = best.get(place)
        better = held is None or address.permanent > held.permanent
        if better or (
            held and address.interface.version == 6 and address.permanent == held.permanent
        ):
            best[place] = address
    return {place: address.interface for place, address in best.items()}


def _by_default_route(
    links: Mapping[str, Link],
    routes: Iterable[Route],
    usable: Mapping[tuple[str, Family], IPInterface],
) -> tuple[dict[Family, Chosen], str, frozenset[Family]]:
    """Choose by the default route of least metric, family by family.

    One whose card has no carrier leads nowhere: another comes before it, and is makeshift.
    """
    chosen: dict[Family, Chosen] = {}
    reasons = []
    passed_over: set[Family] = set()
    defaults = sorted(
        (r for r in routes if r.destination.prefixlen == 0 and r.type in LEADING),
        key=lambda route: route.metric,
    )
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        ways = [r for r in defaults if r.destination.version == family]
        ways = [r for r in ways if (r.link, family) in usable]
        if not ways:
            continue
        best = next((r for r in ways if _is_live(links, r.link)), ways[0])
        found = usable[best.link, family]
        chosen[family] = (best.link, found)
        why = "the default route's"
        if best is not ways[0]:
            passed_over.add(family)
            why += f" where there is a carrier: {ways[0].link} has none"
        reasons.append(f"IPv{family}: {found.ip} on {best.link}, {why}")
    sure = chosen.keys() - passed_over
    pairs: tuple[tuple[Family, Family], ...] = ((4, 6), (6, 4))
    for family, other in pairs:
        if family not in chosen and other in chosen:
            name = chosen[other][0]
            if (name, family) in usable:
                chosen[family] = (name, usable[name, family])
                reasons.append(f"IPv{family}: {usable[name, family].ip} on {name}, as IPv{other}")
    if not chosen:
        chosen, reasons = _first(links, usable)
    return dict(sorted(chosen.items())), "; ".join(reasons), frozenset(chosen.keys() - sure)


def _is_live(links: Mapping[str, Link], name: str) -> bool:
    return bool(links[name].up and links[name].carrier)


def _first(
    links: Mapping[str, Link], usable: Mapping[tuple[str, Family], IPInterface]
) -> tuple[dict[Family, Chosen], list[str]]:
    for link in sorted(links.values(), key=lambda each: (not each.up, each.index)):
        chosen: dict[Family, Chosen] = {
            family: (link.name, usable[link.name, family])
            for family in (4, 6)
            if (link.name, family) in usable
        }
        if chosen:
            return chosen, [
                f"IPv{family}: {interface.ip} on {link.name}, the first interface with an address: "
                f"{NO_DEFAULT_ROUTE}"
                for family, (_, interface) in chosen.items()
            ]
    return {}, ["no interface has a global address"]


def _learned(routes: Iterable[Route]) -> dict[IPNetwork, IPAddress | None]:
    found = [route for route in routes if route.protocol == BIRD_PROTOCOL]
    found.sort(key=lambda route: cidr_order(route.destination))
    return {route.destination: route.gateway for route in found}


def _foreign_ranges(
    routes: Iterable[Route], addresses: Iterable[Address], ours: set[str]
) -> tuple[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str], ...]:
    """Return what others route or are connected to, without default routes and link-local ones."""
    ranges = {
        (route.destination, route.link)
        for route in routes
        if route.link not in ours
        and route.protocol not in (ROUTE_PROTOCOL, BIRD_PROTOCOL)
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
    return tuple(sorted(ranges, key=lambda r: (cidr_order(r[0]), r[1])))
