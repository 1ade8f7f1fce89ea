"""Backend ``vxlan``: blocks are reached through a VXLAN device with static entries only.

One device per address family of the underlay (``flannel.1``, ``flannel-v6.1``); learning is off.
For each block of a peer there are three entries: the forwarding entry (peer's tunnel MAC → peer's
underlay address), the permanent neighbour (the gateway → that MAC) and, written last, the route.
The kernel therefore never has to ask or learn anything. With ``directRouting`` a peer on the same
segment gets a plain route instead.

The gateway of an IPv4 block is its own first address, onlink, as flannel has it. IPv6 refuses such
a route while another one to the block stands ("invalid gateway or device mismatch",
net/ipv6/route.c, ip6_route_check_nh_onlink), so that no backend could change without a gap; there
the gateway is the link-local address that the peer's tunnel MAC makes.

A block travels over the underlay of its own family where both hosts have one, else over the other
family. Sources: RFC 7348; the tables are flannel's, see reference/flannel.md §2.1.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netloom.core.backends.contract import Reach, Side
from netloom.core.backends.lacking import contested
from netloom.core.backends.onlink import direct_reach
from netloom.core.backends.tunnel_end import kept_back, single, tunnel_ends
from netloom.model.addr import Family, IPAddress, IPInterface, derived_mac
from netloom.model.fields import Fields
from netloom.model.host import Block, Host
from netloom.model.kernel import (
    ALIAS_PREFIX,
    IPV6_METRIC,
    Address,
    Fdb,
    KernelObject,
    Link,
    Neighbour,
    Route,
    Sysctl,
    Vxlan,
    state_of,
)
from netloom.model.network import Network, parse_device
from netloom.model.view import Problem

_FAMILIES: tuple[Family, ...] = (4, 6)
#: Outer Ethernet 14 + IP 20 or 40 + UDP 8 + VXLAN 8 (RFC 7348 §5).
OVERHEAD_BYTES: Mapping[Family, int] = {4: 50, 6: 70}


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a vxlan network. ``device`` "" means flannel.<VNI>."""

    vni: int = 1
    port: int = 8472
    direct_routing: bool = False
    device: str = ""

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str) -> Options:
        """Parse ``{vni, port, directRouting, device}``; flannel's spellings are taken too."""
        spelled = {"VNI": "vni", "Port": "port", "DirectRouting": "directRouting"}
        fields = Fields({spelled.get(k, k): v for k, v in options.items()}, where)
        parsed = cls(
            fields.take_int("vni", 1, 1, (1 << 24) - 1),
            fields.take_int("port", 8472, 1, 65535),
            fields.take_bool("directRouting", False),
            fields.take_str("device"),
        )
        fields.done()
        if parsed.device:  # '-v6' has to fit behind it
            parse_device(parsed.device, fields.path("device"), most=12)
        return parsed

    def device_name(self, family: Family) -> str:
        """Return the device's name for one underlay family."""
        if self.device:
            return self.device if family == 4 else f"{self.device}-v6"
        return f"flannel.{self.vni}" if family == 4 else f"flannel-v6.{self.vni}"


@dataclass(frozen=True, slots=True)
class PreparedVxlan:
    """One vxlan network on this host. ``devices``: underlay family → device name."""

    network: str
    options: Options
    devices: Mapping[Family, str]
    underlay: Mapping[Family, tuple[str, IPInterface]]
    mtu_bytes: int
    problems: tuple[Problem, ...] = ()
    objects: Mapping[str, KernelObject] = field(default_factory=dict)
    ends: tuple[IPAddress, ...] = ()

    def reach(self, peer: Host, block: Block) -> Reach:
        """Return neighbour, forwarding entry and route to ``block``, or a plain route."""
        if self.options.direct_routing:
            direct = direct_reach(self.underlay, peer, block, "direct")
            if direct:
                return direct
        if not self.devices:
            return Reach()  # said once, in ``problems``, and not for each peer
        family = self._family(peer, block.cidr.version)
        if family is None:
            clash = contested(self.network, peer, _FAMILIES)
            return Reach(problem=clash or _no_common_underlay(self.network, peer))
        device = self.devices[family]
        remote = peer.underlay(family)
        assert remote is not None
        mac = _peer_mac(peer, self.network, family)
        first = block.cidr.network_address
        gateway = first if first.version == 4 else link_local(mac)
        objects = state_of(
            Neighbour(device, gateway, mac),
            Fdb(device, mac, remote),
            Route(block.cidr, device, gateway, onlink=gateway.version == 4, metric=_metric(block)),
        )
        return Reach(objects, f"vxlan {device} to {remote}")

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return the tunnel's own end, and the address that it has by rights."""
        return kept_back(block, self.ends)

    def _family(self, peer: Host, inner: Family) -> Family | None:
        order: tuple[Family, Family] = (4, 6) if inner == 4 else (6, 4)
        for family in order:
            if family in self.devices and peer.underlay(family) is not None:
                return family
        return None


