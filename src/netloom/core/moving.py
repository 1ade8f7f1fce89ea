"""Moving a network from one backend to another: how it begins, what forbids it, when it is done.

The move itself is in ``core/backends/moving``: this module looks at definitions and at what the
hosts say of themselves in their records.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from netloom.core.backends.contract import Side
from netloom.core.backends.table import BACKENDS
from netloom.model.addr import Family, IPInterface
from netloom.model.errors import InvalidConfig
from netloom.model.host import Host
from netloom.model.network import Choice, Network
from netloom.model.view import Cluster, HostFacts, Problem

_MOST_NAMED = 5


def begin(before: Network, wanted: Network) -> Network:
    """Return ``wanted`` with the backends that it moves away from as retiring."""
    if wanted.backend == before.backend:
        return wanted
    retiring: dict[str, Choice] = {c.label: c for c in (before.backend, *before.retiring)}
    retiring.pop(wanted.backend.label, None)
    return replace(wanted, retiring=tuple(retiring.values()))


def refuse_impossible(cluster: Cluster, wanted: Network) -> None:
    """Refuse a backend by which some host could not reach some other. Raises InvalidConfig.

    Only hosts whose records tell their segments are judged; the others say so themselves later.
    """
    holders = {b.host_id for b in cluster.blocks.values() if b.network == wanted.name}
    hosts = [h for h in cluster.hosts.values() if h.id in holders and h.segments]
    problems = list(dict.fromkeys(_problems(cluster, wanted, hosts)))
    if problems:
        named = "; ".join(f"{host}: {p.text}" for host, p in problems[:_MOST_NAMED])
        more = len(problems) - _MOST_NAMED
        raise InvalidConfig(
            f"backend: {wanted.backend.type} cannot reach every host: {named}"
            + (f"; and {more} more" if more > 0 else ""),
            field="backend",
            value=wanted.backend.type,
            hint=problems[0][1].remedy,
        )


def _problems(
    cluster: Cluster, wanted: Network, hosts: list[Host]
) -> Iterable[tuple[str, Problem]]:
    blocks = [b for b in cluster.blocks.values() if b.network == wanted.name and b.confirmed]
    for host in hosts:
        own = tuple(b for b in blocks if b.host_id == host.id)
        prepared = BACKENDS[wanted.backend.type].prepare(Side(wanted, host, _facts(host), own))
        yield from ((host.name, problem) for problem in prepared.problems)
        for block in blocks:
            peer = cluster.hosts.get(block.host_id)
            if block.host_id == host.id or peer is None or not peer.segments:
                continue
            problem = prepared.reach(peer, block).problem
            if problem is not None:
                yield host.name, problem


def _facts(host: Host) -> HostFacts:
    underlay: dict[Family, tuple[str, IPInterface]] = {}
    for address in (host.underlay4, host.underlay6):
        segment = next((s for s in host.segments if address is not None and address in s), None)
        if address is not None and segment is not None:
            card = ipaddress.ip_interface((address, segment.prefixlen))
            underlay[address.version] = ("underlay", card)
    return HostFacts(underlay=MappingProxyType(underlay))


def waiting_for(cluster: Cluster, network: Network) -> tuple[str, ...]:
    """Return the names of the hosts that do not yet reach every peer by the new backend."""
    label = network.backend.label
    holders = {b.host_id for b in cluster.blocks.values() if b.network == network.name}
    return tuple(
        sorted(
            host.name
            for host in cluster.hosts.values()
            if host.id in holders and host.sends.get(network.name) != label
        )
    )


def finished(cluster: Cluster, network: Network) -> Network | None:
    """Return the definition without its retiring backends once no host needs them, else None."""
    if not network.retiring or waiting_for(cluster, network):
        return None
    return replace(network, retiring=())
