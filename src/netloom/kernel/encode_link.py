"""Links as rtnetlink requests: to create, to set what can be set in place, to delete, to ask for.

A link is created with all that the kernel takes at creation. What it does not take is set right
behind, in the same send: a link of ours is never seen without its alias.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from netloom.kernel import wire
from netloom.kernel.encode import mac_bytes
from netloom.kernel.wire import attribute, message, nest, number, text
from netloom.model.errors import Bug
from netloom.model.gso import BY_DEFAULT
from netloom.model.kernel import Ipip, Link, Peer, Vxlan

_NO_STATS = number(wire.IFLA_EXT_MASK, wire.RTEXT_FILTER_SKIP_STATS)


def dump(kind: str = "") -> bytes:
    """Ask for all links, or those of one kind, without their counters."""
    only = [nest(wire.IFLA_LINKINFO, text(wire.IFLA_INFO_KIND, kind))] if kind else []
    return message(wire.RTM_GETLINK, 0, _header(), *only, _NO_STATS)


def get(name: str) -> bytes:
    """Ask for one link by name."""
    return message(wire.RTM_GETLINK, 0, _header(), text(wire.IFLA_IFNAME, name), _NO_STATS)


def get_numbered(index: int) -> bytes:
    """Ask for one link by its number."""
    return message(wire.RTM_GETLINK, 0, _header(index), _NO_STATS)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a link leans on, by number: the interface below, the one above, the namespace beyond."""

    lower_index: int = 0
    master_index: int = 0
    netns_fd: int = -1


def create(link: Link, around: Surroundings) -> bytes:
    """Create ``link``; it must not exist.

    A veth's other end is made from ``link.peer``, right inside the namespace.
    """
    if link.kind == "vxlan" and link.vxlan:
        data = _vxlan(link.vxlan, around.lower_index)
    elif link.kind == "ipip" and link.ipip:
        data = _ipip(link.ipip)
    elif link.kind == "veth" and link.peer:
        data = _veth(link.peer, around.netns_fd)
    elif link.kind == "bridge":
        data = []
    else:
        raise Bug(f"cannot make link {link.name} of kind {link.kind!r} from what is given")
    info = [text(wire.IFLA_INFO_KIND, link.kind), nest(wire.IFLA_INFO_DATA, *data)]
    # A bridge keeps its MTU, whatever its ports', only if it was set after creation.
    mtu_bytes = None if link.kind == "bridge" else link.mtu_bytes
    parts = [*_mac_and_mtu(link.mac, mtu_bytes), nest(wire.IFLA_LINKINFO, *info)]
    if around.master_index:
        parts.append(number(wire.IFLA_MASTER, around.master_index))
    parts += _group(link)
    return message(
        wire.RTM_NEWLINK,
        wire.NLM_F_CREATE | wire.NLM_F_EXCL,
        _header(0, link.up),
        text(wire.IFLA_IFNAME, link.name),
        *parts,
    )


def complete(link: Link) -> bytes:
    """Set of the link just created what creation does not take: its alias, and a bridge's MTU."""
    parts = [attribute(wire.IFLA_IFALIAS, link.alias.encode())]
    if link.kind == "bridge":
        parts += _mac_and_mtu(None, link.mtu_bytes)
    return message(wire.RTM_NEWLINK, 0, _header(), text(wire.IFLA_IFNAME, link.name), *parts)


def name_alias(name: str, alias: str) -> bytes:
    """Set the alias of the link called ``name``; "" removes it."""
    value = attribute(wire.IFLA_IFALIAS, alias.encode())
    return message(wire.RTM_NEWLINK, 0, _header(), text(wire.IFLA_IFNAME, name), value)


def settings(index: int, link: Link, master_index: int | None = None) -> bytes:
    """Set in place what of ``link`` is given: alias, MAC, MTU, group, up, down; 0 is no master."""
    parts = [*_mac_and_mtu(link.mac, link.mtu_bytes), *_group(link)]
    if link.alias:
        parts.append(attribute(wire.IFLA_IFALIAS, link.alias.encode()))
    if master_index is not None:
        parts.append(number(wire.IFLA_MASTER, master_index))
    return message(wire.RTM_NEWLINK, 0, _header(index, link.up), *parts)


