"""Moving a network from one backend to another: how it begins, what forbids it, when it is done.

The move itself is in ``core/backends/moving``: this module looks at definitions and at what the
hosts say of themselves in their records.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from dataclasses import replace
from types import MappingProxyType

from netloom.core.backends.contract import Prepared, Side
from netloom.core.backends.moving import without
from netloom.core.backends.table import BACKENDS
from netloom.core.desired import Desired
from netloom.model.addr import Family, IPInterface
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.host import Block, Host
from netloom.model.kernel import (
    ALIAS_PREFIX,
    Admission,
    KernelObject,
    Link,
    NftTable,
    Qdisc,
    Route,
)
from netloom.model.network import Choice, Network
from netloom.model.view import Cluster, HostFacts, Problem

_MOST_NAMED = 5
#: Objects that judge or limit packets, and lead none anywhere.
_BESIDE_THE_WAY = (NftTable, Admission, Qdisc)


def begin(before: Network, wanted: Network) -> Network:
    """Return ``wanted`` with the backends that it moves away from as retiring.

    Only the hosts end a move: whatever ``wanted`` says of one does not count. The oldest stays the
    oldest, also when it is the very one that is wanted again: who has joined and not yet said what
    he serves is reached by it.
    """
    if wanted.backend == before.backend:
        return replace(wanted, retiring=before.retiring, moves=before.moves)
    retiring: dict[str, Choice] = {c.label: c for c in before.retiring}
    if before.backend.label not in retiring:
        retiring = {before.backend.label: before.backend, **retiring}
    oldest = list(retiring)[-1]
    if wanted.backend.label != oldest:
        retiring.pop(wanted.backend.label, None)
    return replace(wanted, retiring=tuple(retiring.values()), moves=before.moves + 1)


def refuse_impossible(cluster: Cluster, wanted: Network) -> None:
    """Refuse a backend by which some host could not reach some other. Raises InvalidConfig.

    Only hosts whose records tell their segments are judged; the others say so themselves later.
    """
    problems = obstacles(cluster, wanted)
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


def obstacles(cluster: Cluster, wanted: Network) -> list[tuple[str, Problem]]:
    """Return, by the name of a host, why the backend reaches not all from there; each once."""
    return list(dict.fromkeys(_problems(cluster, wanted)))


def sides(cluster: Cluster, wanted: Network) -> Iterator[tuple[Host, Prepared]]:
    """Yield the hosts that hold blocks, with the backend as it will be there.

    Of hosts whose records do not tell their segments nothing is known.
    """
    held: dict[str, list[Block]] = {}
    for block in _blocks(cluster, wanted):
        held.setdefault(block.host_id, []).append(block)
    for host in cluster.hosts.values():
        if host.id in held and host.segments:
            own = tuple(block for block in held[host.id] if block.confirmed)
            side = Side(wanted, host, facts_of(host), own)
            yield host, BACKENDS[wanted.backend.type].prepare(side)


def _problems(cluster: Cluster, wanted: Network) -> Iterator[tuple[str, Problem]]:
    blocks = [block for block in _blocks(cluster, wanted) if block.confirmed]
    for host, prepared in sides(cluster, wanted):
        yield from ((host.name, problem) for problem in prepared.problems)
        for block in blocks:
            peer = cluster.hosts.get(block.host_id)
            if block.host_id == host.id or peer is None or not peer.segments:
                continue
            problem = prepared.reach(peer, block).problem
            if problem is not None:
                yield host.name, problem


def _blocks(cluster: Cluster, network: Network) -> list[Block]:
    return [block for block in cluster.blocks.values() if block.network == network.name]


def refuse_gap(cluster: Cluster, wanted: Network) -> None:
    """Refuse a backend that needs the very device of one it replaces. Raises Conflict.

    The two cannot stand together on a host, so packets would be lost while the hosts follow one
    after the other.
    """
    known = next((h for h in cluster.hosts.values() if h.segments), None) or anybody()
    sides = [
        Side(replace(wanted, backend=choice), known, facts_of(known), ())
        for choice in (wanted.backend, *wanted.retiring)
    ]
    new, *old = [BACKENDS[side.network.backend.type].prepare(side).objects for side in sides]
    for choice, objects in zip(wanted.retiring, old, strict=True):
        for key, obj in objects.items():
            if new.get(key, obj) != obj:
                raise Conflict(
                    f"backend: {wanted.backend.label} and {choice.label} both need {key}, so they "
                    "cannot stand together while the hosts move: packets would be lost",
                    hint="choose another device or VNI as well, e.g. backend.vni=2, "
                    "or accept the gap with --force",
                )


def anybody() -> Host:
    """Return a host of which nothing is known, for what is the same on every host."""
    address = ipaddress.ip_address("192.0.2.1")
    return Host("any", "any", address, segments=(ipaddress.ip_network("192.0.2.0/24"),))


def facts_of(host: Host) -> HostFacts:
    """Return what a host's record tells of its underlay."""
    underlay: dict[Family, tuple[str, IPInterface]] = {}
    for address in (host.underlay4, host.underlay6):
        segment = next((s for s in host.segments if address is not None and address in s), None)
        if address is not None and segment is not None:
            card = ipaddress.ip_interface((address, segment.prefixlen))
            underlay[address.version] = ("underlay", card)
    return HostFacts(underlay=MappingProxyType(underlay))


