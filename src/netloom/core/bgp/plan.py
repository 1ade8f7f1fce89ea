"""From the view to a plan of BGP: own blocks to announce, and a session for each peer.

The plan says what is wanted in BGP's own words; ``render`` writes it down for BIRD. Without
anything else said, all hosts of the networks are a full mesh of one AS (reference/calico.md §5).
"""

from __future__ import annotations

import fnmatch
import ipaddress
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from netloom.core.bgp.neighbours import others
from netloom.core.bgp.passage import untold
from netloom.core.bgp.passwords import misread
from netloom.core.bgp.peerings import peers
from netloom.core.bgp.session import Session, Timers
from netloom.core.bgp.sessions import Table
from netloom.core.bgp.speakers import CONFIGURATION, settings
from netloom.core.resources.bgp import Advertised, BgpConfiguration
from netloom.core.resources.values import BGP_PORT
from netloom.model.addr import Family, IPNetwork, cidr_order
from netloom.model.host import Block
from netloom.model.view import Problem, View


@dataclass(frozen=True, slots=True)
class BgpPlan:
    """What a host's routing daemon shall do.

    ``own`` are the blocks that it announces and holds with a blackhole, save those in
    ``unexported``; no more specific route leaves the host. ``links`` are the interfaces of the
    underlay, and those that lead to routers. No route inside ``protected`` is taken from a router,
    nor from one of another AS a route inside an own block, nor one ``too_fine``: inside a pool, of
    lengths that no block there has, or the very network of one of the host's cards; but ``loans``,
    single addresses in another host than their block, are taken. ``problems`` is what cannot be
    done.
    """

    router_id: ipaddress.IPv4Address
    local_as: int
    own: tuple[IPNetwork, ...]
    sessions: tuple[Session, ...]
    links: tuple[str, ...]
    timers: Timers = field(default_factory=Timers)
    port: int = BGP_PORT
    cluster_id: ipaddress.IPv4Address | None = None
    unexported: tuple[IPNetwork, ...] = ()
    protected: tuple[IPNetwork, ...] = ()
    too_fine: tuple[tuple[IPNetwork, int, int], ...] = ()
    loans: tuple[IPNetwork, ...] = ()
    advertised: tuple[Advertised, ...] = ()
    log_severity: str = "Warning"
    problems: tuple[Problem, ...] = ()


#: By the names of networks: the ranges whose blocks are routed by BGP.
Ranges = Mapping[str, tuple[IPNetwork, ...]]


def plan(view: View, ranges: Ranges) -> BgpPlan:
    """Return the plan of this host for the blocks of networks inside ``ranges``."""
    said = settings(view.cluster)
    host = view.host
    own = said.speaker(view.cluster, host)
    blocks = [
        block
        for block in view.cluster.blocks.values()
        if block.confirmed and any(covers(r, block.cidr) for r in ranges.get(block.network, ()))
    ]
    everyone = [said.speaker(view.cluster, each) for each in view.cluster.hosts.values()]
    asked = peers(view.cluster, everyone)
    found = others(view, ranges, blocks, everyone)
    table = Table(view, said, own, found.by_family, asked.all, by_family(ranges))
    sessions = table.sessions()
    mine = said.of(host.name)
    links = tuple(_links(view, sessions, mine, table.problems))
    hidden = tuple(_unexported(view, ranges))
    told = [b for b in blocks if not any(covers(pool, b.cidr) for pool in hidden)]
    table.problems += untold(view, told, sessions, found.by_family)
    return BgpPlan(
        _router_id(view),
        own.as_number,
        tuple(sorted((b.cidr for b in blocks if b.host_id == view.host_id), key=cidr_order)),
        sessions,
        links,
        port=own.port,
        cluster_id=own.cluster_id,  # type: ignore[arg-type]  # an IPv4 one, its parser says
        unexported=hidden,
        protected=tuple(_protected(view, ranges)),
        too_fine=(
            *_too_fine(view, ranges, [b for b in blocks if not b.lender]),
            *_connected(view),
        ),
        loans=tuple(_lent_elsewhere(view, blocks)),
        advertised=mine.advertised,
        log_severity=mine.log_severity or "Warning",
        problems=tuple(
            dict.fromkeys((*said.problems, *asked.problems, *found.problems, *table.problems))
        ),
    )


def covers(outer: IPNetwork, inner: IPNetwork) -> bool:
    """Tell whether ``inner`` is inside ``outer``, of whichever families."""
    return outer.version == inner.version and inner.network_address in outer


