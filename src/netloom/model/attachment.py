"""What a runtime asks of the agent, and what it gets: the words between drivers and agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from netloom.model.addr import IPAddress, IPInterface, IPNetwork
from netloom.model.endpoint import Bandwidth, Endpoint, PortMapping


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """Attach ``ifname`` of one container to ``network``.

    ``netns`` is a path that the agent can open. ``addresses``: wanted ones, at most one per
    family; families without a wish get a free address. ``mac`` "" means: derive one.
    """

    network: str
    container_id: str
    ifname: str
    netns: str
    addresses: tuple[IPAddress, ...] = ()
    mac: str = ""
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Attached:
    """What stands after an attach, as a runtime wants it reported.

    ``addresses`` carry the prefix length that the container sees; ``gateways`` has at most one per
    family; ``routes`` are (destination, gateway or None). ``host_mac`` is the host end's MAC;
    ``bridge`` is "" when no bridge is involved.
    """

    endpoint: Endpoint
    mtu_bytes: int
    addresses: tuple[IPInterface, ...]
    gateways: tuple[IPAddress, ...]
    routes: tuple[tuple[IPNetwork, IPAddress | None], ...]
    host_mac: str = ""
    bridge: str = ""
    bridge_mac: str = ""
