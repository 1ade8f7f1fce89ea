"""Attachment ``bridge``: containers of a host share a bridge that has the block's first address.

flannel's way: ``cni0`` with the .1 of each own block, one veth port per container, in the
container a default route and a route to each pool by way of the bridge.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netloom.core.attach.contract import Part, Place, container_sysctls
from netloom.model.addr import IPAddress, IPInterface, IPNetwork, derived_mac, derived_name
from netloom.model.attachment import Attached
from netloom.model.endpoint import Endpoint
from netloom.model.fields import Fields
from netloom.model.host import Block
from netloom.model.kernel import (
    ALIAS_PREFIX,
    CONTAINER_GROUP,
    Address,
    KernelObject,
    Link,
    Peer,
    Sysctl,
    state_of,
)
from netloom.model.network import parse_device


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a bridge network. ``hairpin``: a port may send back where it came from.

    ``when_needed``: the bridge comes with the first container and goes with the last, so that
    where an engine has a bridge of its own for the block (Docker by ``bip``) there is no second.
    """

    bridge: str = "cni0"
    hairpin: bool = True
    when_needed: bool = False

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str) -> Options:
        """Parse ``{bridge, hairpinMode, whenNeeded}``. Raises InvalidConfig."""
        fields = Fields(options, where)
        bridge = parse_device(fields.take_str("bridge", "cni0"), fields.path("bridge"))
        hairpin = fields.take_bool("hairpinMode", True)
        parsed = cls(bridge, hairpin, fields.take_bool("whenNeeded", False))
        fields.done()
        return parsed


@dataclass(frozen=True, slots=True)
class PreparedBridge:
    """One bridge network on this host."""

    place: Place
    options: Options

    @property
    def objects(self) -> Mapping[str, KernelObject]:
        """Return what stands without any container: the bridge, unless it comes when needed."""
        return {} if self.options.when_needed else self._shared()

    def _shared(self) -> Mapping[str, KernelObject]:
        """Return the bridge with a MAC of its own (else it takes its lowest port's) and addresses.

        A host without a block has no bridge: it could give no container an address.
        """
        place, name = self.place, self.options.bridge
        if not place.blocks:
            return {}
        objects: list[KernelObject] = [
            Link(
                name,
                "bridge",
                alias=ALIAS_PREFIX + place.network.name,
                mtu_bytes=place.mtu_bytes,
                mac=bridge_mac(place.network.name, place.host_id),
                group=CONTAINER_GROUP,
            )
        ]
        objects += [Address(name, _gateway_interface(block)) for block in place.blocks]
        if 6 in place.network.families:
            objects.append(Sysctl(f"ipv6/conf/{name}/accept_ra", "0"))
            objects.append(Sysctl(f"ipv6/conf/{name}/accept_dad", "0"))
        return state_of(*objects)

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return the network address, the bridge's own, and IPv4's broadcast address."""
        taken = {block.cidr.network_address, block.cidr.network_address + 1}
        if block.cidr.version == 4:
            taken.add(block.cidr.broadcast_address)
        return frozenset(taken)

    def part(self, endpoint: Endpoint) -> Part:
        """Return the veth, a port of the bridge, with its interior."""
        place = self.place
        interfaces, gateways = self._addresses(endpoint)
        routes: list[tuple[IPNetwork, IPAddress | None]] = []
        for gateway in gateways:
            routes.append((_anywhere(gateway), gateway))
            routes += [
                (pool.cidr, gateway)
                for pool in place.network.pools
                if pool.family == gateway.version
                and not any(interface.network == pool.cidr for interface in interfaces)
            ]
        peer = Peer(
            endpoint.netns,
            endpoint.ifname,
            endpoint.mac,
            place.mtu_bytes,
            interfaces,
            tuple(routes),
            sysctls=container_sysctls(place.network, endpoint.ifname),
            gso=place.gso,
        )
        host_mac = derived_mac("veth", place.host_id, endpoint.handle)
        link = Link(
            endpoint.host_ifname,
            "veth",
            alias=ALIAS_PREFIX + place.network.name,
            mtu_bytes=place.mtu_bytes,
            mac=host_mac,
            master=self.options.bridge,
            hairpin=self.options.hairpin,
            group=CONTAINER_GROUP,
            peer=peer,
        )
        attached = Attached(
            endpoint,
            place.mtu_bytes,
            interfaces,
            gateways,
            tuple(routes),
            host_mac=host_mac,
            bridge=self.options.bridge,
            bridge_mac=bridge_mac(place.network.name, place.host_id),
        )
        shared = self._shared() if self.options.when_needed else {}
        return Part({**shared, **state_of(link)}, attached)

    def _addresses(
        self, endpoint: Endpoint
    ) -> tuple[tuple[IPInterface, ...], tuple[IPAddress, ...]]:
        interfaces, gateways = [], []
        for address in endpoint.addresses:
            block = next((b for b in self.place.blocks if address in b.cidr), None)
            if block is None:  # its block is gone: the address stays, reachable by itself alone
                interfaces.append(ipaddress.ip_interface((address, address.max_prefixlen)))
                continue
            interfaces.append(ipaddress.ip_interface((address, block.cidr.prefixlen)))
            gateways.append(block.cidr.network_address + 1)
        return tuple(interfaces), tuple(gateways)


def bridge_mac(network: str, host_id: str) -> str:
    """Return the bridge's MAC: a function of network and host."""
    return derived_mac("bridge", network, host_id)


def _gateway_interface(block: Block) -> IPInterface:
    return ipaddress.ip_interface((block.cidr.network_address + 1, block.cidr.prefixlen))


def _anywhere(address: IPAddress) -> IPNetwork:
    return ipaddress.ip_network("0.0.0.0/0" if address.version == 4 else "::/0")


class BridgeAttachment:
    """The table's entry for ``bridge``."""

    name = "bridge"
    least_host_bits = 2
    lends = False

    def parse(self, options: Mapping[str, Any], where: str) -> Options:
        """Check the options. Raises InvalidConfig."""
        return Options.parse(options, where)

    def claims(self, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return the bridge."""
        return (("bridge", f"device {Options.parse(options, 'attachment').bridge}"),)

    def host_ifname(self, network: str, container_id: str, ifname: str) -> str:
        """Return ``veth`` and 8 hex digits."""
        return derived_name("veth", network, container_id, ifname, digits=8)

    def prepare(self, place: Place) -> PreparedBridge:
        """Return this host's part."""
        return PreparedBridge(place, Options.parse(place.network.attachment.options, "attachment"))
