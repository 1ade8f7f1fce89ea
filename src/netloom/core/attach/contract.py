"""What an attachment is: the host's shared part, and one part per endpoint.

An attachment module offers an object with ``name``, ``parse`` and ``prepare``;
``core/attach/table`` lists it. It knows blocks and an MTU, never a backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from netloom.model.addr import IPAddress, IPNetwork
from netloom.model.attachment import Attached
from netloom.model.endpoint import Endpoint
from netloom.model.gso import BY_DEFAULT, Gso
from netloom.model.host import Block
from netloom.model.kernel import KernelObject
from netloom.model.network import Network


@dataclass(frozen=True, slots=True)
class Place:
    """Where containers of one network are attached on this host.

    ``blocks`` are its own; of those, ``held`` have a blackhole of another part of the host. ``gso``
    is what the underlay takes in one piece.
    """

    network: Network
    host_id: str
    blocks: tuple[Block, ...]
    mtu_bytes: int
    held: frozenset[IPNetwork] = frozenset()
    gso: Gso = BY_DEFAULT


@dataclass(frozen=True, slots=True)
class Part:
    """One endpoint's objects in the host's kernel, and what its runtime is told."""

    objects: Mapping[str, KernelObject]
    attached: Attached


class PreparedAttachment(Protocol):
    """One network's attachment on this host. Equal values give equal parts."""

    @property
    def objects(self) -> Mapping[str, KernelObject]:
        """What all endpoints share: a bridge, its addresses, settings."""
        ...

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return addresses of an own block that containers cannot have."""
        ...

    def part(self, endpoint: Endpoint) -> Part:
        """Return one endpoint's objects."""
        ...


class Attachment(Protocol):
    """A kind of attachment."""

    @property
    def name(self) -> str:
        """The word users write."""
        ...

    @property
    def least_host_bits(self) -> int:
        """How many host bits a block needs for what the attachment takes and one container."""
        ...

    @property
    def lends(self) -> bool:
        """Tell whether containers reach an address of their own block that is on another host.

        They do not where the block is one segment: there they look for it among themselves.
        """
        ...

    def parse(self, options: Mapping[str, Any], where: str) -> object:
        """Check the options. Raises InvalidConfig."""
        ...

    def claims(self, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return (field, thing) pairs: things that one network on a host can have.

        The field is where the user chose the thing; the most telling pair comes first.
        """
        ...

    def host_ifname(self, network: str, container_id: str, ifname: str) -> str:
        """Return the name of the host's end: a function of who it is for, at most 15 bytes."""
        ...

    def prepare(self, place: Place) -> PreparedAttachment:
        """Return this host's part."""
        ...


def container_sysctls(network: Network, ifname: str) -> tuple[tuple[str, str], ...]:
    """Return settings inside the container: IPv6 on, and no autoconfiguration beside ours."""
    if 6 not in network.families:
        return ()
    conf = f"ipv6/conf/{ifname}/"
    return ((conf + "disable_ipv6", "0"), (conf + "accept_ra", "0"), (conf + "accept_dad", "0"))
