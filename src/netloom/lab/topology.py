"""A lab's topology: segments, routers, hosts, networks and first containers, as frozen values.

The form of the file is documented in ``docs/lab.md``; the shipped ones are in ``topologies/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netloom.core import definition
from netloom.lab.names import parse_container_name, parse_ifname, parse_node_name
from netloom.lab.reading import (
    parse_interface,
    refuse_outside,
    refuse_twice,
    refuse_unknown,
    take_each,
    take_text,
)
from netloom.model.addr import IPAddress, IPInterface, IPNetwork, parse_address, parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields
from netloom.model.network import MIN_MTU, Network


@dataclass(frozen=True, slots=True)
class Segment:
    """One layer-2 segment. ``gateways`` are what its hosts use as default routes, one a family."""

    name: str
    subnets: tuple[IPNetwork, ...]
    mtu_bytes: int = 1500
    gateways: tuple[IPAddress, ...] = ()

    @classmethod
    def parse(cls, data: object, where: str) -> Segment:
        """Parse ``{name, subnets, mtu, gateways}``; ``subnet`` and ``gateway`` name just one."""
        fields = Fields(data, where)
        name = parse_node_name(fields.take_required("name"), fields.path("name"))
        subnets = take_each(fields, "subnet", "subnets", parse_network) or ()
        if not subnets:
            raise InvalidConfig(
                f"{fields.path('subnets')}: a segment needs at least one subnet",
                field=fields.path("subnets"),
                hint="e.g. subnets: [192.168.31.0/24]",
            )
        least = max(MIN_MTU[subnet.version] for subnet in subnets)
        mtu = fields.take_int("mtu", 1500, least, 65535)
        gateways = take_each(fields, "gateway", "gateways", parse_address) or ()
        fields.done()
        for gateway in gateways:
            refuse_outside(gateway, subnets, fields.path("gateways"), name)
        return cls(name, subnets, mtu, gateways)


@dataclass(frozen=True, slots=True)
class Interface:
    """One network card of a node. ``addresses`` carry the prefix length of the segment's subnet."""

    name: str
    segment: str
    addresses: tuple[IPInterface, ...]

    @classmethod
    def parse(
        cls, data: object, where: str, segments: Mapping[str, Segment], index: int
    ) -> Interface:
        """Parse ``{name, segment, addresses}``; a bare address takes the subnet's length."""
        fields = Fields(data, where)
        name = parse_ifname(fields.take("name", f"eth{index}"), fields.path("name"))
        wanted = fields.take_required("segment")
        refuse_unknown(wanted, segments, fields.path("segment"), "segment")
        segment = segments[wanted]

        def parse_one(text: object, field: str) -> IPInterface:
            return parse_interface(text, field, segment.name, segment.subnets)

        addresses = take_each(fields, "address", "addresses", parse_one) or ()
        fields.done()
        return cls(name, segment.name, addresses)


@dataclass(frozen=True, slots=True)
class Node:
    """A host or a router. ``gateways`` are its default routes, ``routes`` further static ones.

    ``agent`` is the content of the host's ``netloom.yaml``, which the agent itself will check.
    ``blocks`` are its from the start; a host without any claims what is free, as it needs it.
    """

    name: str
    interfaces: tuple[Interface, ...]
    gateways: tuple[IPAddress, ...] = ()
    routes: tuple[tuple[IPNetwork, IPAddress], ...] = ()
    agent: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[IPNetwork, ...] = ()

    @classmethod
    def parse(
        cls, data: object, where: str, segments: Mapping[str, Segment], *, host: bool
    ) -> Node:
        """Parse ``{name, interfaces, gateways, routes}``, for a host also ``agent``, ``blocks``.

        A host that says nothing of ``gateways`` uses those of its interfaces' segments, the first
        of each family; a router has none unless it says so.
        """
        fields = Fields(data, where)
        name = parse_node_name(fields.take_required("name"), fields.path("name"))
        interfaces = tuple(
            Interface.parse(item, fields.path(f"interfaces[{index}]"), segments, index)
            for index, item in enumerate(fields.take_list("interfaces"))
        )
        if not interfaces:
            raise InvalidConfig(
                f"{fields.path('interfaces')}: {name} needs at least one interface",
                field=fields.path("interfaces"),
                hint="e.g. interfaces: [{name: ens33, segment: lan, address: 192.168.31.62}]",
            )
        refuse_twice([i.name for i in interfaces], fields.path("interfaces"), "interface")
        gateways = take_each(fields, "gateway", "gateways", parse_address)
        if gateways is None:
            gateways = _default_gateways(interfaces, segments) if host else ()
        routes = tuple(
            _static_route(item, fields.path(f"routes[{index}]"))
            for index, item in enumerate(fields.take_list("routes"))
        )
        agent = fields.take_map("agent") if host else {}
        blocks = take_each(fields, "block", "blocks", parse_network) if host else None
        fields.done()
        return cls(name, interfaces, gateways, routes, agent, blocks or ())


