"""The container's end of a veth pair: configured from inside its namespace, and checked there."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from netloom.kernel import decode, encode, encode_link, sysctl, wire
from netloom.kernel.lookup import Lookup
from netloom.kernel.namespaces import in_namespace
from netloom.kernel.netlink import Ack, Netlink
from netloom.kernel.readiness import await_ready
from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.errors import InvalidConfig, KernelRejected, NotPermitted
from netloom.model.kernel import IPV6_METRIC, Address, KernelObject, Link, Neighbour, Peer, Route
from netloom.model.wording import describe
from netloom.reconcile.contracts import Verb

_IPV6 = Path("/proc/sys/net/ipv6")
#: In a container of several networks the interface that came first keeps the way out: routes of a
#: later one that would take its place stand behind it. Larger than the metrics of the kernel's own
#: routes (0, 256) and of IPv6 routes without one (1024); the interface's number makes it unique.
_BEHIND = 2048


def configure(peer: Peer) -> None:
    """Give the interface in the container all that ``peer`` says; it exists and is down.

    Settings come first, since the kernel acts on them when the link goes up; routes come last.

    Raises:
        InvalidConfig: the namespace is gone.
        KernelRejected, NotPermitted: the kernel refused a part; the caller removes the pair.
    """
    in_namespace(peer.netns, lambda: _configure(peer))


def _configure(peer: Peer) -> None:
    for name, value in peer.sysctls:
        sysctl.write(name, value)
    with Netlink() as netlink:
        lookup = Lookup(netlink)
        index, loopback = lookup.index(peer.ifname), lookup.index("lo")
        steps: list[tuple[str, bytes]] = [("set lo up", encode_link.up(loopback))]
        addresses, others = _objects(peer)
        steps += [_add(obj, index) for obj in addresses]
        steps.append((f"set {peer.ifname} up", encode_link.up(index)))
        steps += [_add(obj, index) for obj in others]
        acks = netlink.send([request for _, request in steps])
        if any(ack.errno == errno.EEXIST for ack in acks):
            acks = _yield_first_place(netlink, peer, index, acks)
        await_ready(netlink, [index])
    for (what, _), ack in zip(steps, acks, strict=True):
        if ack.errno in (errno.EPERM, errno.EACCES) and not ack.text:
            raise NotPermitted(f"may not {what} in {peer.netns}", hint="run as root")
        if ack.errno:
            raise KernelRejected(what, f"in {peer.netns}", ack.errno, ack.text, hint=_hint(peer))


def _yield_first_place(netlink: Netlink, peer: Peer, index: int, acks: Sequence[Ack]) -> list[Ack]:
    """Add routes whose place another interface's holds behind those; return the acks of all steps.

    A route that failed for another reason leaned on one of these: it goes behind as well.
    """
    answered = list(acks)
    _, others = _objects(peer)
    again = [
        (place, replace(obj, metric=_BEHIND + index))
        for place, (obj, ack) in enumerate(zip(others, acks[-len(others) :], strict=True))
        if ack.errno and isinstance(obj, Route)
    ]
    fresh = netlink.send([encode.encode(Verb.ADD, obj, index) for _, obj in again])
    for (place, _), ack in zip(again, fresh, strict=True):
        answered[place - len(others)] = ack
    return answered


def _objects(peer: Peer) -> tuple[list[Address], list[encode.Bulk]]:
    addresses = [Address(peer.ifname, interface) for interface in peer.addresses]
    neighbours = [Neighbour(peer.ifname, address, mac) for address, mac in peer.neighbours]
    routes = [_route(peer, destination, gateway) for destination, gateway in peer.routes]
    return addresses, [*neighbours, *routes]


def _route(peer: Peer, destination: IPNetwork, gateway: IPAddress | None) -> Route:
    return Route(destination, peer.ifname, gateway, protocol=wire.RTPROT_BOOT)


def _add(obj: encode.Bulk, index: int) -> tuple[str, bytes]:
    return f"add {describe(obj)}", encode.encode(Verb.ADD, obj, index)


def _hint(peer: Peer) -> str:
    if any(interface.version == 6 for interface in peer.addresses) and not _IPV6.exists():
        return "this kernel runs without IPv6: use IPv4 pools only"
    return ""


def ways_out(netns: str, ifname: str) -> tuple[Family, ...]:
    """Return the families for which another interface than ``ifname`` leads out of a container.

    A default route counts when ours would not go before it. Raises InvalidConfig when there is no
    such namespace, and as netlink does.
    """
    return in_namespace(netns, lambda: _ways_out(ifname))


def _ways_out(ifname: str) -> tuple[Family, ...]:
    with Netlink() as netlink:
        links = decode.links(netlink.dump(encode_link.dump(), "links"))
        names = {link.index: link.name for link in links}
        routes = decode.routes(netlink.dump(encode.dump_routes(), "routes"), names)
    families = {
        route.destination.version
        for route in routes
        if route.destination.prefixlen == 0
        and route.type == "unicast"
        and route.link not in ("", ifname)
        and route.metric <= (IPV6_METRIC if route.destination.version == 6 else 0)
    }
    return tuple(sorted(families))


def resize(peer: Peer) -> None:
    """Give the interface in the container the MTU of ``peer``; one that is gone needs none.

    Between the ends of a veth pair nothing is fragmented: what is larger than the other end's MTU
    is dropped, and nobody hears of it.
    """
    with suppress(InvalidConfig):
        in_namespace(peer.netns, lambda: _resize(peer))


def _resize(peer: Peer) -> None:
    with Netlink() as netlink:
        link = Lookup(netlink).find(peer.ifname)
        if link is None or link.mtu_bytes == peer.mtu_bytes:
            return
        (ack,) = netlink.send([encode_link.mtu(link.index, peer.mtu_bytes)])
    if ack.errno:
        what = f"set {peer.ifname} mtu {peer.mtu_bytes}"
        raise KernelRejected(what, f"in {peer.netns}", ack.errno, ack.text)


def check(peer: Peer) -> list[str]:
    """Compare the container's interior with ``peer``; each difference is one sentence."""
    try:
        return in_namespace(peer.netns, lambda: list(_differences(peer)))
    except InvalidConfig as error:
        return [f"the container's network namespace cannot be entered: {error}"]


