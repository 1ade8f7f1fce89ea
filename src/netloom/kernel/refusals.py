"""The kernel's refusals as our errors: who must act, on what, with which remedy."""

from __future__ import annotations

import errno

from netloom.kernel.netlink import Ack
from netloom.model.errors import Conflict, InvalidConfig, KernelRejected, NetloomError, NotPermitted
from netloom.model.kernel import Address, Fdb, KernelObject, Link, Neighbour, Peer, Route
from netloom.model.wording import describe, how_to_get
from netloom.reconcile.contracts import Change, Verb

#: Answers to a DELETE that mean: it was not there.
ABSENT = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL})

_DENIED = (errno.EPERM, errno.EACCES)
_FULL = (errno.ENOBUFS, errno.ENOMEM)
#: What carries the same packets where the kernel lacks a kind.
INSTEAD = {
    "ipip": ", or use backend vxlan; host-gw needs no device where all hosts share one segment"
}
_NO_SUCH_TYPE = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


def refusal(change: Change, ack: Ack) -> NetloomError:
    """Return the error that says what the kernel had against ``change``."""
    subject = describe(change.obj)
    if ack.errno in _DENIED:
        return NotPermitted(
            f"may not {change.verb.value} {subject}: {ack.text or 'operation not permitted'}",
            hint="run as root, or with the capability CAP_NET_ADMIN",
        )
    return KernelRejected(
        change.verb.value, subject, ack.errno, ack.text, hint=_hint(change, ack.errno)
    )


def no_such_link(change: Change, name: str) -> KernelRejected:
    """Return the error for a change that leans on a link which is not there."""
    return KernelRejected(
        change.verb.value,
        describe(change.obj),
        errno.ENODEV,
        f"there is no link {name}",
        hint=f"another hand removed {name}, or it could not be made: see `ip link show {name}`",
    )


def link_conflict(link: Link, holder: Link) -> Conflict:
    """Return the error for a link name that another link holds."""
    whose = f"alias {holder.alias!r}" if holder.alias else "no alias, so not ours"
    kind = f"type {holder.kind}" if holder.kind else "a physical interface"
    return Conflict(
        f"link {link.name} exists and is another's: {kind}, {whose}",
        hint=f"remove it with `ip link delete {holder.name}`, or let ours have another name",
    )


def vni_conflict(link: Link, holder: Link) -> Conflict:
    """Return the error for a VNI and port that another vxlan device holds."""
    assert link.vxlan is not None
    return Conflict(
        f"link {link.name}: VNI {link.vxlan.vni} at port {link.vxlan.port} is taken by "
        f"{holder.name}" + (f" (alias {holder.alias!r})" if holder.alias else ""),
        hint=f"choose another VNI or port, or remove it with `ip link delete {holder.name}`",
    )


def own_namespace(peer: Peer) -> InvalidConfig:
    """Return the error for a container that would be the host itself."""
    return InvalidConfig(
        f"netns: {peer.netns} is the host's own network namespace",
        field="netns",
        value=peer.netns,
        hint="a container on the host's network needs no attachment",
    )


def interior_conflict(peer: Peer) -> Conflict:
    """Return the error for an interface name that is taken inside the container."""
    return Conflict(
        f"an interface called {peer.ifname} exists in {peer.netns}",
        hint="choose another interface name, or detach the container first",
    )


def route_conflict(route: Route, holder: Route) -> Conflict:
    """Return the error for a destination that another owner's route holds."""
    return Conflict(
        f"{describe(route)}: {route.destination} is taken by another's route: "
        f"{describe(holder)} proto {holder.protocol}",
        hint=f"remove it with `ip route delete {route.destination} proto {holder.protocol}`, "
        "or choose a pool that does not overlap it",
    )


def _hint(change: Change, number: int) -> str:
    obj = change.obj
    if number in _FULL:
        return "the kernel is short of memory for this; free some, it is tried again"
    if isinstance(obj, Link):
        return _link_hint(obj, number)
    if isinstance(obj, Route):
        return _route_hint(obj, number)
    if number in _NO_SUCH_TYPE:
        return _family_hint(obj)
    if isinstance(obj, Neighbour | Fdb) and number == errno.ENETDOWN:
        return f"link {obj.link} is down"
    return ""


def _link_hint(link: Link, number: int) -> str:
    if number in _NO_SUCH_TYPE:
        instead = INSTEAD.get(link.kind, "")
        return f"this kernel has no links of type {link.kind}: {how_to_get(link.kind)}{instead}"
    if number == errno.EADDRNOTAVAIL and link.mac:
        return f"{link.mac} is no address for an interface"
    if number in (errno.EINVAL, errno.ERANGE) and link.mtu_bytes:
        return f"is MTU {link.mtu_bytes} within what the interface and the one below it allow?"
    return ""


def _route_hint(route: Route, number: int) -> str:
    if number == errno.ENETUNREACH and route.gateway:
        return f"{route.gateway} is not directly reachable over {route.link or 'any link'}"
    if number == errno.EHOSTUNREACH and route.gateway:
        return f"{route.gateway} is no usable gateway"
    if number == errno.ENETDOWN:
        return f"link {route.link} is down"
    if number in _NO_SUCH_TYPE:
        return _family_hint(route)
    return ""


def _family_hint(obj: KernelObject) -> str:
    text = describe(obj)
    if ":" in text and not isinstance(obj, Fdb):
        return "is IPv6 on? see `sysctl net.ipv6.conf.all.disable_ipv6` and CONFIG_IPV6"
    return ""


def existing(change: Change) -> Conflict:
    """Return the error for an ADD whose place is taken, where more is not known."""
    obj = change.obj
    where = f" on {obj.link}" if isinstance(obj, Address) else ""
    return Conflict(
        f"cannot add {describe(obj)}: it exists{where}, and not by our doing",
        hint="look at it with `ip address`, `ip route`, `ip neighbour` or `bridge fdb`",
    )


def is_absent(change: Change, ack: Ack) -> bool:
    """Tell whether ``ack`` says that what a DELETE names was not there: that is well."""
    return change.verb is Verb.DELETE and ack.errno in ABSENT
