"""Kernel objects as values: what should be in the kernel, and what is.

The same types serve desired and actual. Each object has a ``key``: a string that names the place
it takes in the kernel (two objects with one key exclude each other), and fields that say what
should stand there. A :data:`KernelState` maps keys to objects. Keys are strings, and states are
built by joining ready-made parts, since strings keep their hash: a state of ten thousand objects
is put together and compared in a few milliseconds.

Ownership marks are fields like any other: a link's ``alias``, a route's ``protocol``. Who owns
what is decided in ``core/ownership.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from netloom import __version__
from netloom.model.addr import Family, IPAddress, IPInterface, IPNetwork
from netloom.model.gso import BY_DEFAULT, Gso

#: Routes that are ours carry this protocol number (`ip route show proto 78`).
ROUTE_PROTOCOL = 78
#: Routes that BIRD wrote (rtnetlink.h, RTPROT_BIRD): they are BIRD's alone, but for those into a
#: tunnel of ours (core/ownership).
BIRD_PROTOCOL = 12
#: Links that are ours have an alias that begins so; the network's name follows.
ALIAS_PREFIX = "netloom:"
#: The device that module ipip itself makes in every namespace, and that nobody can delete.
IPIP_DEVICE = "tunl0"
#: The group of devices behind which containers are: they have to send by their own addresses.
#: A group and not a name, so that the rule about it is one, and never meets a device of others.
CONTAINER_GROUP = 78
#: The one nftables table that is ours, family inet.
NFT_TABLE = "netloom"
#: The chain that is ours in iptables' filter tables, where those would drop our traffic.
FORWARD_CHAIN = "NETLOOM-FORWARD"

#: The kernel gives an IPv6 route without a metric this one; saying it keeps read-back equal.
IPV6_METRIC = 1024

#: Every kind of object, in the order in which objects are added; deletion goes the other way.
KINDS = (
    "link",
    "sysctl",
    "nft",
    "admission",
    "address",
    "neighbour",
    "fdb",
    "udp-proxy",
    "udp-peer",
    "route",
    "bird",
    "qdisc",
)


@dataclass(frozen=True, slots=True)
class Vxlan:
    """Settings of a vxlan device; a change of any of them means a new device.

    ``device`` is the underlay interface, ``local`` the underlay address. ``learning`` is off in
    every device of ours; it is a field so that a device where it was turned on reads as different.
    """

    vni: int
    port: int
    device: str
    local: IPAddress
    learning: bool = False


@dataclass(frozen=True, slots=True)
class Ipip:
    """Settings of an ipip device; None is "any": the route says where a packet goes.

    A change of any of them means a new device. There is one device with both None in a namespace.
    """

    local: IPAddress | None = None
    remote: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """The container's end of a veth pair and all that is configured behind it.

    ``netns`` is a namespace path. ``addresses`` have the prefix length the container sees.
    ``routes`` are (destination, gateway or None for on-link); ``neighbours`` are permanent.
    ``sysctls`` are names under ``/proc/sys/net`` with '/' as separator, applied in ``netns``.
    ``gso`` is set when the pair is made, and not compared later.
    """

    netns: str
    ifname: str
    mac: str
    mtu_bytes: int
    addresses: tuple[IPInterface, ...] = ()
    routes: tuple[tuple[IPNetwork, IPAddress | None], ...] = ()
    neighbours: tuple[tuple[IPAddress, str], ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    gso: Gso = BY_DEFAULT


@dataclass(frozen=True, slots=True)
class _Keyed:
    """An object with its ``key``, which is made once: a turn asks for it many times."""

    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self._place())  # how a frozen object is completed

    def _place(self) -> str:
        """Return the key, made of the kind and of the fields that say where the object stands."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Link(_Keyed):
    """A network interface of the host.

    ``kind``: ``vxlan``, ``ipip``, ``bridge``, ``veth``, ``tun``, ``macvlan``, or what the kernel
    reports for others ("" for a physical card). Fields that are None are not our business and are
    never compared.
    ``peer`` is needed to create a veth and is not read back. ``index`` is the kernel's number,
    filled in on read, not compared; so is ``gso``, which is not set.
    """

    kind_name: ClassVar[str] = "link"
    name: str
    kind: str
    alias: str = ""
    mtu_bytes: int | None = None
    mac: str | None = None
    up: bool | None = True
    master: str | None = None
    hairpin: bool | None = None
    vxlan: Vxlan | None = None
    ipip: Ipip | None = None
    group: int | None = None
    peer: Peer | None = field(default=None, compare=False)
    index: int = field(default=0, compare=False)
    carrier: bool = field(default=True, compare=False)
    gso: Gso = field(default=BY_DEFAULT, compare=False)

    def _place(self) -> str:
        """Return ``link NAME``."""
        return f"link {self.name}"


