"""The host's routing daemon as part of the desired state: for which blocks, and how configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netloom.core.backends.contract import Prepared, announces
from netloom.core.bgp.plan import Ranges, covers, plan
from netloom.core.bgp.render import render
from netloom.model.addr import IPNetwork
from netloom.model.host import Block
from netloom.model.kernel import Bird
from netloom.model.network import Network
from netloom.model.view import Problem, View


def ranges(backends: Mapping[str, tuple[Network, Prepared]]) -> Ranges:
    """Return, by network, the pools whose blocks a backend leaves to the daemon."""
    found = {
        name: tuple(
            pool.cidr
            for pool in network.pools
            if announces(prepared, Block(name, pool.cidr, "", confirmed=True))
        )
        for name, (network, prepared) in backends.items()
    }
    return {name: pools for name, pools in found.items() if pools}


def depends_on(view: View) -> tuple[object, ...]:
    """Return what of a view :func:`bird` depends on, for those who keep its result."""
    cluster = view.cluster
    facts = view.facts
    said = cluster.hosts, cluster.blocks, cluster.resources, cluster.networks
    return *said, facts.underlay, facts.candidates, view.secrets, view.host_id, view.host_name


@dataclass(frozen=True, slots=True)
class Routing:
    """The daemon with its configuration, and what the store asks for that cannot be.

    ``blocks`` are those that it may write a route for, own ones and others'.
    """

    bird: Bird
    problems: tuple[Problem, ...]
    blocks: frozenset[IPNetwork]


def routing(view: View, ranges: Ranges) -> Routing:
    """Return the daemon of this host. Raises InvalidConfig."""
    made = plan(view, ranges)
    blocks = frozenset(
        block.cidr
        for block in view.cluster.blocks.values()
        if any(covers(pool, block.cidr) for pool in ranges.get(block.network, ()))
    )
    return Routing(Bird(render(made)), made.problems, blocks)
