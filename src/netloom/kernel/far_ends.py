"""The far ends of our veth pairs, wherever they are: what containers of this host really have.

The kernel names a pair's other end by two numbers: the id that this namespace gave to the other
one, and the link's index there. Asking for the id of every namespace that can be found turns the
first number into a path; so what is reported was found by the kernel's own account, not by names
that could be equal by chance.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from netloom.kernel import decode, encode, encode_link, namespaces, wire
from netloom.kernel.netlink import Netlink
from netloom.model.addr import IPAddress
from netloom.model.errors import KernelRejected, NetloomError
from netloom.model.kernel import ALIAS_PREFIX

_IFLA_LINK_NETNSID = 37
_RTM_GETNSID = 90
_NETNSA_NSID, _NETNSA_FD = 1, 3  # include/uapi/linux/net_namespace.h
_FAMILY = bytes(4)  # rtgenmsg, padded


@dataclass(frozen=True, slots=True)
class FarEnd:
    """One end in a container; ``addresses`` without link-local ones."""

    network: str
    host_ifname: str
    netns: str
    ifname: str
    addresses: tuple[IPAddress, ...]


def far_ends(known: Iterable[str] = ()) -> list[FarEnd]:
    """Find the far end of every veth of this namespace that is ours (by its alias).

    Looked for in the ``known`` namespaces, the named ones and those of all processes. Ends in
    namespaces that none of these lead to are left out. Raises NotPermitted, KernelRejected.
    """
    with Netlink() as netlink:
        pairs = list(_pairs(netlink.dump(encode_link.dump(), "links")))
        wanted = {nsid for _, _, nsid, _ in pairs}
        paths: dict[int, str] = {}
        for path in _candidates(known) if wanted else ():
            with suppress(NetloomError):  # it ended while we looked
                nsid = _nsid(netlink, path)
                if nsid in wanted:
                    paths.setdefault(nsid, path)
                    if len(paths) == len(wanted):
                        break
    interiors = {}
    for nsid, path in paths.items():
        with suppress(NetloomError):
            interiors[nsid] = _interior(path)
    found = []
    for host_ifname, network, nsid, index in pairs:
        name, addresses = interiors.get(nsid, {}).get(index, ("", ()))
        if name:
            found.append(FarEnd(network, host_ifname, paths[nsid], name, addresses))
    return found


def _pairs(payloads: Iterable[bytes]) -> Iterator[tuple[str, str, int, int]]:
    """Yield (name, network, namespace id, index there) of each veth of ours."""
    for payload in payloads:
        fields = dict(wire.attributes(payload, wire.LINK_HEADER.size))
        alias = wire.string(fields.get(wire.IFLA_IFALIAS, b""))
        info = dict(wire.attributes(fields.get(wire.IFLA_LINKINFO, b"")))
        kind = wire.string(info.get(wire.IFLA_INFO_KIND, b""))
        if kind == "veth" and alias.startswith(ALIAS_PREFIX) and _IFLA_LINK_NETNSID in fields:
            yield (
                wire.string(fields[wire.IFLA_IFNAME]),
                alias.removeprefix(ALIAS_PREFIX),
                wire.U32.unpack_from(fields[_IFLA_LINK_NETNSID])[0],
                wire.U32.unpack_from(fields[wire.IFLA_LINK])[0],
            )


def _candidates(known: Iterable[str]) -> Iterator[str]:
    """Yield one path of each namespace there is, the likely ones first."""
    seen = {namespaces.identity()}
    processes = (f"/proc/{pid}/ns/net" for pid in os.listdir("/proc") if pid.isdigit())
    for path in (*known, *(str(namespaces.path(n)) for n in namespaces.names()), *processes):
        try:
            status = os.stat(path)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield path


def _nsid(netlink: Netlink, path: str) -> int:
    """Return the id that the kernel gave to a namespace here; it has one if a link leads there."""
    with namespaces.opened(path) as fd:
        ack, payloads = netlink.query(
            wire.message(_RTM_GETNSID, 0, _FAMILY, wire.number(_NETNSA_FD, fd))
        )
    if ack.errno or not payloads:
        raise KernelRejected("read", f"the id of namespace {path}", ack.errno, ack.text)
    fields = dict(wire.attributes(payloads[0], len(_FAMILY)))
    nsid: int = wire.U32.unpack_from(fields[_NETNSA_NSID])[0]
    return nsid


def _interior(path: str) -> dict[int, tuple[str, tuple[IPAddress, ...]]]:
    """Return the links of a namespace by index, each with its addresses."""
    with Netlink.inside(path) as netlink:
        links = decode.links(netlink.dump(encode_link.dump(), "links"))
        names = {link.index: link.name for link in links}
        addresses = decode.addresses(netlink.dump(encode.dump_addresses(), "addresses"), names)
    result = {}
    for index, name in names.items():
        own = tuple(
            each.interface.ip
            for each in addresses
            if each.link == name and not each.interface.ip.is_link_local
        )
        result[index] = (name, own)
    return result
