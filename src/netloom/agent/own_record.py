"""What a host says of itself in the store: where it is, by what it is reached and what it reaches.

Pure: the record that should stand there is a function of what was seen, and of what the record said
before of networks whose part in the kernel is not known now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

from netloom.core.backends.table import BACKENDS
from netloom.core.desired import Desired
from netloom.model.addr import IPAddress
from netloom.model.host import UNPACKS, Host
from netloom.model.kernel import UdpProxy
from netloom.model.network import Network
from netloom.model.view import Cluster, HostFacts


def told(
    own: Host,
    cluster: Cluster,
    facts: HostFacts,
    applied: Desired | None,
    unpacking: frozenset[str] = frozenset(),
) -> Host:
    """Return the record of ``own``, of which id, name and devices are given, as it should stand.

    ``applied`` is what the kernel holds without a refusal; None says nothing new about it.
    ``unpacking`` are the UDP proxies' devices for whose peers this host's kernel unpacks.
    """
    macs = {
        name: mac
        for name, network in sorted(cluster.networks.items())
        for choice in (network.backend, *network.retiring)
        if (mac := _published(replace(network, backend=choice), own.id))
    }
    before = cluster.hosts.get(own.id)
    serves, sends = (before.serves, before.sends) if before else ({}, {})
    if applied is not None:
        serves, sends = _reached(cluster, applied, serves, sends)
        serves |= _unpacked(applied, serves, unpacking)
    return replace(
        own,
        underlay4=facts.underlay_address(4),
        underlay6=facts.underlay_address(6),
        macs=MappingProxyType(macs),
        serves=MappingProxyType(dict(serves)),
        sends=MappingProxyType(dict(sends)),
        segments=tuple(interface.network for _, interface in facts.underlay.values()),
    )


def yielding(record: Host, contested: Collection[IPAddress]) -> Host:
    """Return ``record`` without the addresses that are another host's by right."""
    four, six = (None if a in contested else a for a in (record.underlay4, record.underlay6))
    return replace(record, underlay4=four, underlay6=six, contested=tuple(contested))


def _published(network: Network, host_id: str) -> str:
    """Return what peers need to know of this host for a network's backend; "" for nothing."""
    backend = BACKENDS.get(network.backend.type)
    return backend.publish(network, host_id) if backend else ""


def _reached(
    cluster: Cluster,
    applied: Desired,
    serves: Mapping[str, tuple[str, ...]],
    sends: Mapping[str, str],
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Return by what this host is reached and reaches, per network, from what it said before.

    A network that cannot stand, or stands in part, leaves in the kernel what was there: what was
    said of that stays too.
    """
    well = {n: s for n, s in applied.standing.items() if not s.backend.problems}
    still = [name for name in cluster.networks if name not in well]
    serves = {name: serves[name] for name in still if name in serves}
    sends = {name: sends[name] for name in still if name in sends}
    serves |= {name: standing.serves for name, standing in well.items()}
    sends |= {n: standing.network.course for n, standing in well.items() if n not in applied.late}
    return dict(sorted(serves.items())), dict(sorted(sends.items()))


def _unpacked(
    applied: Desired, serves: Mapping[str, tuple[str, ...]], unpacking: frozenset[str]
) -> dict[str, tuple[str, ...]]:
    """Return ``serves`` of the networks in which the kernel unpacks what came by UDP."""
    return {
        name: (*serves[name], UNPACKS)
        for name, standing in applied.standing.items()
        if name in serves
        and UNPACKS not in serves[name]
        and any(
            isinstance(obj, UdpProxy) and obj.link in unpacking
            for obj in standing.backend.objects.values()
        )
    }
