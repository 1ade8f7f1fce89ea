"""Our routes give way to the routing daemon's: no place in the routing table has two owners.

While a network moves to BGP or from it, one block has a route of ours and one of BIRD's. BIRD wants
the least metric for its own, and can neither put up with another's route there nor change a metric
without leaving the old route behind (both tried with 2.0.12). So ours stand one metric behind as
long as BIRD may write to that block or has a route to it: BIRD's is used when it is there, ours as
soon as it is not, and each of the two comes and goes by itself, with nothing lost in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from netloom.core.ownership import is_in_birds_name
from netloom.model.addr import IPNetwork
from netloom.model.kernel import IPV6_METRIC, ROUTE_PROTOCOL, Bird, KernelObject, Route


def give_way(state: dict[str, KernelObject], claimed: Iterable[IPNetwork]) -> None:
    """Put routes to blocks in ``claimed`` one metric behind.

    A block of one address is never BIRD's on the host that holds it: its route is the container's.
    """
    claimed = tuple(claimed)
    if claimed or Bird("").key in state:
        _take_own_name(state)
    for cidr in claimed:
        metric = IPV6_METRIC if cidr.version == 6 else 0
        key = Route(cidr, metric=metric).key
        route = state.get(key)
        if not isinstance(route, Route):
            continue
        if cidr.prefixlen == cidr.max_prefixlen and route.gateway is None:
            continue
        del state[key]
        behind = replace(route, metric=metric + 1)
        state[behind.key] = behind


def _take_own_name(state: dict[str, KernelObject]) -> None:
    """Have our routes into tunnels say that they are ours: beside a BIRD they must not say "bird".

    It deletes, at its next scan, every route of its protocol that is not its own, of whatever
    metric and device (tried with 2.0.12).
    """
    for key, route in state.items():
        if is_in_birds_name(route):
            assert isinstance(route, Route)
            state[key] = replace(route, protocol=ROUTE_PROTOCOL)
