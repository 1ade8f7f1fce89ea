"""Kernel objects as rtnetlink requests: addresses, routes, neighbours and forwarding entries.

Pure: a verb, an object and the index of its link (0 where it has none) become bytes. Links, which
take several requests each, are in :mod:`netloom.kernel.encode_link`.
"""

from __future__ import annotations

from netloom.kernel import wire
from netloom.kernel.wire import attribute, message, nest, number
from netloom.model.kernel import Address, Fdb, Neighbour, Route
from netloom.reconcile.contracts import Verb

Bulk = Address | Route | Neighbour | Fdb

AF = {4: wire.AF_INET, 6: wire.AF_INET6}
_TYPE_NUMBERS = {name: value for value, name in wire.ROUTE_TYPES.items()}

#: ADD must not overwrite what stands there, whoever put it there.
_EXCLUSIVE = {
    Verb.ADD: wire.NLM_F_CREATE | wire.NLM_F_EXCL,
    Verb.REPLACE: wire.NLM_F_CREATE | wire.NLM_F_REPLACE,
    Verb.DELETE: 0,
}
#: On a link that is ours nothing is foreign; what may stand there is an entry that the kernel
#: learned by itself, and ADD has to take its place.
_OURS = {**_EXCLUSIVE, Verb.ADD: wire.NLM_F_CREATE | wire.NLM_F_REPLACE}


def encode(verb: Verb, obj: Bulk, index: int) -> bytes:
    """Return the request that does ``verb`` to ``obj`` on the link numbered ``index``."""
    if isinstance(obj, Route):
        return route(verb, obj, index)
    if isinstance(obj, Neighbour):
        return neighbour(verb, obj, index)
    if isinstance(obj, Fdb):
        return fdb(verb, obj, index)
    return address(verb, obj, index)


def mac_bytes(mac: str) -> bytes:
    """Return a MAC's six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def address(verb: Verb, obj: Address, index: int) -> bytes:
    """Encode an address. IPv6 ones skip duplicate detection: we deal each address once."""
    ip = obj.interface.ip
    kind = wire.RTM_DELADDR if verb is Verb.DELETE else wire.RTM_NEWADDR
    flags = wire.IFA_F_PERMANENT | (wire.IFA_F_NODAD if ip.version == 6 else 0)
    flags |= 0 if obj.prefix_route else wire.IFA_F_NOPREFIXROUTE
    return message(
        kind,
        _EXCLUSIVE[verb],
        wire.ADDRESS_HEADER.pack(AF[ip.version], obj.interface.network.prefixlen, 0, 0, index),
        attribute(wire.IFA_LOCAL, ip.packed),
        attribute(wire.IFA_ADDRESS, ip.packed),
        number(wire.IFA_FLAGS, flags),
    )


def route(verb: Verb, obj: Route, index: int, protocol: int | None = None) -> bytes:
    """Encode a route.

    DELETE names its protocol and its link, so that it never hits another owner's route.
    """
    family = obj.destination.version
    parts = [
        attribute(wire.RTA_DST, obj.destination.network_address.packed),
        number(wire.RTA_TABLE, obj.table),
    ]
    if obj.metric:
        parts.append(number(wire.RTA_PRIORITY, obj.metric))
    if index:
        parts.append(number(wire.RTA_OIF, index))
    scope, kind, flags = wire.RT_SCOPE_NOWHERE, 0, 0
    if verb is not Verb.DELETE:
        kind = _TYPE_NUMBERS[obj.type]
        direct = obj.type == "unicast" and obj.gateway is None and family == 4
        scope = wire.RT_SCOPE_LINK if direct else wire.RT_SCOPE_UNIVERSE
        flags = wire.RTNH_F_ONLINK if obj.onlink else 0
        if obj.gateway is not None:
            parts.append(attribute(wire.RTA_GATEWAY, obj.gateway.packed))
        if obj.mtu_bytes:
            parts.append(nest(wire.RTA_METRICS, number(wire.RTAX_MTU, obj.mtu_bytes)))
    header = wire.ROUTE_HEADER.pack(
        AF[family],
        obj.destination.prefixlen,
        0,
        0,
        obj.table if obj.table < 256 else wire.RT_TABLE_COMPAT,
        obj.protocol if protocol is None else protocol,
        scope,
        kind,
        flags,
    )
    what = wire.RTM_DELROUTE if verb is Verb.DELETE else wire.RTM_NEWROUTE
    return message(what, _EXCLUSIVE[verb], header, *parts)


def neighbour(verb: Verb, obj: Neighbour, index: int) -> bytes:
    """Encode a permanent neighbour; ADD takes the place of an entry that the kernel learned."""
    ip = obj.address
    what = wire.RTM_DELNEIGH if verb is Verb.DELETE else wire.RTM_NEWNEIGH
    return message(
        what,
        _OURS[verb],
        wire.NEIGHBOUR_HEADER.pack(AF[ip.version], index, wire.NUD_PERMANENT, 0, 0),
        attribute(wire.NDA_DST, ip.packed),
        attribute(wire.NDA_LLADDR, mac_bytes(obj.mac)),
    )


def fdb(verb: Verb, obj: Fdb, index: int) -> bytes:
    """Encode a forwarding entry of a vxlan device ("self": not the bridge's above it)."""
    what = wire.RTM_DELNEIGH if verb is Verb.DELETE else wire.RTM_NEWNEIGH
    header = wire.NEIGHBOUR_HEADER.pack(wire.AF_BRIDGE, index, wire.NUD_PERMANENT, wire.NTF_SELF, 0)
    return message(
        what,
        _OURS[verb],
        header,
        attribute(wire.NDA_DST, obj.remote.packed),
        attribute(wire.NDA_LLADDR, mac_bytes(obj.mac)),
    )


def dump_addresses() -> bytes:
    """Ask for the addresses of both families."""
    return message(wire.RTM_GETADDR, 0, wire.ADDRESS_HEADER.pack(0, 0, 0, 0, 0))


def dump_neighbours() -> bytes:
    """Ask for the neighbours of both families."""
    return message(wire.RTM_GETNEIGH, 0, wire.NEIGHBOUR_HEADER.pack(0, 0, 0, 0, 0))


def dump_fdb(index: int) -> bytes:
    """Ask for the forwarding entries of one device."""
    return message(
        wire.RTM_GETNEIGH,
        0,
        wire.NEIGHBOUR_HEADER.pack(wire.AF_BRIDGE, 0, 0, 0, 0),
        number(wire.NDA_IFINDEX, index),
    )


def dump_routes() -> bytes:
    """Ask for the main table's routes of both families.

    Asked for one family alone, a namespace that never had a route of it answers with an error.
    """
    header = wire.ROUTE_HEADER.pack(0, 0, 0, 0, wire.RT_TABLE_MAIN, 0, 0, 0, 0)
    return message(wire.RTM_GETROUTE, 0, header, number(wire.RTA_TABLE, wire.RT_TABLE_MAIN))