def _differences(peer: Peer) -> Iterator[str]:
    with Netlink() as netlink:
        link = Lookup(netlink).find(peer.ifname)
        if link is None:
            yield f"the container has no interface {peer.ifname}"
            return
        yield from _link_differences(peer, link)
        standing = _read(netlink, peer)
    addresses, others = _objects(peer)
    for obj in (*addresses, *others):
        if not _stands(obj, standing):
            yield f"the container lacks {describe(obj)}"
    for name, value in peer.sysctls:
        found = sysctl.read(name)
        if found != value:
            yield f"in the container net.{name.replace('/', '.')} is {found}, not {value}"


def _link_differences(peer: Peer, link: Link) -> Iterator[str]:
    if link.kind != "veth":
        yield f"{peer.ifname} in the container is {link.kind or 'a physical interface'}, not a veth"
    if peer.mac and link.mac != peer.mac:
        yield f"{peer.ifname} in the container has the MAC {link.mac}, not {peer.mac}"
    if link.mtu_bytes != peer.mtu_bytes:
        yield f"{peer.ifname} in the container has MTU {link.mtu_bytes}, not {peer.mtu_bytes}"
    if not link.up:
        yield f"{peer.ifname} in the container is down"


def _read(netlink: Netlink, peer: Peer) -> list[KernelObject]:
    links = decode.links(netlink.dump(encode_link.dump(), "links"))
    names = {link.index: link.name for link in links}
    own = {index: name for index, name in names.items() if name == peer.ifname}
    return [
        *decode.addresses(netlink.dump(encode.dump_addresses(), "addresses"), own),
        *decode.neighbours(netlink.dump(encode.dump_neighbours(), "neighbours"), own),
        *decode.routes(netlink.dump(encode.dump_routes(), "routes"), names),
    ]


def _stands(obj: encode.Bulk, standing: Iterable[KernelObject]) -> bool:
    """Tell whether ``obj`` is there; who put a route there and its metric are no difference."""
    if not isinstance(obj, Route):
        return obj in standing
    return any(
        isinstance(other, Route)
        and (other.destination, other.link, other.gateway, other.type)
        == (obj.destination, obj.link, obj.gateway, obj.type)
        for other in standing
    )