def _metric(block: Block) -> int:
    return IPV6_METRIC if block.cidr.version == 6 else 0


def tunnel_mac(network: str, host_id: str) -> str:
    """Return the MAC of a host's tunnel end: the same at every start, so peers stay right."""
    return derived_mac("vtep", network, host_id)


def _peer_mac(peer: Host, network: str, family: Family) -> str:
    """Return the MAC of a peer's tunnel end; flannel's daemon has one of its own for IPv6."""
    own = peer.macs.get(f"{network}/6") if family == 6 else None
    return own or peer.macs.get(network) or tunnel_mac(network, peer.id)


def link_local(mac: str) -> ipaddress.IPv6Address:
    """Return the address that an interface with this MAC gives itself (RFC 4291, appendix A)."""
    half = bytes.fromhex(mac.replace(":", ""))
    return ipaddress.IPv6Address(
        b"\xfe\x80" + bytes(6) + bytes([half[0] ^ 2]) + half[1:3] + b"\xff\xfe" + half[3:]
    )


class VxlanBackend:
    """The table's entry for ``vxlan``."""

    name = "vxlan"
    families: frozenset[Family] = frozenset({4, 6})
    least_host_bits = 1

    def parse(self, options: Mapping[str, Any], where: str) -> Options:
        """Check the options. Raises InvalidConfig."""
        return Options.parse(options, where)

    def claims(self, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return the VNI with its port, and the devices."""
        parsed = Options.parse(options, "backend")
        return (
            ("vni", f"VNI {parsed.vni} on port {parsed.port}"),
            *(("device", f"device {parsed.device_name(family)}") for family in _FAMILIES),
        )

    def publish(self, network: Network, host_id: str) -> str:
        """Return the tunnel MAC that peers write into their tables."""
        return tunnel_mac(network.name, host_id)

    def prepare(self, side: Side) -> PreparedVxlan:
        """Return the devices, one per underlay family, each with its first block's address."""
        options = Options.parse(side.network.backend.options, "backend")
        devices = {family: options.device_name(family) for family in _tunnel_families(side)}
        # Without an underlay there is no device, but containers still need an MTU.
        overheads = [OVERHEAD_BYTES[family] for family in devices]
        room = side.facts.mtu_bytes - max(overheads, default=OVERHEAD_BYTES[4])
        objects: dict[str, KernelObject] = {}
        for family, device in devices.items():
            objects |= _device(side, options, family, device)
        return PreparedVxlan(
            side.network.name,
            options,
            devices,
            {family: side.facts.underlay[family] for family in sorted(side.facts.underlay)},
            min(room, side.network.mtu_bytes or room),
            tuple(_problems(side, options, devices)),
            objects,
            tuple(tunnel_ends(side).values()),
        )


def _tunnel_families(side: Side) -> tuple[Family, ...]:
    """Return the underlay families that need a device: the pools' own, and IPv4 for IPv6 pools.

    Peers without IPv6 are reached over IPv4, which costs no MTU. The other way round it would cost
    every IPv4 network 20 bytes, so IPv6 carries IPv4 only where the host has nothing else.
    """
    there = [family for family in _FAMILIES if family in side.facts.underlay]
    wanted = [family for family in there if family == 4 or 6 in side.network.families]
    return tuple(wanted or there)


def _device(side: Side, options: Options, family: Family, name: str) -> dict[str, KernelObject]:
    underlay_link, underlay = side.facts.underlay[family]
    room = side.facts.mtu_bytes - OVERHEAD_BYTES[family]
    objects: list[KernelObject] = [
        Link(
            name,
            "vxlan",
            alias=ALIAS_PREFIX + side.network.name,
            mtu_bytes=min(room, side.network.mtu_bytes or room),
            mac=tunnel_mac(side.network.name, side.host.id),
            vxlan=Vxlan(options.vni, options.port, underlay_link, underlay.ip),
        )
    ]
    if 6 in side.network.families:
        objects.append(Sysctl(f"ipv6/conf/{name}/accept_ra", "0"))
    inner = side.network.families if len(side.facts.underlay) == 1 else (family,)
    objects += [Address(name, single(end)) for end in tunnel_ends(side, inner).values()]
    return state_of(*objects)


def _problems(side: Side, options: Options, devices: Mapping[Family, str]) -> list[Problem]:
    subject = f"network {side.network.name}"
    problems = []
    if not devices:
        problems.append(
            Problem("error", subject, "this host has no underlay address", "give it one")
        )
    for name, vni, port in side.facts.vxlans:
        if vni == options.vni and port == options.port and name not in devices.values():
            problems.append(
                Problem(
                    "error",
                    subject,
                    f"backend.vni: {vni} on port {port} is taken by device {name}",
                    f"choose another backend.vni or backend.port, or remove {name}",
                )
            )
    return problems


def _no_common_underlay(network: str, peer: Host) -> Problem:
    return Problem(
        "error",
        f"peer {peer.name}",
        f"network {network}: the hosts have no underlay address of a common family",
        f"give {peer.name} an address of this host's family",
    )
