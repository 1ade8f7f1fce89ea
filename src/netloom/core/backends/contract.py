"""What a backend is: two pure steps, ``prepare`` for the own side and ``reach`` for each peer.

A backend module offers an object with ``name``, ``parse`` and ``prepare``; ``core/backends/table``
lists it. Nothing outside this folder asks which backend a network has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from netloom.model.addr import Family, IPAddress
from netloom.model.host import Block, Host
from netloom.model.kernel import KernelObject
from netloom.model.network import Network
from netloom.model.view import HostFacts, Problem


@dataclass(frozen=True, slots=True)
class Side:
    """This host's side of one network: what ``prepare`` may depend on.

    ``blocks`` are its own; ``taken`` are the addresses in them that its containers have, or those
    of hosts that borrowed them.
    """

    network: Network
    host: Host
    facts: HostFacts
    blocks: tuple[Block, ...]
    taken: frozenset[IPAddress] = frozenset()


@dataclass(frozen=True, slots=True)
class Reach:
    """How one block of a peer is reached: objects, a word for people, or why it is not.

    ``late``: by a backend that the network moves away from, since the peer is not ready yet.
    ``stands``: the way is there without objects of ours, since a routing daemon found it.
    """

    objects: Mapping[str, KernelObject] = field(default_factory=dict)
    path: str = ""
    problem: Problem | None = None
    late: bool = False
    stands: bool = False


class Prepared(Protocol):
    """One network's backend on this host, ready to tell how peers are reached.

    Equal prepared values give equal reaches, so that a caller may keep what ``reach`` returned.
    """

    @property
    def objects(self) -> Mapping[str, KernelObject]:
        """Devices, their addresses and settings."""
        ...

    @property
    def mtu_bytes(self) -> int:
        """The largest packet a container may send: the underlay's MTU less what we add."""
        ...

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why part of this cannot work here."""
        ...

    def reach(self, peer: Host, block: Block) -> Reach:
        """Return how ``block`` of ``peer`` is reached from here."""
        ...

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return addresses of an own block that the backend itself takes."""
        ...


@runtime_checkable
class Announcing(Protocol):
    """A prepared backend that leaves blocks to the host's routing daemon (see ``core/bgp``)."""

    def announces(self, block: Block) -> bool:
        """Tell whether the daemon announces ``block`` if it is own, and learns it if not."""
        ...


def announces(prepared: Prepared, block: Block) -> bool:
    """Tell whether ``block`` is the routing daemon's with this backend."""
    return isinstance(prepared, Announcing) and prepared.announces(block)


class Backend(Protocol):
    """A kind of backend."""

    @property
    def name(self) -> str:
        """The word users write."""
        ...

    @property
    def families(self) -> frozenset[Family]:
        """The address families of pools that it can carry."""
        ...

    @property
    def least_host_bits(self) -> int:
        """How many host bits a block needs for what the backend takes and one container."""
        ...

    def parse(self, options: Mapping[str, Any], where: str) -> object:
        """Check the options and return them in the backend's own type. Raises InvalidConfig."""
        ...

    def claims(self, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return (field, thing) pairs: things that one network on a host can have.

        The field is where the user chose the thing; the most telling pair comes first.
        """
        ...

    def prepare(self, side: Side) -> Prepared:
        """Return this host's part. The network's options were checked by :meth:`parse` before."""
        ...

    def publish(self, network: Network, host_id: str) -> str:
        """Return the MAC that peers need to know of this host, or ""."""
        ...
