"""BGPConfiguration, BGPPeer, and the BGP part of a Node.

Typed values of what their specs say; ``core/bgp`` makes a routing daemon's plan of them. Fields
that only make sense under Kubernetes are taken and named as ignored.
Source: reference/calico.md §1.1 and §5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netloom.core.resources.values import (
    both,
    check_scope,
    parse_community,
    take_address,
    take_address_and_port,
    take_as,
    take_flag,
    take_machine,
    take_number,
    take_seconds,
    take_secret,
    take_selector,
    take_text,
    take_unused,
    take_word,
)
from netloom.model.addr import IPAddress, IPNetwork, parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, nearest
from netloom.model.resource import Resource, parse_resource_name
from netloom.model.secret import Secret
from netloom.model.selector import Selector
from netloom.model.surprise import foreseen

#: What Calico's users know; it is of the range for private use (RFC 6996).
DEFAULT_AS = 64512
#: Twelve bits tell it to the neighbour (RFC 4724).
MOST_RESTART_S = 4095
#: A session is held for three of them, which sixteen bits tell (RFC 4271).
MOST_KEEPALIVE_S = 0xFFFF // 3


@dataclass(frozen=True, slots=True)
class Advertised:
    """Blocks in ``cidr`` are announced with ``communities`` (each of two or three numbers)."""

    cidr: IPNetwork
    communities: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class BgpConfiguration:
    """The settings of all hosts (``default``) or of one (``node.NAME``); None means not said."""

    as_number: int | None = None
    mesh: bool | None = None
    listen_port: int | None = None
    mesh_password: Secret | None = None
    mesh_max_restart_s: int | None = None
    log_severity: str | None = None
    advertised: tuple[Advertised, ...] = ()
    ignored_interfaces: tuple[str, ...] = ()
    ignored_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BgpPeer:
    """Sessions of some hosts with a router, or with other hosts.

    The hosts are ``node``, those that ``node_selector`` selects, or all. The other side is
    ``address`` in AS ``as_number``, at ``port`` (None: not said), or the hosts that
    ``peer_selector`` selects.
    ``next_hop``: ``auto`` (self towards another AS), ``self`` or ``keep``.
    """

    name: str
    node: str = ""
    node_selector: Selector | None = None
    address: IPAddress | None = None
    port: int | None = None
    peer_selector: Selector | None = None
    as_number: int | None = None
    local_as: int | None = None
    next_hop: str = "auto"
    password: Secret | None = None
    use_node_address: bool = True
    max_restart_s: int | None = None
    keepalive_s: int | None = None
    allowed_local_as: int = 0
    ttl_security: int | None = None
    reachable_by: IPAddress | None = None
    filters: tuple[str, ...] = ()
    ignored_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeBgp:
    """A host's own AS number, and the cluster id that makes it a route reflector."""

    as_number: int | None = None
    cluster_id: IPAddress | None = None


@foreseen
def parse_configuration(resource: Resource) -> BgpConfiguration:
    """Read a BGPConfiguration. Raises InvalidConfig."""
    check_scope(resource)
    fields = Fields(resource.spec, "spec")
    names = _community_names(fields)
    parsed = BgpConfiguration(
        take_as(fields, "asNumber"),
        take_flag(fields, "nodeToNodeMeshEnabled"),
        take_number(fields, "listenPort", 1, 65535),
        take_secret(fields, "nodeMeshPassword"),
        take_seconds(fields, "nodeMeshMaxRestartTime", MOST_RESTART_S),
        take_word(fields, "logSeverityScreen", _SEVERITIES),
        tuple(_advertised(fields, names)),
        tuple(
            take_text(item, fields.path(f"ignoredInterfaces[{i}]"))
            for i, item in enumerate(fields.take_list("ignoredInterfaces"))
        ),
        take_unused(fields, _CONFIGURATION_UNUSED),
    )
    fields.done()
    return parsed


@foreseen
def parse_peer(resource: Resource) -> BgpPeer:
    """Read a BGPPeer. Raises InvalidConfig."""
    fields = Fields(resource.spec, "spec")
    node = fields.take_str("node")
    if node:
        take_text(node, fields.path("node"))
    node_selector = take_selector(fields, "nodeSelector")
    address, port = take_address_and_port(fields, "peerIP")
    peer_selector = take_selector(fields, "peerSelector")
    as_number = take_as(fields, "asNumber")
    keep = fields.take_bool("keepOriginalNextHop", False)
    mode = take_word(fields, "nextHopMode", ("Auto", "Self", "Keep"))
    parsed = BgpPeer(
        resource.name,
        node,
        node_selector,
        address,
        port,
        peer_selector,
        as_number,
        take_as(fields, "localASNumber"),
        mode.lower() if mode else ("keep" if keep else "auto"),
        take_secret(fields, "password"),
        take_word(fields, "sourceAddress", ("UseNodeIP", "None")) != "None",
        take_seconds(fields, "maxRestartTime", MOST_RESTART_S),
        take_seconds(fields, "keepaliveTime", MOST_KEEPALIVE_S),
        take_number(fields, "numAllowedLocalASNumbers", 0, 10) or 0,
        take_number(fields, "ttlSecurity", 1, 254),
        take_machine(fields, "reachableBy"),
        tuple(
            parse_resource_name(item, fields.path(f"filters[{i}]"))
            for i, item in enumerate(fields.take_list("filters"))
        ),
        take_unused(fields, _PEER_UNUSED),
    )
    fields.done()
    _check_sides(parsed, fields)
    return parsed