@dataclass(frozen=True, slots=True)
class Address(_Keyed):
    """An address of an interface, with the prefix length as configured.

    ``permanent`` is False for addresses with a lifetime (DHCP, SLAAC); ``kernel_made`` is True
    for IPv6 link-local addresses that the kernel made by itself. ``prefix_route`` False keeps the
    kernel from making a route to the address's network. None of these is compared.
    """

    kind_name: ClassVar[str] = "address"
    link: str
    interface: IPInterface
    permanent: bool = field(default=True, compare=False)
    kernel_made: bool = field(default=False, compare=False)
    prefix_route: bool = field(default=True, compare=False)

    def _place(self) -> str:
        """Return ``address A/LEN dev LINK``."""
        return f"address {self.interface} dev {self.link}"


@dataclass(frozen=True, slots=True)
class Route(_Keyed):
    """A route of the host.

    ``gateway`` None means on-link (scope link). ``type``: unicast, blackhole, … as `ip route`
    says. ``link`` is "" for types without a device. IPv6 routes of metric 0 read back as 1024.
    """

    kind_name: ClassVar[str] = "route"
    destination: IPNetwork
    link: str = ""
    gateway: IPAddress | None = None
    onlink: bool = False
    type: str = "unicast"
    protocol: int = ROUTE_PROTOCOL
    metric: int = 0
    table: int = 254
    mtu_bytes: int = 0

    def _place(self) -> str:
        """Return ``route CIDR`` and, where they are not the default, metric and table."""
        metric = f" metric {self.metric}" if self.metric else ""
        table = f" table {self.table}" if self.table != 254 else ""
        return f"route {self.destination}{metric}{table}"


@dataclass(frozen=True, slots=True)
class Neighbour(_Keyed):
    """A permanent neighbour (ARP or ND) entry."""

    kind_name: ClassVar[str] = "neighbour"
    link: str
    address: IPAddress
    mac: str

    def _place(self) -> str:
        """Return ``neighbour A dev LINK``."""
        return f"neighbour {self.address} dev {self.link}"


@dataclass(frozen=True, slots=True)
class Fdb(_Keyed):
    """A permanent forwarding entry of a vxlan device: frames to ``mac`` go to host ``remote``."""

    kind_name: ClassVar[str] = "fdb"
    link: str
    mac: str
    remote: IPAddress

    def _place(self) -> str:
        """Return ``fdb MAC dev LINK``."""
        return f"fdb {self.mac} dev {self.link}"


@dataclass(frozen=True, slots=True)
class UdpProxy(_Keyed):
    """The process that carries the packets of TUN device ``link`` in UDP datagrams.

    ``local`` and ``port`` are where it sends from and listens. ``version`` is that of the Netloom
    that started it: a newer one has its own take over. ``shortcut``: it may let the kernel carry
    packets to and from those who do so too.
    """

    kind_name: ClassVar[str] = "udp-proxy"
    link: str
    local: IPAddress
    port: int
    version: str = __version__
    shortcut: bool = True

    def _place(self) -> str:
        """Return ``udp-proxy dev LINK``."""
        return f"udp-proxy dev {self.link}"


