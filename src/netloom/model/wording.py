"""Kernel objects in the words of the command-line tools of their kinds."""

from __future__ import annotations

from typing import Any

from netloom.model.kernel import (
    FORWARD_CHAIN,
    Address,
    Admission,
    Bird,
    Fdb,
    ForwardDrop,
    KernelObject,
    Link,
    Neighbour,
    NftTable,
    Qdisc,
    Route,
    Sysctl,
    UdpPeer,
    UdpProxy,
    iptables,
)

#: Kernel options that are not called after the kind of link that they make possible.
_OPTIONS = {"ipip": "CONFIG_NET_IPIP"}


def describe(obj: KernelObject) -> str:
    """Return the object as the command-line tool of its kind would print it, on one line."""
    text: str = _DESCRIBE[type(obj)](obj)
    return text


def how_to_get(kind: str) -> str:
    """Say how a kernel that has no links of ``kind`` gets them."""
    return f"load the module with `modprobe {kind}`, or use a kernel with {option_of(kind)}"


def option_of(kind: str) -> str:
    """Return the option with which a kernel is built that has links of ``kind``."""
    return _OPTIONS.get(kind, f"CONFIG_{kind.upper()}")


def _describe_link(link: Link) -> str:
    words = [f"link {link.name}"]
    if link.kind:
        words.append(f"type {link.kind}")
    if link.vxlan:
        vx = link.vxlan
        words.append(f"id {vx.vni} local {vx.local} dev {vx.device} dstport {vx.port} nolearning")
    if link.ipip:
        words.append(f"remote {link.ipip.remote or 'any'} local {link.ipip.local or 'any'}")
    if link.mac:
        words.append(f"address {link.mac}")
    if link.mtu_bytes:
        words.append(f"mtu {link.mtu_bytes}")
    if link.group:
        words.append(f"group {link.group}")
    if link.master:
        words.append(f"master {link.master}")
    if link.up is not None:
        words.append("up" if link.up else "down")
    return " ".join(words)


def _describe_route(route: Route) -> str:
    words = ["route"] + ([route.type] if route.type != "unicast" else []) + [str(route.destination)]
    if route.gateway:
        words.append(f"via {route.gateway}")
    if route.link:
        words.append(f"dev {route.link}")
    if route.metric:
        words.append(f"metric {route.metric}")
    if route.mtu_bytes:
        words.append(f"mtu {route.mtu_bytes}")
    return " ".join(words + (["onlink"] if route.onlink else []))


_DESCRIBE: dict[type, Any] = {
    Link: _describe_link,
    Address: lambda o: f"address {o.interface} dev {o.link}",
    Route: _describe_route,
    Neighbour: lambda o: f"neighbour {o.address} lladdr {o.mac} dev {o.link} PERMANENT",
    Fdb: lambda o: f"fdb {o.mac} dst {o.remote} dev {o.link} self permanent",
    UdpProxy: lambda o: f"udp-proxy dev {o.link} local {o.local}:{o.port}",
    UdpPeer: lambda o: (
        f"udp-peer {o.block} to {o.remote}:{o.port} dev {o.link}{' unpacks' if o.unpacks else ''}"
    ),
    Bird: lambda o: f"bird ({o.config.count('protocol bgp ')} BGP sessions)",
    Sysctl: lambda o: f"sysctl net.{o.name.replace('/', '.')} = {o.value}",
    NftTable: lambda o: f"nft table inet {o.name} ({len(o.text.splitlines())} lines)",
    ForwardDrop: lambda o: f"drop in chain {o.chain} of {iptables(o.family, o.legacy)}",
    Admission: lambda o: (
        f"{o.key} -I {o.chain} -j {FORWARD_CHAIN} (accepts {', '.join(map(str, o.pools))})"
    ),
    Qdisc: lambda o: (
        f"qdisc {o.link} {o.direction} rate {o.rate_bps} bit/s burst {o.burst_bytes} bytes"
    ),
}
