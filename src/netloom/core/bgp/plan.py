"""From the view to a plan of BGP: own blocks to announce, and a session for each peer.

The plan says what is wanted in BGP's own words; ``render`` writes it down for BIRD. Without
anything else said, all hosts of the networks are a full mesh of one AS (reference/calico.md §5).
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.host import Block, Host
from netloom.model.view import View

#: What Calico's users know; it is of the range for private use (RFC 6996).
DEFAULT_AS = 64512
MESH = "node-to-node mesh"
GLOBAL = "global"
NODE = "node specific"
#: How the name of a session of each type begins; the rest is the peer's address.
NAME_PREFIXES = {"Mesh_": MESH, "Global_": GLOBAL, "Node_": NODE}


@dataclass(frozen=True, slots=True)
class Session:
    """One BGP session.

    ``name`` is BIRD's for it: letters, digits and '_'. ``passive``: the neighbour opens it.
    ``accepts`` are the ranges whose routes are taken from the neighbour; of anything inside them.
    ``password`` "" means none.
    """

    name: str
    local: IPAddress
    neighbour: IPAddress
    remote_as: int
    accepts: tuple[IPNetwork, ...]
    passive: bool = False
    password: str = field(default="", repr=False)

    @property
    def family(self) -> Family:
        """The family of the session's addresses and of the routes that it carries."""
        return self.neighbour.version


@dataclass(frozen=True, slots=True)
class Timers:
    """How patient BGP is.

    ``connect``, ``retry``, ``error_*``: small, so that a mesh comes up in a second or two, and not
    so small that hosts without an answer are a storm. ``restart_wait`` bounds how long a daemon
    that was killed waits for all peers before it routes anew (BIRD's own 240 s are a known plague);
    ``restart`` is how long peers keep the routes of one that restarts.
    """

    connect: timedelta = timedelta(seconds=1)
    retry: timedelta = timedelta(seconds=2)
    error_least: timedelta = timedelta(seconds=1)
    error_most: timedelta = timedelta(seconds=4)
    hold: timedelta = timedelta(seconds=90)
    restart_wait: timedelta = timedelta(seconds=5)
    restart: timedelta = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class BgpPlan:
    """What a host's routing daemon shall do.

    ``own`` are the blocks that it announces and holds with a blackhole; no more specific route
    leaves the host. ``links`` are the interfaces of the underlay.
    """

    router_id: ipaddress.IPv4Address
    local_as: int
    own: tuple[IPNetwork, ...]
    sessions: tuple[Session, ...]
    links: tuple[str, ...]
    timers: Timers = Timers()


#: By the names of networks: the ranges whose blocks are routed by BGP.
Ranges = Mapping[str, tuple[IPNetwork, ...]]


def plan(view: View, ranges: Ranges) -> BgpPlan:
    """Return the plan of this host for the blocks of networks inside ``ranges``."""
    blocks = [
        block
        for block in view.cluster.blocks.values()
        if block.confirmed and any(covers(r, block.cidr) for r in ranges.get(block.network, ()))
    ]
    own = sorted((b.cidr for b in blocks if b.host_id == view.host_id), key=_order)
    return BgpPlan(
        _router_id(view),
        DEFAULT_AS,
        tuple(own),
        tuple(_mesh(view, ranges, blocks)),
        tuple(sorted({link for link, _ in view.facts.underlay.values()})),
    )


def covers(outer: IPNetwork, inner: IPNetwork) -> bool:
    """Tell whether ``inner`` is inside ``outer``, of whichever families."""
    return outer.version == inner.version and inner.network_address in outer


def _mesh(view: View, ranges: Ranges, blocks: list[Block]) -> Iterable[Session]:
    holders = {(b.host_id, b.cidr.version) for b in blocks}
    for family, (_, own) in sorted(view.facts.underlay.items()):
        pools = {r for each in ranges.values() for r in each if r.version == family}
        accepts = tuple(sorted(pools, key=_order))
        names = {name for name, each in ranges.items() if pools.intersection(each)}
        for peer in sorted(view.cluster.hosts.values(), key=lambda host: host.id):
            address = peer.underlay(family)
            if address is None or peer.id == view.host_id or address == own.ip:
                continue
            if (peer.id, family) in holders or names.intersection(peer.serves):
                yield _mesh_session(own.ip, address, accepts)


def _mesh_session(local: IPAddress, peer: IPAddress, accepts: tuple[IPNetwork, ...]) -> Session:
    """Return the session of two hosts: of the two, the one with the larger address opens it.

    By number, not by spelling: two hosts that compared texts could both wait.
    """
    passive = int(peer) > int(local)
    return Session(session_name("Mesh_", peer), local, peer, DEFAULT_AS, accepts, passive)


def session_name(prefix: str, address: IPAddress) -> str:
    """Return the name of the session with ``address``: ``Mesh_192_168_26_101``."""
    return prefix + str(address).replace(".", "_").replace(":", "_").replace("%", "_")


def _router_id(view: View) -> ipaddress.IPv4Address:
    """Return the IPv4 underlay address, else a number made of the host's id (RFC 6286: any)."""
    chosen = view.facts.underlay.get(4)
    if chosen is not None and isinstance(chosen[1].ip, ipaddress.IPv4Address):
        return chosen[1].ip
    host = view.cluster.hosts.get(view.host_id) or Host(view.host_id, view.host_id)
    return ipaddress.IPv4Address(zlib.crc32(host.id.encode()) % 0xDFFFFFFF + 1)


def _order(cidr: IPNetwork) -> tuple[int, int, int]:
    return cidr.version, int(cidr.network_address), cidr.prefixlen
