"""The bytes of netlink: headers, attributes and the numbers that the kernel's headers give names.

Sources: netlink(7), rtnetlink(7), ``include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,
neighbour,if_bridge}.h``. Numbers are in host byte order unless a comment says otherwise.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
ATTRIBUTE = struct.Struct("=HH")  # nlattr: length without padding, type
LINK_HEADER = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
ADDRESS_HEADER = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
ROUTE_HEADER = struct.Struct("=BBBBBBBBI")  # rtmsg: family, dst, src, tos, table, proto, scope, …
NEIGHBOUR_HEADER = struct.Struct("=BxxxiHBB")  # ndmsg: family, index, state, flags, type
U32 = struct.Struct("=I")

AF_INET, AF_INET6, AF_BRIDGE = 2, 10, 7

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_DUMP_INTR = 0x10  # the dump was disturbed by a change
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200  # in an acknowledgement
NLMSG_ERROR, NLMSG_DONE = 2, 3

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWQDISC, RTM_DELTFILTER = 36, 45  # first and last of the traffic control messages
RTM_NEWNETCONF = 80

IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
IF_OPER_UNKNOWN, IF_OPER_UP = 0, 6
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_OPERSTATE = 1, 3, 4, 5, 10, 16
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 18, 20, 27, 28, 29
IFLA_GSO_MAX_SEGS, IFLA_GSO_MAX_SIZE = 40, 41
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_VXLAN_ID, IFLA_VXLAN_LINK, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING = 1, 3, 4, 7
IFLA_VXLAN_PORT, IFLA_VXLAN_LOCAL6 = 15, 17  # the port is big-endian
IFLA_BRPORT_MODE = 4  # hairpin
IFLA_IPTUN_LOCAL, IFLA_IPTUN_REMOTE = 2, 3
VETH_INFO_PEER = 1
RTEXT_FILTER_SKIP_STATS = 8

IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, IFA_PROTO = 1, 2, 8, 11
IFA_F_NODAD, IFA_F_PERMANENT, IFA_F_NOPREFIXROUTE = 0x02, 0x80, 0x200
IFAPROT_KERNEL_LL = 3  # a link-local address that the kernel made

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_METRICS = 1, 4, 5, 6, 8
RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 9, 15, 18
RTAX_MTU = 2
RTNH_F_ONLINK, RTM_F_CLONED = 0x4, 0x200
RTPROT_KERNEL, RTPROT_BOOT = 2, 3
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
RT_TABLE_COMPAT, RT_TABLE_MAIN = 252, 254  # COMPAT: the number did not fit, see RTA_TABLE
ROUTE_TYPES = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}

NDA_DST, NDA_LLADDR, NDA_IFINDEX = 1, 2, 8
NTF_SELF = 0x02
NUD_PERMANENT = 0x80

NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    length = len(value) + 4
    return ATTRIBUTE.pack(length, kind) + value + bytes(-length & 3)


def number(kind: int, value: int) -> bytes:
    """Return an attribute that holds an unsigned 32-bit number."""
    return ATTRIBUTE.pack(8, kind) + U32.pack(value)


def text(kind: int, value: str) -> bytes:
    """Return an attribute that holds text ended by a zero byte."""
    return attribute(kind, value.encode() + b"\0")


def nest(kind: int, *parts: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def message(kind: int, flags: int, *parts: bytes) -> bytes:
    """Return one request that wants an acknowledgement; :class:`Netlink` numbers it."""
    body = b"".join(parts)
    return HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST | NLM_F_ACK, 0, 0) + body


def attributes(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (type, value) of each attribute from ``start`` to the end of ``data``."""
    end = len(data)
    while start + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if length < 4:
            return
        yield kind & _NLA_TYPE_MASK, data[start + 4 : start + length]
        start += (length + 3) & ~3


def string(value: bytes) -> str:
    """Return the text of an attribute, without what follows its first zero byte."""
    return value.partition(b"\0")[0].decode(errors="replace")
