"""Values for tests of the pure middle, written as people write them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from netloom.core import definition
from netloom.model.endpoint import Bandwidth, Endpoint, PortMapping
from netloom.model.host import Block, Host
from netloom.model.kernel import Address, KernelObject, Link, Route
from netloom.model.network import Network
from netloom.model.view import Cluster, HostFacts, View
from netloom.model.wording import describe

ip = ipaddress.ip_address
net = ipaddress.ip_network
iface = ipaddress.ip_interface


def network(name: str = "blue", *pools: str, **fields: Any) -> Network:
    return definition.parse({"name": name, "pools": list(pools or ["10.244.0.0/16"]), **fields})


def host(host_id: str, *underlay: str, macs: Mapping[str, str] | None = None) -> Host:
    by_family = {ip(text).version: ip(text) for text in underlay}
    return Host(
        host_id, host_id, by_family.get(4), by_family.get(6), MappingProxyType(dict(macs or {}))
    )


def block(cidr: str, host_id: str, name: str = "blue", *, confirmed: bool = True) -> Block:
    return Block(name, net(cidr), host_id, confirmed)


def endpoint(
    container: str,
    *addresses: str,
    name: str = "blue",
    host_ifname: str = "",
    ports: tuple[PortMapping, ...] = (),
    bandwidth: Bandwidth | None = None,
) -> Endpoint:
    return Endpoint(
        network=name,
        host_id="h1",
        container_id=container,
        ifname="eth0",
        netns=f"/run/netns/{container}",
        host_ifname=host_ifname or f"veth{container}",
        mac="02:42:00:00:00:05",
        addresses=tuple(ip(text) for text in addresses),
        attached=True,
        ports=ports,
        bandwidth=bandwidth or Bandwidth(),
    )


def facts(*underlay: str, link: str = "ens33", mtu: int = 1500, **more: Any) -> HostFacts:
    by_family = {iface(text).version: (link, iface(text)) for text in underlay}
    routes = more.pop("routes", ())
    return HostFacts(
        MappingProxyType(by_family),
        mtu,
        routes=tuple((net(cidr), device) for cidr, device in routes),
        **more,
    )


def view(
    networks: Iterable[Network],
    hosts: Iterable[Host] = (),
    blocks: Iterable[Block] = (),
    *,
    own: HostFacts | None = None,
    endpoints: Iterable[Endpoint] = (),
    admitted: Iterable[str] = (),
) -> View:
    """Return the view of host ``h1``, by default at 192.168.31.62/24 on ens33."""
    cluster = Cluster(
        networks={each.name: each for each in networks},
        hosts={each.id: each for each in hosts},
        blocks={(each.network, each.cidr): each for each in blocks},
    )
    own = own or facts("192.168.31.62/24")
    return View(cluster, "h1", own, tuple(endpoints), frozenset(admitted))


def card(
    name: str, *addresses: str, index: int = 2, mtu: int = 1500, up: bool = True
) -> list[KernelObject]:
    """Return a physical interface and its addresses."""
    link = Link(name, "", mtu_bytes=mtu, mac=f"52:54:00:00:00:{index:02x}", up=up, index=index)
    return [link, *(Address(name, iface(text)) for text in addresses)]


def default_route(link: str, gateway: str, metric: int = 0) -> Route:
    family = ip(gateway).version
    return Route(
        net("0.0.0.0/0" if family == 4 else "::/0"), link, ip(gateway), protocol=16, metric=metric
    )


def table(objects: Mapping[str, KernelObject], kind: str) -> list[str]:
    """Return the objects of one kind as command-line tools print them, in address order."""
    return sorted(describe(obj) for obj in objects.values() if obj.kind_name == kind)
