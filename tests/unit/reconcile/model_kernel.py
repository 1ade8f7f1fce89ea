"""An honest kernel in memory: it does what Linux does to what leans on a link, and says no.

- A deleted link takes along its addresses, neighbours, forwarding entries, routes and qdiscs and
  the vxlan devices on top of it; its bridge ports stand alone afterwards. What polices it stays,
  as from Linux 6.16 on, unless ``police_goes``.
- A link set down loses its IPv4 routes and, of IPv6, routes and global addresses; neighbours too.
- ADD of what exists fails, as does an object on a link that is missing or down, a gateway that
  nobody can reach, a second vxlan device with one VNI and port.
- What the writer had no right to touch is counted in ``trespasses``.

``hand`` is another hand: it writes past all rules of ownership.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import replace

from netloom.core.ownership import our_links, outlives_link, owns
from netloom.model.errors import Conflict, KernelRejected, NetloomError, Unavailable
from netloom.model.kernel import (
    ALIAS_PREFIX,
    Address,
    Fdb,
    KernelObject,
    Link,
    Neighbour,
    NftTable,
    Peer,
    Qdisc,
    Route,
    Sysctl,
)
from netloom.model.wording import describe
from netloom.reconcile.contracts import Change, Outcome, Verb

_ON_LINK = (Address, Neighbour, Fdb, Route, Qdisc, Sysctl)
_KERNEL_PROTOCOL = 2


class ModelKernel:
    """One host's kernel. ``refused``: keys whose changes fail; ``away``: reading fails."""

    def __init__(self, *foreign: KernelObject) -> None:
        self.objects: dict[str, KernelObject] = {}
        self.refused: set[str] = set()
        self.away = False
        self.police_goes = False
        self.reads: list[frozenset[str]] = []
        self.applied: list[Change] = []
        self.trespasses: list[Change] = []
        self._indexes = 0
        self._wanted: set[str] = set()
        self.hand(*foreign)

    def hand(self, *objects: KernelObject) -> None:
        """Put ``objects`` there, as another hand would: links anew, all else over what is there."""
        for obj in objects:
            if isinstance(obj, Link):
                self._remove_link(obj.name)
                self._make_link(obj)
            else:
                self._place(obj)

    def take(self, *keys: str) -> None:
        """Remove what has these keys, as another hand would; absent is well."""
        for key in keys:
            obj = self.objects.get(key)
            if isinstance(obj, Link):
                self._remove_link(obj.name)
            elif obj is not None:
                self._drop(obj)

    def set_up(self, name: str, up: bool) -> None:
        """Set a link up or down."""
        link = self.link(name)
        self._store(replace(link, up=up))
        if link.up and not up:
            self._flush(name)
        elif up and not link.up:
            self._connect(name)

    def link(self, name: str) -> Link:
        """Return a link that is there."""
        link = self.objects[f"link {name}"]
        assert isinstance(link, Link)
        return link

    def ours(self) -> dict[str, KernelObject]:
        """Return what is ours, and the settings, by key."""
        links = our_links(self.objects.values())
        return {
            key: obj
            for key, obj in self.objects.items()
            if owns(obj, links) or isinstance(obj, Sysctl)
        }

    def foreign(self) -> dict[str, KernelObject]:
        """Return what is another's: not ours, and not made by the kernel for a link of ours."""
        links = our_links(self.objects.values())
        return {
            key: obj
            for key, obj in self.objects.items()
            if not owns(obj, links)
            and not isinstance(obj, Sysctl)
            and getattr(obj, "link", "") not in links
        }

    # --- the Kernel protocol

    def read(self, kinds: Iterable[str]) -> list[KernelObject]:
        wanted = frozenset(kinds)
        self.reads.append(wanted)
        if self.away:
            raise Unavailable("the kernel does not answer")
        links = our_links(self.objects.values())
        return [
            obj
            for obj in self.objects.values()
            if obj.kind_name in wanted
            and (not isinstance(obj, Neighbour | Fdb | Qdisc) or owns(obj, links))
            and (not isinstance(obj, Sysctl) or obj.name in self._wanted)
        ]

    def want_sysctls(self, names: Iterable[str]) -> None:
        self._wanted = set(names)

    def check_peer(self, peer: Peer) -> list[str]:
        return []

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        outcomes = []
        for change in changes:
            self.applied.append(change)
            try:
                self._apply(change)
                outcomes.append(Outcome(change))
            except NetloomError as error:
                outcomes.append(Outcome(change, error))
        return outcomes

    def _apply(self, change: Change) -> None:
        obj = change.obj
        if obj.key in self.refused:
            raise _no(change, errno.EBUSY)
        have = self.objects.get(obj.key)
        if have is not None and not isinstance(obj, Sysctl | NftTable):
            mine = owns(have, our_links(self.objects.values()))
            if change.verb is not Verb.ADD and not mine:
                self.trespasses.append(change)
        if isinstance(obj, Link):
            self._apply_link(change, obj, have)
        elif change.verb is Verb.DELETE:
            if have is not None:
                self._drop(have)
        else:
            self._check_place(change, obj, have)
            self._place(obj)

    def _apply_link(self, change: Change, link: Link, have: KernelObject | None) -> None:
        if change.verb is Verb.DELETE:
            self._remove_link(link.name)
            return
        if change.verb is Verb.ADD and have is not None:
            raise Conflict(f"{describe(link)} exists")
        leans = [link.master, link.vxlan.device if link.vxlan else None]
        if any(name and f"link {name}" not in self.objects for name in leans):
            raise _no(change, errno.ENODEV)
        if isinstance(have, Link) and (have.kind, have.vxlan) == (link.kind, link.vxlan):
            self._alter_link(link, have)
            return
        if have is not None:
            self._remove_link(link.name)
        if any(_same_vni(link, other) for other in self.objects.values()):
            raise Conflict(f"{describe(link)}: VNI is taken")
        self._make_link(link)

    def _check_place(self, change: Change, obj: KernelObject, have: KernelObject | None) -> None:
        name = _link_of(obj)
        link = self.objects.get(f"link {name}")
        if name and not isinstance(link, Link):
            raise _no(change, errno.ENODEV)
        if isinstance(link, Link) and not link.up and isinstance(obj, Route | Neighbour):
            raise _no(change, errno.ENETDOWN)
        exclusive = change.verb is Verb.ADD and isinstance(obj, Address | Route)
        if exclusive and have is not None and not (isinstance(obj, Route) and have == obj):
            raise Conflict(f"{describe(obj)} exists")
        if isinstance(obj, Route) and obj.gateway and not self._accepts_gateway(obj):
            raise _no(change, errno.ENETUNREACH)

    def _accepts_gateway(self, route: Route) -> bool:
        """IPv6 takes no onlink gateway to which another link leads at present."""
        assert route.gateway is not None
        if route.gateway.version == 6 and route.gateway.is_link_local:
            return True
        if not route.onlink:
            return self._reaches(route)
        return route.gateway.version == 4 or not any(
            isinstance(other, Route)
            and other.destination.prefixlen > 0
            and other.link != route.link
            and other.destination.version == 6
            and route.gateway in other.destination
            for other in self.objects.values()
        )

    def _reaches(self, route: Route) -> bool:
        return any(
            isinstance(near, Address)
            and near.link == route.link
            and route.gateway is not None
            and near.interface.version == route.gateway.version
            and route.gateway in near.interface.network
            for near in self.objects.values()
        )

    # --- what happens by itself

    def _store(self, obj: KernelObject) -> None:
        self.objects[obj.key] = obj

    def _place(self, obj: KernelObject) -> None:
        self._store(obj)
        if isinstance(obj, Address) and self.link(obj.link).up:
            self._connect(obj.link)

    def _drop(self, obj: KernelObject) -> None:
        self.objects.pop(obj.key, None)
        self._drop_connected(obj)
        self._connect_all()

    def _connect_all(self) -> None:
        """Let connected routes show that stood behind others to the same place."""
        for obj in list(self.objects.values()):
            if isinstance(obj, Link) and obj.up:
                self._connect(obj.name)

    def _drop_connected(self, obj: KernelObject) -> None:
        if isinstance(obj, Address):
            for route in list(self.objects.values()):
                if (
                    isinstance(route, Route)
                    and route.link == obj.link
                    and route.protocol == _KERNEL_PROTOCOL
                    and route.destination == obj.interface.network
                ):
                    del self.objects[route.key]

    def _connect(self, name: str) -> None:
        for obj in list(self.objects.values()):
            if isinstance(obj, Address) and obj.link == name:
                net = obj.interface.network
                if net.prefixlen < net.max_prefixlen:
                    metric = 256 if net.version == 6 else 0
                    route = Route(net, name, protocol=_KERNEL_PROTOCOL, metric=metric)
                    self.objects.setdefault(route.key, route)

    def _make_link(self, link: Link) -> None:
        self._indexes += 1
        mtu, mac = link.mtu_bytes or 1500, link.mac or f"02:00:00:00:00:{self._indexes:02x}"
        self._store(
            replace(
                link,
                mtu_bytes=mtu,
                mac=mac,
                up=link.up is not False,
                hairpin=bool(link.hairpin) if link.master else None,
                group=link.group,
                peer=None,
                index=self._indexes,
            )
        )
        self._store(Sysctl(f"ipv6/conf/{link.name}/accept_ra", "1"))
        self._store(Sysctl(f"ipv6/conf/{link.name}/accept_dad", "1"))
        self._store(Sysctl(f"ipv4/conf/{link.name}/route_localnet", "0"))

    def _alter_link(self, link: Link, have: Link) -> None:
        self._store(
            replace(
                have,
                alias=link.alias,
                mtu_bytes=link.mtu_bytes or have.mtu_bytes,
                mac=link.mac or have.mac,
                master=link.master,
                hairpin=(link.hairpin or bool(have.hairpin)) if link.master else None,
                group=link.group or have.group,
            )
        )
        if link.up is not None:
            self.set_up(link.name, link.up)

    def _remove_link(self, name: str) -> None:
        gone = self.objects.pop(f"link {name}", None)
        if gone is None:
            return
        for key, obj in list(self.objects.items()):
            if isinstance(obj, _ON_LINK) and _link_of(obj) == name:
                if self.police_goes or not outlives_link(obj):
                    del self.objects[key]
            elif isinstance(obj, Link) and obj.vxlan and obj.vxlan.device == name:
                self._remove_link(obj.name)
            elif isinstance(obj, Link) and obj.master == name:
                self._store(replace(obj, master=None, hairpin=None))
        self._connect_all()

    def _flush(self, name: str) -> None:
        for key, obj in list(self.objects.items()):
            lost = isinstance(obj, Route | Neighbour) or (
                isinstance(obj, Address)
                and obj.interface.version == 6
                and not obj.interface.ip.is_link_local
            )
            if lost and getattr(obj, "link", None) == name:
                del self.objects[key]


def _link_of(obj: KernelObject) -> str:
    if isinstance(obj, Sysctl):
        parts = obj.name.split("/")
        return parts[2] if parts[1] == "conf" and parts[2] not in ("all", "default") else ""
    return str(getattr(obj, "link", ""))


def _same_vni(link: Link, other: KernelObject) -> bool:
    return (
        isinstance(other, Link)
        and link.vxlan is not None
        and other.vxlan is not None
        and (link.vxlan.vni, link.vxlan.port, link.vxlan.local.version)
        == (other.vxlan.vni, other.vxlan.port, other.vxlan.local.version)
    )


def _no(change: Change, number: int) -> KernelRejected:
    return KernelRejected(change.verb.value, describe(change.obj), number)


def ours(link: Link, network: str = "blue") -> Link:
    """Return ``link`` with our mark."""
    return replace(link, alias=ALIAS_PREFIX + network)
