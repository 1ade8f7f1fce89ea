"""Which source addresses containers may send from.

Behind a device of group ``CONTAINER_GROUP`` a container may only use a source that this host routes
back through the same device: strict reverse path filtering, for both families, in one rule that no
container's coming or going changes. A container of several networks is the exception: it answers
through whichever of its interfaces leads to the asker. :func:`elsewhere` names what it may do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from netloom.model.addr import IPAddress
from netloom.model.endpoint import Endpoint
from netloom.model.kernel import Link


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A container behind ``device`` has ``address`` on another of its interfaces."""

    device: str
    address: IPAddress


def of_several_networks(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the endpoints of containers that have more than one on this host, in their order."""
    listed = tuple(endpoints)
    seen = Counter(map(_container, listed))
    return tuple(endpoint for endpoint in listed if seen[_container(endpoint)] > 1)


def elsewhere(endpoints: Iterable[Endpoint], links: Iterable[Link]) -> frozenset[Elsewhere]:
    """Return what the containers of ``endpoints`` may send besides what the reverse path allows.

    ``links`` are the desired ones: a bridged container sends by its bridge.
    """
    devices = {link.name: link.master or link.name for link in links if link.kind == "veth"}
    by_container: dict[str, list[tuple[str, IPAddress]]] = defaultdict(list)
    for endpoint in of_several_networks(endpoints):
        if device := devices.get(endpoint.host_ifname):
            by_container[_container(endpoint)] += [(device, a) for a in endpoint.addresses]
    return frozenset(
        Elsewhere(device, address)
        for held in by_container.values()
        for device in {device for device, _ in held}
        for home, address in held
        if home != device
    )


def _container(endpoint: Endpoint) -> str:
    """Return what tells containers apart: a runtime may have another id in each network."""
    return endpoint.netns or endpoint.container_id