@dataclass(frozen=True, slots=True)
class UdpPeer(_Keyed):
    """An entry in the table of a :class:`UdpProxy`: packets to ``block`` go to host ``remote``.

    ``unpacks``: its kernel takes them out of the datagrams, so ours may put them in.
    """

    kind_name: ClassVar[str] = "udp-peer"
    link: str
    block: IPNetwork
    remote: IPAddress
    port: int
    unpacks: bool = False

    def _place(self) -> str:
        """Return ``udp-peer CIDR dev LINK``."""
        return f"udp-peer {self.block} dev {self.link}"


@dataclass(frozen=True, slots=True)
class Bird(_Keyed):
    """The routing daemon with its whole configuration, which may hold passwords: never shown.

    ``running`` is False of one that was read and is dead or does not answer.
    """

    kind_name: ClassVar[str] = "bird"
    config: str = field(repr=False)
    running: bool = True

    def _place(self) -> str:
        """Return ``bird``: there is one on a host."""
        return "bird"


@dataclass(frozen=True, slots=True)
class Sysctl(_Keyed):
    """A setting under ``/proc/sys/net``, e.g. ``ipv4/ip_forward``; never deleted, only set."""

    kind_name: ClassVar[str] = "sysctl"
    name: str
    value: str

    def _place(self) -> str:
        """Return ``sysctl NAME``."""
        return f"sysctl {self.name}"


@dataclass(frozen=True, slots=True)
class NftTable(_Keyed):
    """Our nftables table as the text that ``nft -s list table inet netloom`` prints for it."""

    kind_name: ClassVar[str] = "nft"
    text: str
    name: str = NFT_TABLE

    def _place(self) -> str:
        """Return ``nft table inet NAME``."""
        return f"nft table inet {self.name}"


def iptables(family: Family, legacy: bool) -> str:
    """Return the command that shows a family's table."""
    return ("iptables" if family == 4 else "ip6tables") + ("-legacy" if legacy else "")


@dataclass(frozen=True, slots=True)
class ForwardDrop(_Keyed):
    """iptables' filter table of one family drops what is forwarded: another's, read and left alone.

    ``chain`` is where rules of other people are asked before that. ``legacy``: the table is one of
    ``iptables-legacy``, beside nftables.
    """

    kind_name: ClassVar[str] = "admission"
    family: Family
    chain: str
    legacy: bool = False

    def _place(self) -> str:
        """Return ``forward-drop iptables``, or another of the four kinds of iptables."""
        return f"forward-drop {iptables(self.family, self.legacy)}"


@dataclass(frozen=True, slots=True)
class Admission(_Keyed):
    """What lets ``pools`` through iptables' filter table of one family, as source and destination.

    It is a chain of ours there, and a jump to it in front of ``chain``. ``whole`` is False when
    what was read is not all of that, or more, or is passed by.
    """

    kind_name: ClassVar[str] = "admission"
    family: Family
    chain: str
    pools: tuple[IPNetwork, ...]
    whole: bool = True
    legacy: bool = False

    def _place(self) -> str:
        """Return ``admission iptables``, or another of the four kinds of iptables."""
        return f"admission {iptables(self.family, self.legacy)}"


@dataclass(frozen=True, slots=True)
class Qdisc(_Keyed):
    """A rate limit on one of our links.

    ``direction``: ``egress`` shapes what the host sends into the link (what the container
    receives) with a tbf root qdisc; ``ingress`` polices what comes out of the container.
    """

    kind_name: ClassVar[str] = "qdisc"
    link: str
    direction: str
    rate_bps: int
    burst_bytes: int

    def _place(self) -> str:
        """Return ``qdisc LINK DIRECTION``."""
        return f"qdisc {self.link} {self.direction}"


KernelObject = (
    Link
    | Address
    | Route
    | Neighbour
    | Fdb
    | UdpProxy
    | UdpPeer
    | Bird
    | Sysctl
    | NftTable
    | ForwardDrop
    | Admission
    | Qdisc
)
KernelState = Mapping[str, KernelObject]


def state_of(*objects: KernelObject) -> dict[str, KernelObject]:
    """Return the state that holds exactly ``objects``; a later object replaces one of equal key."""
    return {obj.key: obj for obj in objects}
