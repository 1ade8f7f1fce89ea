"""Forgetting connections that were translated otherwise than they would be now.

The kernel asks the firewall about a connection's first packet only. UDP has no end that it could
see: a client that keeps asking one port keeps its old translation, past the container that it leads
to, and possibly into the next one that gets the address. So when a UDP port is published, or no
longer, its connections are forgotten; the next packet is a first one again. TCP ends by itself.

Source: ``include/uapi/linux/netfilter/nfnetlink_conntrack.h``.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Collection, Iterator

from netloom.kernel import wire

_NETLINK_NETFILTER = 12
_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK; IPCTNL_MSG_CT_GET, _DELETE
_TUPLE_ORIG, _TUPLE_PROTO, _PROTO_NUM, _PROTO_DST_PORT, _ID = 1, 2, 1, 3, 12
_UDP = 17
_FAMILY_HEADER = struct.Struct(">BBH")  # nfgenmsg: family, version, resource
_PUBLISHED = re.compile(r"\budp \. (\d+) : ")


def udp_ports(table: str) -> dict[int, frozenset[str]]:
    """Return the UDP ports that a table of ours publishes, each with the lines that say where."""
    found: dict[int, frozenset[str]] = {}
    for line in table.splitlines():
        if match := _PUBLISHED.search(line):
            port = int(match[1])
            # The first of a map's elements and the last have more on their line.
            element = line.replace("elements = {", "").strip(" \t,}")
            found[port] = found.get(port, frozenset()) | {element}
    return found


def changed_udp_ports(before: str, after: str) -> set[int]:
    """Return the UDP ports that lead elsewhere in ``after`` than in ``before``."""
    old, new = udp_ports(before), udp_ports(after)
    return {port for port in old.keys() | new.keys() if old.get(port) != new.get(port)}


def forget_udp(ports: Collection[int]) -> int:
    """Forget every UDP connection to one of ``ports`` of this namespace; return how many.

    What the kernel does not let us see or delete is left alone: it ends by itself after two
    minutes of silence at most.
    """
    if not ports:
        return 0
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as channel:
            channel.settimeout(10)
            found = [entry for entry in _dump(channel) if _udp_port(entry[1]) in ports]
            return sum(_delete(channel, family, entry) for family, entry in found)
    except OSError:
        return 0


def _dump(channel: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield (family, attributes) of every connection."""
    body = _FAMILY_HEADER.pack(socket.AF_UNSPEC, 0, 0)
    flags = wire.NLM_F_REQUEST | wire.NLM_F_DUMP
    channel.sendto(wire.HEADER.pack(16 + len(body), _GET, flags, 1, 0) + body, (0, 0))
    while True:
        data = channel.recv(1 << 16)
        while len(data) >= wire.HEADER.size:
            length, kind, _, _, _ = wire.HEADER.unpack_from(data)
            if kind == wire.NLMSG_DONE:
                return
            if kind == wire.NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", data, 16)[0], "conntrack dump")
            yield data[16], data[20:length]
            data = data[(length + 3) & ~3 :]


def _udp_port(entry: bytes) -> int:
    """Return the port that a connection was first sent to, 0 unless it is UDP."""
    original = dict(wire.attributes(entry)).get(_TUPLE_ORIG, b"")
    protocol = dict(wire.attributes(dict(wire.attributes(original)).get(_TUPLE_PROTO, b"")))
    if protocol.get(_PROTO_NUM, b"")[:1] != bytes([_UDP]):
        return 0
    return int.from_bytes(protocol.get(_PROTO_DST_PORT, b"")[:2], "big")


def _delete(channel: socket.socket, family: int, entry: bytes) -> bool:
    """Delete one connection, by its own id too: not the next one of the same addresses."""
    parts = dict(wire.attributes(entry))
    body = _FAMILY_HEADER.pack(family, 0, 0) + wire.nest(_TUPLE_ORIG, parts[_TUPLE_ORIG])
    if _ID in parts:
        body += wire.attribute(_ID, parts[_ID])
    channel.sendto(wire.message(_DELETE, 0, body), (0, 0))
    answer: int = -struct.unpack_from("=i", channel.recv(8192), 16)[0]
    if answer not in (0, errno.ENOENT):
        raise OSError(answer, "conntrack delete")
    return answer == 0
