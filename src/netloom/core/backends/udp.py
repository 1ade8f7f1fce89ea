"""Backend ``udp``: packets of a TUN device in UDP datagrams, one in each, as flannel's has it.

The device (``flannel0``) has the first own block's first address with the pool's prefix, and one
route leads each pool to it. Which host has which block is in the table of the proxy, a process of
ours that carries the packets (``kernel/udp``). It works where the underlay lets nothing but UDP
pass and the kernel has no vxlan; it is slower than everything else, and for IPv4 only.

Between two hosts on one segment whose kernels can (``UNPACKS`` in their records) the kernel itself
carries them. Inner checksums may then be unfinished, which only a kernel can make good: to anybody
else a packet goes by the proxy. What is sent so passes neither firewall nor IPsec of the underlay.

Sources: reference/flannel.md §2.4.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from netloom.core.backends.contract import Reach, Side
from netloom.core.backends.lacking import own_addresses, peers_address
from netloom.core.backends.tunnel_end import kept_back, tunnel_ends
from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.fields import Fields
from netloom.model.host import UNPACKS, Block, Host
from netloom.model.kernel import (
    ALIAS_PREFIX,
    Address,
    KernelObject,
    Link,
    Route,
    UdpPeer,
    UdpProxy,
    state_of,
)
from netloom.model.network import Network, parse_device
from netloom.model.pool import Pool
from netloom.model.view import HostFacts, Problem

#: IPv4 20 + UDP 8.
OVERHEAD_BYTES = 28


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a udp network. ``accelerate``: the kernel may carry packets where it can."""

    port: int = 8285
    device: str = "flannel0"
    accelerate: bool = True

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str) -> Options:
        """Parse the options; flannel's spelling is taken too. Raises InvalidConfig."""
        fields = Fields({"port" if k == "Port" else k: v for k, v in options.items()}, where)
        parsed = cls(
            fields.take_int("port", 8285, 1, 65535),
            parse_device(fields.take_str("device", "flannel0"), fields.path("device")),
            fields.take_bool("accelerate", True),
        )
        fields.done()
        return parsed


@dataclass(frozen=True, slots=True)
class PreparedUdp:
    """One udp network on this host.

    ``near`` is where peers are that the kernel may send to by itself, but for what is in ``far``.
    """

    network: str
    options: Options
    pools: tuple[Pool, ...]
    mtu_bytes: int
    problems: tuple[Problem, ...] = ()
    objects: Mapping[str, KernelObject] = field(default_factory=dict)
    ends: tuple[IPAddress, ...] = ()
    near: IPNetwork | None = None
    far: tuple[IPNetwork, ...] = ()

    def reach(self, peer: Host, block: Block) -> Reach:
        """Return the entry of the proxy's table for ``block``."""
        remote = peer.underlay(4)
        if block.cidr.version != 4 or not self.objects:
            return Reach()  # said once, in ``problems``, and not for each peer
        if remote is None:
            return Reach(problem=peers_address(self.network, "udp", peer, 4))
        device, port = self.options.device, self.options.port
        unpacks = UNPACKS in peer.serves.get(self.network, ()) and self._is_near(remote)
        entry = UdpPeer(device, block.cidr, remote, port, unpacks)
        path = f"udp {device} to {remote}:{port}" + (", in the kernel" if unpacks else "")
        return Reach(state_of(entry), path)

    def _is_near(self, remote: IPAddress) -> bool:
        near = self.near is not None and remote in self.near
        return near and not any(remote in cidr for cidr in self.far)

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return what the tunnel takes, and the pool's broadcast address."""
        return kept_back(block, (*self.ends, *(p.cidr.broadcast_address for p in self.pools)))


class UdpBackend:
    """The table's entry for ``udp``."""

    name = "udp"
    families: frozenset[Family] = frozenset({4})
    least_host_bits = 1

    def parse(self, options: Mapping[str, Any], where: str) -> Options:
        """Check the options. Raises InvalidConfig."""
        return Options.parse(options, where)

    def claims(self, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return the port and the device."""
        parsed = Options.parse(options, "backend")
        return (("port", f"UDP port {parsed.port}"), ("device", f"device {parsed.device}"))

    def publish(self, network: Network, host_id: str) -> str:
        """Return "": peers need nothing but this host's address."""
        return ""

    def prepare(self, side: Side) -> PreparedUdp:
        """Return device, proxy and the routes of the pools."""
        options = Options.parse(side.network.backend.options, "backend")
        room = side.facts.mtu_bytes - OVERHEAD_BYTES
        mtu_bytes = min(room, side.network.mtu_bytes or room)
        pools = tuple(pool for pool in side.network.pools if pool.family == 4)
        ends: list[IPAddress] = []
        objects: list[KernelObject] = []
        if 4 in side.facts.underlay:
            _, underlay = side.facts.underlay[4]
            alias = ALIAS_PREFIX + side.network.name
            objects.append(Link(options.device, "tun", alias=alias, mtu_bytes=mtu_bytes))
            local, shortcut = underlay.ip, options.accelerate
            objects.append(UdpProxy(options.device, local, options.port, shortcut=shortcut))
            for pool in pools:
                own = [b for b in side.blocks if b.cidr.version == 4 and b.cidr[0] in pool.cidr]
                ends += (found := _ends(side, pool, own))
                objects += _on_device(options.device, pool, own, found)
        return PreparedUdp(
            side.network.name,
            options,
            pools,
            mtu_bytes,
            own_addresses(side, self.name, (4,)),
            state_of(*objects),
            tuple(ends),
            *_segment(side, options),
        )


def _ends(side: Side, pool: Pool, own: list[Block]) -> tuple[IPAddress, ...]:
    taken = side.taken | {pool.cidr.broadcast_address}
    return tuple(tunnel_ends(replace(side, blocks=tuple(own), taken=taken), (4,)).values())


def _segment(side: Side, options: Options) -> tuple[IPNetwork | None, tuple[IPNetwork, ...]]:
    """Return where the kernel may send to by itself, and what of it is over another card."""
    able = options.accelerate and UNPACKS in side.host.serves.get(side.network.name, ())
    if not able or 4 not in side.facts.underlay:
        return None, ()
    card, underlay = side.facts.underlay[4]
    return underlay.network, tuple(_elsewhere(side.facts, card, underlay.network))


def _elsewhere(facts: HostFacts, card: str, segment: IPNetwork) -> Iterable[IPNetwork]:
    """Yield what lies in ``segment`` and is reached over another card."""
    for cidr, link in facts.routes:
        if link != card and cidr.version == segment.version and cidr[0] in segment:
            yield cidr


def _on_device(
    device: str, pool: Pool, own: list[Block], ends: tuple[IPAddress, ...]
) -> Iterable[KernelObject]:
    """Return the device's address in a pool and the route of the pool.

    The kernel makes no route from the address: ours is known as ours, and is repaired.
    """
    for end in ends:
        interface = ipaddress.ip_interface((end, pool.cidr.prefixlen))
        yield Address(device, interface, prefix_route=False)
    if all(block.cidr != pool.cidr for block in own):  # else the whole pool is here
        yield Route(pool.cidr, device)