def waiting_for(cluster: Cluster, network: Network) -> tuple[str, ...]:
    """Return the names of the hosts that a move waits for; none when all reach all the new way.

    Those that cannot be reached by the new backend yet hold up all others, and are named alone.
    Asked are all that hold a block, with a record or without, and all that serve the network: a
    host without a block has no containers, but it sends all the same.
    """
    name, hosts = network.name, cluster.hosts
    asked = {b.host_id for b in cluster.blocks.values() if b.network == name}
    asked |= {host.id for host in hosts.values() if name in host.serves}
    arrived = {host.id for host in hosts.values() if host.sends.get(name) == network.course}
    late = asked - arrived
    ready = {h.id for h in hosts.values() if network.backend.label in h.serves.get(name, ())}
    return tuple(sorted(hosts[i].name if i in hosts else i for i in late - ready or late))


def in_kernel(desired: Desired, refused: Collection[str]) -> Desired:
    """Return ``desired`` without the networks that are not in the kernel as they should be.

    ``refused`` are keys of objects that are not as they should be yet. What is of no network alone,
    such as forwarding, is every network's; what should go and stays takes nothing from any. Nor do
    firewall and rate limits: no packet travels by them, and a backend changes nothing about them.
    So a kernel that will not have them, which the status tells, does not hold a move up for ever.
    Nor does what it will not have of a retiring backend, which is then not served. What leans on a
    device that is refused is refused for the device's sake, a way to a peer too.
    """
    stuck = [desired.state[key] for key in refused if key in desired.state]
    stuck = [obj for obj in stuck if not isinstance(obj, _BESIDE_THE_WAY)]
    if not stuck:
        return desired
    touched: dict[str, set[str]] = {}
    for obj in stuck:
        device = f"link {_link_of(obj)}"
        for name in _networks_of(obj, desired) or desired.standing:
            touched.setdefault(name, set()).add(device if device in refused else obj.key)
    standing = {}
    for name, one in desired.standing.items():
        left = without(one.backend, touched[name]) if name in touched else one.backend
        if left is not None:
            standing[name] = replace(one, backend=left)
    return replace(desired, standing=standing)


def _networks_of(obj: KernelObject, desired: Desired) -> set[str]:
    """Return the networks that an object is a part of; none when that cannot be told."""
    named = {
        name
        for name, one in desired.standing.items()
        if obj.key in one.backend.objects or obj.key in one.attachment.objects
    }
    device = obj if isinstance(obj, Link) else desired.state.get(f"link {_link_of(obj)}")
    if not named and isinstance(device, Link) and device.alias.startswith(ALIAS_PREFIX):
        named = {device.alias.removeprefix(ALIAS_PREFIX)}
    if not named and isinstance(obj, Route):
        named = {
            name
            for name, one in desired.standing.items()
            for pool in one.network.pools
            if pool.family == obj.destination.version and obj.destination.overlaps(pool.cidr)
        }
    return named


def _link_of(obj: KernelObject) -> str:
    return str(getattr(obj, "link", ""))


def finished(cluster: Cluster, network: Network) -> Network | None:
    """Return the definition without its retiring backends once no host needs them, else None."""
    if not network.retiring or waiting_for(cluster, network):
        return None
    return replace(network, retiring=())
