"""The view: an immutable picture of the cluster at one store revision, as one host needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from netloom.model.addr import Family, IPAddress, IPInterface, IPNetwork
from netloom.model.endpoint import Endpoint
from netloom.model.gso import BY_DEFAULT, Gso
from netloom.model.host import Block, Host, Reservation, block_order
from netloom.model.kernel import ForwardDrop
from netloom.model.network import Network
from netloom.model.resource import Resource
from netloom.model.secret import Secret, SecretText


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not well: what, why in a sentence, and the remedy.

    ``severity``: ``error`` (something does not work), ``warning``, or ``note``: it is over, and
    nobody need do anything. ``subject`` names the object
    ("network blue", "peer h2", "key /netloom/v1/…"); one subject and text is one problem.
    """

    severity: str
    subject: str
    text: str
    remedy: str = ""

    @property
    def needs_a_person(self) -> bool:
        """Tell whether somebody has to look at it."""
        return self.severity != "note"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the store says, parsed. A value that does not parse keeps its last good form.

    ``hosts`` by host id, ``networks`` by name, ``blocks`` by (network, cidr), ``resources`` by
    (kind, namespace, name). ``standing`` are the store keys of entries that only a former store
    named, which stay until the present one speaks.
    """

    revision: int = 0
    store_id: str = ""
    networks: Mapping[str, Network] = field(default_factory=lambda: MappingProxyType({}))
    hosts: Mapping[str, Host] = field(default_factory=lambda: MappingProxyType({}))
    blocks: Mapping[tuple[str, IPNetwork], Block] = field(
        default_factory=lambda: MappingProxyType({})
    )
    reservations: Mapping[tuple[str, IPNetwork], Reservation] = field(
        default_factory=lambda: MappingProxyType({})
    )
    resources: Mapping[tuple[str, str, str], Resource] = field(
        default_factory=lambda: MappingProxyType({})
    )
    problems: tuple[Problem, ...] = ()
    standing: frozenset[str] = frozenset()

    def host(self, own: Host) -> Host:
        """Return the record of the agent's host; ``own``, its id and name, until there is one.

        A new host works before its record is in the picture, and what people said of it goes by
        its name.
        """
        return self.hosts.get(own.id, own)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the host's own kernel says that desired state depends on.

    ``underlay`` maps a family to (interface name, its address with prefix length); ``reason`` says
    why that one was chosen. ``routes`` are the host's own routes and connected networks that are
    not ours, for collision checks: (cidr, device). ``mtu_bytes`` is the underlay interface's.
    ``vxlans`` are vxlan devices of others: (name, VNI, port). ``candidates`` is all that could be
    the underlay: (interface name, its address, its MTU). ``makeshift`` are the families for which
    nothing better was found: no default route of their own leads over the chosen one. ``lost`` are
    those whose address is gone, and kept until there is another. ``down`` are the interfaces among
    the candidates that are not up, ``unplugged`` those that are up without a carrier. ``public``
    is, per family, where peers reach this host if not at its own address. ``learned`` are the
    blocks to which BIRD has a route: through which gateway, or None for the host's own.
    ``drops`` are the tables of iptables that drop what is forwarded, where rules of ours shall
    stand against it. ``refusal`` is why what was asked for as the underlay cannot be had now, and
    the remedy: the former choice stays then. ``gso`` is what the underlay interfaces take in one
    piece.
    """

    underlay: Mapping[Family, tuple[str, IPInterface]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    mtu_bytes: int = 1500
    reason: str = ""
    routes: tuple[tuple[IPNetwork, str], ...] = ()
    vxlans: tuple[tuple[str, int, int], ...] = ()
    candidates: tuple[tuple[str, IPInterface, int], ...] = ()
    makeshift: frozenset[Family] = frozenset()
    lost: frozenset[Family] = frozenset()
    down: frozenset[str] = frozenset()
    unplugged: frozenset[str] = frozenset()
    public: Mapping[Family, IPAddress] = field(default_factory=lambda: MappingProxyType({}))
    learned: Mapping[IPNetwork, IPAddress | None] = field(
        default_factory=lambda: MappingProxyType({})
    )
    drops: tuple[ForwardDrop, ...] = ()
    refusal: tuple[str, str] | None = None
    gso: Gso = BY_DEFAULT

    def underlay_address(self, family: Family) -> IPAddress | None:
        """Return where peers reach this host in one family, if they can."""
        if family in self.public:
            return self.public[family]
        chosen = self.underlay.get(family)
        return chosen[1].ip if chosen else None


@dataclass(frozen=True, slots=True)
class View:
    """All that ``desired`` may depend on: cluster, own identity, own facts, own endpoints.

    ``admitted`` names the networks that stand in this kernel already: a collision found later is
    reported but takes nothing away from them. ``secrets`` are what resources name and this host has
    in files of its own. ``lent`` are addresses of own blocks that other hosts have, by network.
    ``host_name`` may be left out where it is the id.
    """

    cluster: Cluster
    host_id: str
    facts: HostFacts
    endpoints: tuple[Endpoint, ...] = ()
    admitted: frozenset[str] = frozenset()
    secrets: Mapping[Secret, SecretText] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )
    lent: frozenset[tuple[str, IPAddress]] = frozenset()
    host_name: str = ""

    @property
    def host(self) -> Host:
        """This host's record; before the store has it, its id and name."""
        return self.cluster.host(Host(self.host_id, self.host_name or self.host_id))

    def own_blocks(self, network: str) -> tuple[Block, ...]:
        """Return this host's confirmed blocks of ``network``, sorted."""
        blocks = [
            block
            for block in self.cluster.blocks.values()
            if block.host_id == self.host_id and block.network == network and block.confirmed
        ]
        return tuple(sorted(blocks, key=block_order))