@dataclass(frozen=True, slots=True)
class Container:
    """A container that is started with the lab: where, in which networks, running what."""

    host: str
    name: str
    networks: tuple[str, ...]
    addresses: tuple[IPAddress, ...] = ()
    ports: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: object, where: str) -> Container:
        """Parse ``{host, name, network | networks, ips, ports, command}``."""
        fields = Fields(data, where)
        host = parse_node_name(fields.take_required("host"), fields.path("host"))
        name = parse_container_name(fields.take_required("name"), fields.path("name"))
        networks = take_each(fields, "network", "networks", take_text) or ()
        addresses = take_each(fields, "ip", "ips", parse_address) or ()
        ports = tuple(str(port) for port in fields.take_list("ports"))
        command = tuple(str(word) for word in fields.take_list("command"))
        fields.done()
        return cls(host, name, networks, addresses, ports, command)


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole lab. Names are unique among segments, routers and hosts together."""

    segments: tuple[Segment, ...]
    routers: tuple[Node, ...]
    hosts: tuple[Node, ...]
    networks: tuple[Network, ...] = ()
    containers: tuple[Container, ...] = ()
    title: str = ""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Routers, then hosts."""
        return (*self.routers, *self.hosts)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all that has a namespace of its own before any container is there."""
        segments = [segment.name for segment in self.segments]
        return (*segments, *(node.name for node in self.nodes))

    def network_of(self, block: IPNetwork, where: str) -> Network:
        """Return the network whose pools are cut into blocks such as ``block``.

        Raises InvalidConfig when there is none.
        """
        for network in self.networks:
            for pool in network.pools:
                if (
                    pool.family == block.version
                    and pool.block_size == block.prefixlen
                    and pool.cidr.overlaps(block)
                ):
                    return network
        raise InvalidConfig(
            f"{where}: {block} is a block of no network's pool",
            field=where,
            value=str(block),
            hint="it must lie in a pool and have the length of its blockSize",
        )

    @classmethod
    def parse(cls, data: object) -> Topology:
        """Parse a topology's document. Raises InvalidConfig naming field, value and remedy."""
        fields = Fields(data, "")
        title = fields.take_str("title")
        segments = tuple(
            Segment.parse(item, f"segments[{index}]")
            for index, item in enumerate(fields.take_list("segments"))
        )
        by_name = {segment.name: segment for segment in segments}
        routers, hosts = (
            tuple(
                Node.parse(item, f"{kind}[{index}]", by_name, host=kind == "hosts")
                for index, item in enumerate(fields.take_list(kind))
            )
            for kind in ("routers", "hosts")
        )
        networks = tuple(
            definition.parse(item, f"networks[{index}]")
            for index, item in enumerate(fields.take_list("networks"))
        )
        containers = tuple(
            Container.parse(item, f"containers[{index}]")
            for index, item in enumerate(fields.take_list("containers"))
        )
        fields.done()
        topology = cls(segments, routers, hosts, networks, containers, title)
        _check_whole(topology)
        return topology


def _default_gateways(
    interfaces: tuple[Interface, ...], segments: Mapping[str, Segment]
) -> tuple[IPAddress, ...]:
    """Return the first gateway of each family among the segments, in the interfaces' order."""
    first: dict[int, IPAddress] = {}
    for interface in interfaces:
        for gateway in segments[interface.segment].gateways:
            first.setdefault(gateway.version, gateway)
    return tuple(first.values())


def _static_route(data: object, where: str) -> tuple[IPNetwork, IPAddress]:
    fields = Fields(data, where)
    to = parse_network(fields.take_required("to"), fields.path("to"))
    via = parse_address(fields.take_required("via"), fields.path("via"))
    fields.done()
    return to, via


def _check_whole(topology: Topology) -> None:
    """Check what no single part can see: names, addresses taken twice, references."""
    if not topology.hosts:
        raise InvalidConfig("hosts: a lab needs at least one host", field="hosts")
    refuse_twice(topology.names, "hosts", "segment, router or host")
    refuse_twice([network.name for network in topology.networks], "networks", "network")
    refuse_twice([f"{c.host}/{c.name}" for c in topology.containers], "containers", "container")
    taken: dict[tuple[str, IPAddress], str] = {}
    for node in topology.nodes:
        for interface in node.interfaces:
            for address in interface.addresses:
                other = taken.setdefault((interface.segment, address.ip), node.name)
                if other != node.name:
                    raise InvalidConfig(
                        f"{node.name}.{interface.name}: {address.ip} is {other}'s address already",
                        field="addresses",
                        value=str(address.ip),
                        hint=f"give {node.name} another address on segment {interface.segment}",
                    )
    for segment in topology.segments:
        for gateway in segment.gateways:
            if (segment.name, gateway) not in taken:
                raise InvalidConfig(
                    f"segments.{segment.name}.gateways: no router has the address {gateway}",
                    field="gateways",
                    value=str(gateway),
                    hint=f"add a router with an interface on {segment.name} with that address",
                )
    for host in topology.hosts:
        for block in host.blocks:
            topology.network_of(block, f"hosts.{host.name}.blocks")
    hosts = {host.name for host in topology.hosts}
    networks = {network.name for network in topology.networks}
    for index, container in enumerate(topology.containers):
        refuse_unknown(container.host, hosts, f"containers[{index}].host", "host")
        for name in container.networks:
            refuse_unknown(name, networks, f"containers[{index}].network", "network")
