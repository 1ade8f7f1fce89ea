"""What of a network is never dealt by itself: reservations of our own, and IPReservations.

An IPReservation speaks of addresses, whatever the network; it is kept as the document that it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netloom.core.ipam.blocks import overlap
from netloom.model.addr import IPNetwork, parse_address, parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields
from netloom.model.host import Reservation
from netloom.model.network import Network
from netloom.model.resource import Resource
from netloom.model.surprise import foreseen
from netloom.model.view import Cluster

KIND = "IPReservation"


def reserved(cluster: Cluster, network: Network) -> tuple[Reservation, ...]:
    """Return all reservations that touch a network's pools."""
    own = [each for each in cluster.reservations.values() if each.network == network.name]
    return (*own, *from_documents(cluster.resources.values(), network))


def from_documents(resources: Iterable[Resource], network: Network) -> Iterator[Reservation]:
    """Yield what IPReservations say of a network; one that does not parse reserves nothing."""
    for resource in resources:
        if resource.kind != KIND:
            continue
        try:
            cidrs = ranges(resource)
        except InvalidConfig:
            continue  # whoever wrote it past the check
        for cidr in cidrs:
            if any(overlap(cidr, pool.cidr) for pool in network.pools):
                yield Reservation(network.name, cidr, f"{KIND} {resource.name}")


@foreseen
def ranges(resource: Resource) -> tuple[IPNetwork, ...]:
    """Return the ranges that an IPReservation names. Raises InvalidConfig."""
    fields = Fields(resource.spec, "spec")
    found = []
    for i, text in enumerate(fields.take_list("reservedCIDRs")):
        where = fields.path(f"reservedCIDRs[{i}]")
        if isinstance(text, str) and "/" not in text:
            address = parse_address(text, where)
            text = f"{address}/{address.max_prefixlen}"  # noqa: PLW2901 - one form from here on
        found.append(parse_network(text, where))
    fields.done()
    return tuple(found)


def check(resource: Resource) -> tuple[str, ...]:
    """Check an IPReservation; all of it has effect."""
    ranges(resource)
    return ()