def by_family(ranges: Ranges) -> dict[Family, tuple[IPNetwork, ...]]:
    """Return all ranges by their family, each once, sorted."""
    all_ranges = sorted({cidr for each in ranges.values() for cidr in each}, key=cidr_order)
    families: tuple[Family, ...] = (4, 6)
    return {f: tuple(cidr for cidr in all_ranges if cidr.version == f) for f in families}


def _links(
    view: View, sessions: Iterable[Session], mine: BgpConfiguration, problems: list[Problem]
) -> Iterator[str]:
    """Yield the interfaces whose networks BIRD has to know: the underlay's, and routers'."""
    underlay = {link for link, _ in view.facts.underlay.values()}
    routers = {session.neighbour for session in sessions if session.router}
    routers |= {session.reachable_by for session in sessions if session.reachable_by}
    others = {
        link
        for link, interface, _ in view.facts.candidates
        if any(address in interface.network for address in routers)
    }
    for link in sorted(underlay | others):
        if complaint := misread(link):
            text = f"the name of the interface {link!r} {complaint[0]}"
            problems.append(Problem("error", "bgp", text, "give it another name"))
            continue
        ignored = any(fnmatch.fnmatchcase(link, each) for each in mine.ignored_interfaces)
        if not ignored:
            yield link
        elif link in underlay:
            problems.append(
                Problem(
                    "warning",
                    f"{CONFIGURATION}",
                    f"spec.ignoredInterfaces: {link} is the underlay and cannot be ignored",
                    "choose another underlay (--interface), or take it out of the list",
                )
            )
            yield link


def _unexported(view: View, ranges: Ranges) -> Iterator[IPNetwork]:
    for name in sorted(ranges):
        network = view.cluster.networks.get(name)
        for pool in network.pools if network else ():
            if pool.unexported and pool.cidr in ranges[name]:
                yield pool.cidr


def _protected(view: View, ranges: Ranges) -> list[IPNetwork]:
    """Return where no router may lead us: the underlay's own networks, and pools without BGP."""
    underlay = {each[1].network for each in view.facts.underlay.values()}
    pools = {pool.cidr for each in view.cluster.networks.values() for pool in each.pools}
    routed = {cidr for each in ranges.values() for cidr in each}
    return sorted(underlay | (pools - routed), key=cidr_order)


def _too_fine(
    view: View, ranges: Ranges, blocks: Iterable[Block]
) -> Iterator[tuple[IPNetwork, int, int]]:
    """Yield (pool, least length, largest length) between and beyond those that blocks have.

    A route that is finer than a block would lead past the host that holds it, and hosts would tell
    each other of it.
    """
    known: dict[str, set[int]] = {}
    for block in blocks:
        known.setdefault(block.network, set()).add(block.cidr.prefixlen)
    for name in sorted(ranges):
        network = view.cluster.networks.get(name)
        for pool in network.pools if network else ():
            if pool.cidr not in ranges[name]:
                continue
            last = pool.block_size
            for length in sorted(known.get(name, set())):
                if last < length <= pool.cidr.max_prefixlen:
                    if length > last + 1:
                        yield pool.cidr, last + 1, length - 1
                    last = length
            if last < pool.cidr.max_prefixlen:
                yield pool.cidr, last + 1, pool.cidr.max_prefixlen


def _connected(view: View) -> list[tuple[IPNetwork, int, int]]:
    """Return the networks of the host's cards: the kernel has a route there that is nearer."""
    networks = {interface.network for _, interface, _ in view.facts.candidates}
    return [(net, net.prefixlen, net.prefixlen) for net in sorted(networks, key=cidr_order)]


def _lent_elsewhere(view: View, blocks: Iterable[Block]) -> list[IPNetwork]:
    """Return the loans that lead to other hosts."""
    return sorted(
        (b.cidr for b in blocks if b.lender and b.host_id != view.host_id), key=cidr_order
    )


def _router_id(view: View) -> ipaddress.IPv4Address:
    """Return the IPv4 underlay address, else a number made of the host's id (RFC 6286: any)."""
    chosen = view.facts.underlay.get(4)
    if chosen is not None and isinstance(chosen[1].ip, ipaddress.IPv4Address):
        return chosen[1].ip
    return ipaddress.IPv4Address(zlib.crc32(view.host_id.encode()) % 0xDFFFFFFF + 1)
