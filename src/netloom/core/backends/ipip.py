"""Backend ``ipip``: a packet to a peer's block is put into one to the peer itself, as Calico does.

One device for all peers, ``tunl0``, which module ipip makes and nobody can delete: it has neither
end set, so the route says where a packet goes (``<block> via <host> dev tunl0 onlink``), and the
kernel takes the sender's address that leads there. The device has the first address of the host's
first block (``tunnel_end`` says when another): that is the source of what the host itself sends to
containers elsewhere, and the hop that ``traceroute`` shows. In mode ``CrossSubnet`` a peer on the
same segment gets a plain route.

Sources: RFC 2003; net/ipv4/ipip.c; reference/calico.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from netloom.core.backends.contract import Reach, Side
from netloom.core.backends.lacking import own_addresses, peers_address
from netloom.core.backends.onlink import direct_reach
from netloom.core.backends.tunnel_end import kept_back, single, tunnel_ends
from netloom.model.addr import Family, IPAddress, IPInterface
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, nearest
from netloom.model.host import Block, Host
from netloom.model.kernel import (
    ALIAS_PREFIX,
    BIRD_PROTOCOL,
    IPIP_DEVICE,
    Address,
    Ipip,
    KernelObject,
    Link,
    Route,
    state_of,
)
from netloom.model.network import Network
from netloom.model.view import Problem

#: The outer IPv4 header (RFC 2003 §3).
OVERHEAD_BYTES = 20
MODES = ("Always", "CrossSubnet")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of an ipip network."""

    cross_subnet: bool = False

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str) -> Options:
        """Parse ``{mode: Always | CrossSubnet}`` or ``{crossSubnet: bool}``.

        Raises InvalidConfig.
        """
        fields = Fields(options, where)
        mode = fields.take_str("mode")
        cross_subnet = fields.take_bool("crossSubnet", mode == "CrossSubnet")
        fields.done()
        if mode and mode not in MODES:
            never = "without encapsulation, hosts are reached by backend bgp or host-gw"
            raise InvalidConfig(
                f"{where}.mode: {mode!r} is no mode of ipip",
                field=f"{where}.mode",
                value=mode,
                hint=never if mode == "Never" else nearest(mode, MODES),
            )
        if mode and cross_subnet != (mode == "CrossSubnet"):
            raise InvalidConfig(
                f"{where}.crossSubnet: it contradicts mode {mode}",
                field=f"{where}.crossSubnet",
                value=str(cross_subnet).lower(),
                hint="leave one of the two away",
            )
        return cls(cross_subnet)


@dataclass(frozen=True, slots=True)
class PreparedIpip:
    """One ipip network on this host."""

    network: str
    options: Options
    underlay: Mapping[Family, tuple[str, IPInterface]]
    mtu_bytes: int
    problems: tuple[Problem, ...] = ()
    objects: Mapping[str, KernelObject] = field(default_factory=dict)
    ends: tuple[IPAddress, ...] = ()

    def reach(self, peer: Host, block: Block) -> Reach:
        """Return the route to ``block`` into the tunnel, or a plain one."""
        remote = peer.underlay(4)
        if block.cidr.version != 4 or not self.objects:
            return Reach()  # said once, in ``problems``, and not for each peer
        if remote is None:
            return Reach(problem=peers_address(self.network, "ipip", peer, 4))
        if self.options.cross_subnet:
            direct = direct_reach(self.underlay, peer, block, "direct")
            if direct:
                return direct
        # In BIRD's name, as users know these routes; core/bgp/giving_way says when not.
        route = Route(block.cidr, IPIP_DEVICE, remote, onlink=True, protocol=BIRD_PROTOCOL)
        return Reach(state_of(route), f"ipip {IPIP_DEVICE} to {remote}")

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return the tunnel's own end, and the address that it has by rights."""
        return kept_back(block, self.ends)


class IpipBackend:
    """The table's entry for ``ipip``."""

    name = "ipip"
    families: frozenset[Family] = frozenset({4})
    least_host_bits = 1

    def parse(self, options: Mapping[str, Any], where: str) -> Options:
        """Check the options. Raises InvalidConfig."""
        return Options.parse(options, where)

    def claims(self, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return the device: the kernel has one without ends in a namespace."""
        return (("type", f"device {IPIP_DEVICE}"),)

    def publish(self, network: Network, host_id: str) -> str:
        """Return "": peers need nothing but this host's address."""
        return ""

    def prepare(self, side: Side) -> PreparedIpip:
        """Return the device with its address."""
        options = Options.parse(side.network.backend.options, "backend")
        room = side.facts.mtu_bytes - OVERHEAD_BYTES
        mtu_bytes = min(room, side.network.mtu_bytes or room)
        ends = tuple(tunnel_ends(side, (4,)).values())
        objects = state_of(*_device(side, mtu_bytes, ends)) if 4 in side.facts.underlay else {}
        underlay = {family: side.facts.underlay[family] for family in sorted(side.facts.underlay)}
        problems = own_addresses(side, self.name, (4,))
        name = side.network.name
        return PreparedIpip(name, options, underlay, mtu_bytes, problems, objects, ends)


def _device(side: Side, mtu_bytes: int, ends: tuple[IPAddress, ...]) -> Iterable[KernelObject]:
    alias = ALIAS_PREFIX + side.network.name
    yield Link(IPIP_DEVICE, "ipip", alias=alias, mtu_bytes=mtu_bytes, ipip=Ipip())
    for end in ends:
        yield Address(IPIP_DEVICE, single(end))
