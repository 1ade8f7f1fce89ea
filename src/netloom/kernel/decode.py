"""Rtnetlink dumps as kernel objects.

Pure: payloads (what follows each message's header) become model objects. The loops for routes,
neighbours and forwarding entries run thousands of times in every pass, so they read attributes in
place, and equal addresses are one object: comparing and hashing them is quicker too.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from netloom.kernel import wire
from netloom.kernel.wire import attributes, string
from netloom.model.addr import IPAddress, IPNetwork
from netloom.model.gso import BY_DEFAULT, Gso
from netloom.model.kernel import Address, Fdb, Ipip, Link, Neighbour, Route, Vxlan

_attribute = wire.ATTRIBUTE.unpack_from
_u32 = wire.U32.unpack_from
_BITS = {wire.AF_INET: bytes(4), wire.AF_INET6: bytes(16)}

_route_header = wire.ROUTE_HEADER.unpack_from
_neighbour_header = wire.NEIGHBOUR_HEADER.unpack_from

# Names of this module's own: looking one up is quicker than an attribute of another module's.
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_NDA_DST, _NDA_LLADDR = wire.NDA_DST, wire.NDA_LLADDR
_LINK_LOCAL = (bytes.fromhex("fe80") + bytes(14), 64)

#: Nearly every link has these: they are not decoded.
_GSO_BY_DEFAULT = wire.U32.pack(BY_DEFAULT.max_bytes) + wire.U32.pack(BY_DEFAULT.max_segments)

#: So many of what was decoded last are kept. What stands as it should is given up for the wanted
#: objects: thousands kept here would be there a second time.
_FEW = 512


@lru_cache(maxsize=_FEW)
def ip_address(packed: bytes) -> IPAddress:
    """Return the address of 4 or 16 bytes in network order."""
    return (ipaddress.IPv4Address if len(packed) == 4 else ipaddress.IPv6Address)(packed)


@lru_cache(maxsize=_FEW)
def _network(packed: bytes, length: int) -> IPNetwork:
    if len(packed) == 4:
        return ipaddress.IPv4Network((packed, length))
    return ipaddress.IPv6Network((packed, length))


@lru_cache(maxsize=_FEW)
def _mac(packed: bytes) -> str:
    return packed.hex(":")


def numbered(index: int) -> str:
    """Return what a link is called whose name cannot be found out."""
    return f"if{index}"


def links(payloads: Iterable[bytes], name_of: Callable[[int], str] = numbered) -> list[Link]:
    """Decode links. ``name_of`` is asked for names of links that are not among ``payloads``."""
    found = []
    names: dict[int, str] = {}
    for payload in payloads:
        _, _, index, flags, _ = wire.LINK_HEADER.unpack_from(payload)
        fields = dict(attributes(payload, wire.LINK_HEADER.size))
        names[index] = string(fields.get(wire.IFLA_IFNAME, b""))
        found.append((index, flags, fields))

    def named(index: int) -> str:
        return names.get(index) or name_of(index)

    return [_link(index, flags, fields, named) for index, flags, fields in found]


def _link(
    index: int, flags: int, fields: Mapping[int, bytes], name_of: Callable[[int], str]
) -> Link:
    info = dict(attributes(fields.get(wire.IFLA_LINKINFO, b"")))
    kind = string(info.get(wire.IFLA_INFO_KIND, b""))
    hairpin = None
    if string(info.get(wire.IFLA_INFO_SLAVE_KIND, b"")) == "bridge":
        port = dict(attributes(info.get(wire.IFLA_INFO_SLAVE_DATA, b"")))
        hairpin = port.get(wire.IFLA_BRPORT_MODE, b"\0") != b"\0"
    master = fields.get(wire.IFLA_MASTER)
    group = fields.get(wire.IFLA_GROUP)
    mac = fields.get(wire.IFLA_ADDRESS, b"")
    return Link(
        name=name_of(index),
        kind=kind,
        alias=string(fields.get(wire.IFLA_IFALIAS, b"")),
        mtu_bytes=_u32(fields[wire.IFLA_MTU])[0] if wire.IFLA_MTU in fields else None,
        mac=_mac(mac) if len(mac) == 6 else None,
        up=bool(flags & wire.IFF_UP),
        master=name_of(_u32(master)[0]) if master else None,
        hairpin=hairpin,
        group=_u32(group)[0] or None if group else None,  # 0 is what every link is in
        vxlan=_vxlan(info.get(wire.IFLA_INFO_DATA, b""), name_of) if kind == "vxlan" else None,
        ipip=_ipip(info.get(wire.IFLA_INFO_DATA, b"")) if kind == "ipip" else None,
        index=index,
        carrier=bool(flags & wire.IFF_LOWER_UP),
        gso=_gso(fields),
    )


def _gso(fields: Mapping[int, bytes]) -> Gso:
    size, segments = fields.get(wire.IFLA_GSO_MAX_SIZE), fields.get(wire.IFLA_GSO_MAX_SEGS)
    if not size or not segments or size + segments == _GSO_BY_DEFAULT:
        return BY_DEFAULT
    return Gso(_u32(size)[0], _u32(segments)[0])


def _vxlan(data: bytes, name_of: Callable[[int], str]) -> Vxlan:
    fields = dict(attributes(data))
    local = fields.get(wire.IFLA_VXLAN_LOCAL) or fields.get(wire.IFLA_VXLAN_LOCAL6) or bytes(4)
    lower = fields.get(wire.IFLA_VXLAN_LINK)
    return Vxlan(
        vni=_u32(fields.get(wire.IFLA_VXLAN_ID, bytes(4)))[0],
        port=int.from_bytes(fields.get(wire.IFLA_VXLAN_PORT, b""), "big"),
        device=name_of(_u32(lower)[0]) if lower and any(lower) else "",
        local=ip_address(local),
        learning=fields.get(wire.IFLA_VXLAN_LEARNING, b"\0") != b"\0",
    )


def _ipip(data: bytes) -> Ipip:
    fields = dict(attributes(data))
    ends = (fields.get(kind, b"") for kind in (wire.IFLA_IPTUN_LOCAL, wire.IFLA_IPTUN_REMOTE))
    return Ipip(*(ip_address(end) if any(end) else None for end in ends))


def addresses(payloads: Iterable[bytes], names: Mapping[int, str]) -> list[Address]:
    """Decode addresses.

    Kernels before 5.18 do not say which link-local addresses are their own; there, all count as
    such.
    """
    found = []
    kernel_says = False
    for payload in payloads:
        family, length, _, _, index = wire.ADDRESS_HEADER.unpack_from(payload)
        if family not in _BITS or index not in names:
            continue
        fields = dict(attributes(payload, wire.ADDRESS_HEADER.size))
        packed = fields.get(wire.IFA_LOCAL) or fields[wire.IFA_ADDRESS]
        origin = fields.get(wire.IFA_PROTO, b"\0")[0]
        kernel_says = kernel_says or origin != 0
        permanent = bool(_u32(fields[wire.IFA_FLAGS])[0] & wire.IFA_F_PERMANENT)
        found.append((names[index], _interface(packed, length), permanent, origin))
    return [
        Address(
            name,
            interface,
            permanent,
            origin == wire.IFAPROT_KERNEL_LL if kernel_says else interface.ip.is_link_local,
        )
        for name, interface, permanent, origin in found
    ]


@lru_cache(maxsize=4096)
def _interface(packed: bytes, length: int) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    return ipaddress.ip_interface((packed, length))


def routes(payloads: Iterable[bytes], names: Mapping[int, str]) -> list[Route]:
    """Decode the main table's routes.

    Left out: what the kernel caches, the route that each device has to its link-local network,
    routes for one type of service, and routes behind another one to the same place: `ip route
    append` puts them there, and no packet takes them.
    A route with several next hops reads as type ``multipath`` with the first of them, so that it
    is equal to none with one.
    """
    found: dict[tuple[bytes, int, int], Route] = {}
    for payload in payloads:
        family, length, _, tos, table, protocol, _, kind, flags = _route_header(payload)
        type_name = wire.ROUTE_TYPES.get(kind)
        if type_name is None or tos or flags & wire.RTM_F_CLONED or family not in _BITS:
            continue
        fields = _fields(payload)
        destination = fields.get(_RTA_DST) or _BITS[family]
        metric = _number(fields, _RTA_PRIORITY)
        place = (destination, length, metric)
        if _number(fields, _RTA_TABLE, table) != wire.RT_TABLE_MAIN or place in found:
            continue
        gateway = fields.get(_RTA_GATEWAY)
        route = Route(
            _network(destination, length),
            names.get(_number(fields, _RTA_OIF), ""),
            ip_address(gateway) if gateway else None,
            bool(flags & wire.RTNH_F_ONLINK),
            type_name,
            protocol,
            metric,
        )
        found[place] = _refined(route, fields, names)
    return [route for place, route in found.items() if place[:2] != _LINK_LOCAL]


def _refined(route: Route, fields: Mapping[int, bytes], names: Mapping[int, str]) -> Route:
    """Complete a route that has more to it than a destination, a gateway and a link."""
    if route.type != "unicast":
        route = replace(route, link="")  # IPv6 hangs its blackholes on lo
    if wire.RTA_METRICS in fields:
        mtu = dict(attributes(fields[wire.RTA_METRICS])).get(wire.RTAX_MTU, bytes(4))
        route = replace(route, mtu_bytes=_u32(mtu)[0])
    if wire.RTA_VIA in fields:  # an IPv6 gateway of an IPv4 route, after two bytes of family
        route = replace(route, gateway=ip_address(fields[wire.RTA_VIA][2:]))
    if wire.RTA_MULTIPATH in fields:
        link, gateway = _first_hop(fields[wire.RTA_MULTIPATH], names)
        route = replace(route, type="multipath", link=link, gateway=gateway)
    return route


def _fields(payload: bytes) -> dict[int, bytes]:
    """Return a route's or neighbour's attributes: ``attributes``, made quick for thousands."""
    fields = {}
    position, end = 12, len(payload)
    while position < end:
        size, what = _attribute(payload, position)
        fields[what & 0x3FFF] = payload[position + 4 : position + size]
        position += (size + 3) & ~3
    return fields


def _number(fields: Mapping[int, bytes], kind: int, default: int = 0) -> int:
    value = fields.get(kind)
    return int.from_bytes(value, sys.byteorder) if value else default


def _first_hop(hops: bytes, names: Mapping[int, str]) -> tuple[str, IPAddress | None]:
    """Read the first ``struct rtnexthop``: length, flags, hops, index, then attributes."""
    size = int.from_bytes(hops[:2], sys.byteorder)
    gateway = dict(attributes(hops[8:size])).get(_RTA_GATEWAY)
    return names.get(_u32(hops, 4)[0], ""), ip_address(gateway) if gateway else None


def neighbours(payloads: Iterable[bytes], names: Mapping[int, str]) -> list[Neighbour]:
    """Decode the permanent neighbours of the links in ``names``."""
    found = []
    for payload in payloads:
        family, index, state, _, _ = _neighbour_header(payload)
        if not state & wire.NUD_PERMANENT or index not in names or family not in _BITS:
            continue
        entry = mac_and_address(payload)
        if entry is not None:
            found.append(Neighbour(names[index], entry[1], entry[0]))
    return found


def fdb(payloads: Iterable[bytes], names: Mapping[int, str]) -> list[Fdb]:
    """Decode the permanent entries with a remote host of the vxlan devices in ``names``."""
    found = []
    for payload in payloads:
        family, index, state, _, _ = _neighbour_header(payload)
        if family != wire.AF_BRIDGE or not state & wire.NUD_PERMANENT or index not in names:
            continue
        entry = mac_and_address(payload)
        if entry is not None:
            found.append(Fdb(names[index], *entry))
    return found


def mac_and_address(payload: bytes) -> tuple[str, IPAddress] | None:
    """Return MAC and address of a neighbour, MAC and remote host of a forwarding entry.

    None when it lacks one of them, as what a bridge has learned does.
    """
    fields = _fields(payload)
    ip, mac = fields.get(_NDA_DST), fields.get(_NDA_LLADDR, b"")
    return (_mac(mac), ip_address(ip)) if ip and len(mac) == 6 else None