def hairpin(index: int, on: bool) -> bytes:
    """Set whether a bridge port may send a frame back where it came from."""
    port = nest(wire.IFLA_INFO_SLAVE_DATA, _byte(wire.IFLA_BRPORT_MODE, on))
    info = nest(wire.IFLA_LINKINFO, text(wire.IFLA_INFO_SLAVE_KIND, "bridge"), port)
    return message(wire.RTM_NEWLINK, 0, _header(index), info)


def mtu(index: int, mtu_bytes: int) -> bytes:
    """Set a link's MTU and nothing else."""
    return message(wire.RTM_NEWLINK, 0, _header(index), *_mac_and_mtu(None, mtu_bytes))


def up(index: int) -> bytes:
    """Set a link up and nothing else."""
    return message(wire.RTM_NEWLINK, 0, _header(index, True))


def give_back(index: int) -> bytes:
    """Set a link down and take its alias away."""
    empty = attribute(wire.IFLA_IFALIAS, b"")
    return message(wire.RTM_NEWLINK, 0, _header(index, False), empty)


def delete(index: int) -> bytes:
    """Delete the link numbered ``index``: by number, since a name may be another link's by now."""
    return message(wire.RTM_DELLINK, 0, _header(index))


def join_group(index: int, group: int) -> bytes:
    """Put a link into a group."""
    return message(wire.RTM_NEWLINK, 0, _header(index), number(wire.IFLA_GROUP, group))


def delete_group(group: int) -> bytes:
    """Delete all links of a group."""
    return message(wire.RTM_DELLINK, 0, _header(), number(wire.IFLA_GROUP, group))


def _header(index: int = 0, is_up: bool | None = None) -> bytes:
    change = 0 if is_up is None else wire.IFF_UP
    return wire.LINK_HEADER.pack(0, 0, index, wire.IFF_UP if is_up else 0, change)


def _mac_and_mtu(mac: str | None, mtu_bytes: int | None) -> list[bytes]:
    parts = []
    if mac:
        parts.append(attribute(wire.IFLA_ADDRESS, mac_bytes(mac)))
    if mtu_bytes:
        parts.append(number(wire.IFLA_MTU, mtu_bytes))
    return parts


def _group(link: Link) -> list[bytes]:
    return [] if link.group is None else [number(wire.IFLA_GROUP, link.group)]


def _byte(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=B", value))


def _vxlan(vxlan: Vxlan, lower_index: int) -> list[bytes]:
    local = wire.IFLA_VXLAN_LOCAL if vxlan.local.version == 4 else wire.IFLA_VXLAN_LOCAL6
    return [
        number(wire.IFLA_VXLAN_ID, vxlan.vni),
        number(wire.IFLA_VXLAN_LINK, lower_index),
        attribute(local, vxlan.local.packed),
        _byte(wire.IFLA_VXLAN_LEARNING, vxlan.learning),
        attribute(wire.IFLA_VXLAN_PORT, struct.pack("!H", vxlan.port)),
    ]


def _ipip(ipip: Ipip) -> list[bytes]:
    ends = ((wire.IFLA_IPTUN_LOCAL, ipip.local), (wire.IFLA_IPTUN_REMOTE, ipip.remote))
    return [attribute(kind, end.packed) for kind, end in ends if end is not None]


def _veth(peer: Peer, netns_fd: int) -> list[bytes]:
    parts = [text(wire.IFLA_IFNAME, peer.ifname), number(wire.IFLA_NET_NS_FD, netns_fd)]
    parts += _mac_and_mtu(peer.mac, peer.mtu_bytes)
    if peer.gso != BY_DEFAULT:  # older kernels know nothing else
        parts.append(number(wire.IFLA_GSO_MAX_SIZE, peer.gso.max_bytes))
        parts.append(number(wire.IFLA_GSO_MAX_SEGS, peer.gso.max_segments))
    return [nest(wire.VETH_INFO_PEER, _header(), *parts)]
