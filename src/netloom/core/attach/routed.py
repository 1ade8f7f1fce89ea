"""Attachment ``routed``: each container hangs on a veth of its own and has a /32 (/128).

Calico's way: a container's only route leads to 169.254.1.1 (fe80::ecee:eeff:feee:eeee), which no
interface has. A permanent neighbour entry inside the container gives it the MAC of the host's end,
so nothing depends on proxy ARP, which stays silent on a host without a default route. The host has
one route and one permanent neighbour per address. An own block is a blackhole except for the
addresses in use, so that packets to free addresses do not wander off by the default route.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from netloom.core.attach.contract import Part, Place, container_sysctls
from netloom.model.addr import IPAddress, IPNetwork, as_network, derived_name
from netloom.model.attachment import Attached
from netloom.model.endpoint import Endpoint
from netloom.model.fields import Fields
from netloom.model.host import Block
from netloom.model.kernel import (
    ALIAS_PREFIX,
    CONTAINER_GROUP,
    IPV6_METRIC,
    KernelObject,
    Link,
    Neighbour,
    Peer,
    Route,
    Sysctl,
    state_of,
)

#: Behind every other route to the same place, ours and BIRD's.
_LAST_METRIC = 1 << 16
HOST_MAC = "ee:ee:ee:ee:ee:ee"
GATEWAYS: Mapping[int, IPAddress] = {
    4: ipaddress.ip_address("169.254.1.1"),
    6: ipaddress.ip_address("fe80::ecee:eeff:feee:eeee"),
}
_ANYWHERE: Mapping[int, IPNetwork] = {
    4: ipaddress.ip_network("0.0.0.0/0"),
    6: ipaddress.ip_network("::/0"),
}


@dataclass(frozen=True, slots=True)
class PreparedRouted:
    """One routed network on this host."""

    place: Place

    @property
    def objects(self) -> Mapping[str, KernelObject]:
        """Return a blackhole per own block, if none is held; one address needs none.

        A loan has one behind its container's route: without a container here, its lender and this
        host would send each other what comes for it.
        """
        blackholes = []
        for block in self.place.blocks:
            metric = IPV6_METRIC if block.cidr.version == 6 else 0
            if block.lender:
                blackholes.append(Route(block.cidr, type="blackhole", metric=_LAST_METRIC))
            elif (
                block.cidr.prefixlen < block.cidr.max_prefixlen
                and block.cidr not in self.place.held
            ):
                blackholes.append(Route(block.cidr, type="blackhole", metric=metric))
        return state_of(*blackholes)

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return nothing: every address of a block can be a container's."""
        return frozenset()

    def part(self, endpoint: Endpoint) -> Part:
        """Return the veth with its interior, the host's routes, neighbours and settings."""
        name = endpoint.host_ifname
        families = sorted({address.version for address in endpoint.addresses})
        gateways = tuple(GATEWAYS[family] for family in families)
        routes = tuple(
            route
            for gateway in gateways
            for route in self._routes(gateway, gateway.version in endpoint.led_out)
        )
        interfaces = tuple(
            ipaddress.ip_interface((address, address.max_prefixlen))
            for address in endpoint.addresses
        )
        peer = Peer(
            endpoint.netns,
            endpoint.ifname,
            endpoint.mac,
            self.place.mtu_bytes,
            interfaces,
            routes,
            tuple((gateway, HOST_MAC) for gateway in gateways),
            container_sysctls(self.place.network, endpoint.ifname),
            self.place.gso,
        )
        objects: list[KernelObject] = [self._link(name, peer)]
        for address in endpoint.addresses:
            metric = IPV6_METRIC if address.version == 6 else 0
            objects.append(Route(as_network(address), name, metric=metric))
            objects.append(Neighbour(name, address, endpoint.mac))
        if 6 in families:
            objects.append(Sysctl(f"ipv6/conf/{name}/accept_ra", "0"))
        attached = Attached(
            endpoint, self.place.mtu_bytes, interfaces, gateways, routes, host_mac=HOST_MAC
        )
        return Part(state_of(*objects), attached)

    def _routes(
        self, gateway: IPAddress, led_out: bool
    ) -> Iterator[tuple[IPNetwork, IPAddress | None]]:
        """Yield the container's routes of one family.

        The interface that leads out of the container has exactly Calico's, whatever its name. One
        that came when another had the way out leads to its pools as well.
        """
        if gateway.version == 4:
            yield as_network(gateway), None
        if led_out:
            for pool in self.place.network.pools:
                if pool.family == gateway.version:
                    yield pool.cidr, gateway
        yield _ANYWHERE[gateway.version], gateway

    def _link(self, name: str, peer: Peer) -> Link:
        return Link(
            name,
            "veth",
            alias=ALIAS_PREFIX + self.place.network.name,
            mtu_bytes=self.place.mtu_bytes,
            mac=HOST_MAC,
            group=CONTAINER_GROUP,
            peer=peer,
        )


class RoutedAttachment:
    """The table's entry for ``routed``."""

    name = "routed"
    least_host_bits = 0
    lends = True

    def parse(self, options: Mapping[str, Any], where: str) -> None:
        """Refuse any option: routed has none. Raises InvalidConfig."""
        Fields(options, where).done()

    def claims(self, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return nothing: the host's ends have names of their own."""
        return ()

    def host_ifname(self, network: str, container_id: str, ifname: str) -> str:
        """Return ``cali`` and 11 hex digits, as Calico's users know it."""
        return derived_name("cali", network, container_id, ifname, digits=11)

    def prepare(self, place: Place) -> PreparedRouted:
        """Return this host's part."""
        return PreparedRouted(place)