def _check_sides(peer: BgpPeer, fields: Fields) -> None:
    """Refuse a peer that does not say who the two sides of its sessions are, or says it twice."""
    if peer.node and peer.node_selector:
        raise both(fields, "node", "nodeSelector")
    if peer.address is not None and peer.peer_selector is not None:
        raise both(fields, "peerIP", "peerSelector")
    if peer.peer_selector is not None and peer.as_number is not None:
        raise both(fields, "asNumber", "peerSelector")
    if peer.address is None and peer.peer_selector is None:
        raise InvalidConfig(
            f"{fields.path('peerIP')}: missing",
            field=fields.path("peerIP"),
            hint="say whom to peer with: peerIP and asNumber, or peerSelector",
        )
    if peer.address is not None and peer.as_number is None:
        raise InvalidConfig(
            f"{fields.path('asNumber')}: missing",
            field=fields.path("asNumber"),
            hint=f"say in which AS {peer.address} is",
        )
    way, address = peer.reachable_by, peer.address
    if way is not None and (address is None or way.version != address.version):
        raise InvalidConfig(
            f"{fields.path('reachableBy')}: {way} is no gateway to {address or 'a peerSelector'}",
            field=fields.path("reachableBy"),
            value=str(way),
            hint="name an address of the same family as peerIP",
        )


@foreseen
def parse_node(spec: Mapping[str, Any]) -> NodeBgp:
    """Read what a Node's ``spec.bgp`` says of AS and route reflection; the rest is the agent's."""
    fields = Fields(spec.get("bgp") or {}, "spec.bgp")
    return NodeBgp(take_as(fields, "asNumber"), _cluster_id(fields, "routeReflectorClusterID"))


def check_configuration(resource: Resource) -> tuple[str, ...]:
    """Check a BGPConfiguration; return what has no effect here."""
    return parse_configuration(resource).ignored_fields


def check_peer(resource: Resource) -> tuple[str, ...]:
    """Check a BGPPeer; return what has no effect here."""
    return parse_peer(resource).ignored_fields


_SEVERITIES = ("Trace", "Debug", "Info", "Warning", "Error", "Fatal", "None")


_CONFIGURATION_UNUSED = (
    "serviceClusterIPs",
    "serviceExternalIPs",
    "serviceLoadBalancerIPs",
    "serviceLoadBalancerAggregation",
    "bindMode",
    "localWorkloadPeeringIPV4",
    "localWorkloadPeeringIPV6",
    "programClusterRoutes",
    "ipv4NormalRoutePriority",
    "ipv6NormalRoutePriority",
)


_PEER_UNUSED = ("localWorkloadSelector", "reversePeering")


def _cluster_id(fields: Fields, name: str) -> IPAddress | None:
    address = take_address(fields, name)
    if address is not None and address.version != 4:
        raise InvalidConfig(
            f"{fields.path(name)}: {address} is not written like an IPv4 address",
            field=fields.path(name),
            value=str(address),
            hint="e.g. 244.0.0.1",
        )
    return address


def _community_names(fields: Fields) -> dict[str, tuple[int, ...]]:
    names = {}
    for i, item in enumerate(fields.take_list("communities")):
        each = Fields(item, fields.path(f"communities[{i}]"))
        name = take_text(each.take_required("name"), each.path("name"))
        names[name] = parse_community(each.take_required("value"), each.path("value"))
        each.done()
    return names


def _advertised(fields: Fields, names: Mapping[str, tuple[int, ...]]) -> list[Advertised]:
    found = []
    for i, item in enumerate(fields.take_list("prefixAdvertisements")):
        each = Fields(item, fields.path(f"prefixAdvertisements[{i}]"))
        cidr = parse_network(each.take_required("cidr"), each.path("cidr"))
        communities = []
        for j, word in enumerate(each.take_list("communities")):
            where = each.path(f"communities[{j}]")
            if isinstance(word, str) and word in names:
                communities.append(names[word])
            elif isinstance(word, str) and ":" in word:
                communities.append(parse_community(word, where))
            else:
                raise InvalidConfig(
                    f"{where}: {word!r} is no community that spec.communities names",
                    field=where,
                    value=word,
                    hint=nearest(str(word), names) if names else "write it as 65001:100",
                )
        each.done()
        found.append(Advertised(cidr, tuple(communities)))
    return found
