"""Build the agent's status: one value out of engine, watcher, journal and registration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from netloom.core.desired import Desired
from netloom.core.peers import awaited, lacking
from netloom.core.underlay_told import verdicts
from netloom.model.addr import IPAddress
from netloom.model.endpoint import Endpoint
from netloom.model.host import Host
from netloom.model.network import Choice
from netloom.model.status import KernelStatus, NetworkStatus, PeerStatus, StoreStatus
from netloom.model.view import Cluster, HostFacts, Problem

#: A longer cell makes a table that nobody reads.
_LONGEST = 60


def iso(seconds: float) -> str:
    """Return a wall-clock time as ISO 8601 in UTC, or "" for 0."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""


@dataclass(slots=True)
class Connection:
    """When the store was last found, or lost; ``note`` is told at each look."""

    state: str = "away"
    since_s: float = 0.0

    def note(self, connected: bool, now_s: float) -> None:
        """Remember a change of state and when it was."""
        state = "connected" if connected else "away"
        if state != self.state or not self.since_s:
            self.state, self.since_s = state, now_s

    def status(self, url: str, revision: int, error: str) -> StoreStatus:
        """Return the status line's value."""
        return StoreStatus(url, self.state, iso(self.since_s), revision, error)


def kernel_status(
    desired: Desired | None,
    revision: int,
    applied_at_s: float,
    repaired: dict[str, int],
    failing: tuple[str, ...],
) -> KernelStatus:
    """Return what is in the kernel, counted per kind."""
    counts = Counter(obj.kind_name for obj in desired.state.values()) if desired else {}
    return KernelStatus(revision, iso(applied_at_s), dict(counts), repaired, failing)


def network_statuses(
    desired: Desired | None,
    endpoints: Iterable[Endpoint],
    lent: Collection[tuple[str, IPAddress]] = (),
) -> tuple[NetworkStatus, ...]:
    """Return this host's networks with the use of their blocks; ``lent`` is in use as well."""
    if desired is None:
        return ()
    used = [(endpoint.network, address) for endpoint in endpoints for address in endpoint.addresses]
    used += lent
    statuses = []
    for name, standing in desired.standing.items():
        blocks = tuple(
            {
                "cidr": str(block.cidr),
                "used": sum(1 for net, a in used if net == name and a in block.cidr),
                "size": block.cidr.num_addresses - len(standing.excluded(block)),
                "lent": sum(1 for net, a in lent if net == name and a in block.cidr),
            }
            for block in standing.blocks
        )
        network = standing.network
        mtu = standing.backend.mtu_bytes
        types = (network.backend.type, network.attachment.type)
        retiring = tuple(_brief(choice) for choice in network.moving_from)
        statuses.append(NetworkStatus(name, *types, mtu, blocks, retiring))
    return tuple(statuses)


def _brief(choice: Choice) -> str:
    """Return a backend for a table's cell: with its options while they are short."""
    return choice.label if len(choice.label) <= _LONGEST else choice.type


def peer_statuses(
    cluster: Cluster | None,
    desired: Desired | None,
    host_id: str,
    missing: Collection[str] = (),
) -> tuple[PeerStatus, ...]:
    """Return the other hosts: where they are, what they hold, and how they are reached.

    ``missing`` are keys of objects that are not in the kernel as they should be.
    """
    if cluster is None:
        return ()
    blocks: dict[str, list[str]] = {}
    for block in cluster.blocks.values():
        if block.confirmed:
            blocks.setdefault(block.host_id, []).append(str(block.cidr))
    paths: dict[str, dict[str, str]] = {}
    for (peer, network), path in sorted((desired.paths if desired else {}).items()):
        if path:
            paths.setdefault(peer, {})[network] = path
    waiting = awaited(desired.ways) if desired else frozenset()
    unmade = lacking(desired.ways, missing) if desired else frozenset()
    troubles = {p.subject: p.text for p in (desired.problems if desired else ())}
    statuses = []
    for host in sorted(cluster.hosts.values(), key=lambda h: h.name):
        if host.id == host_id:
            continue
        ways, held = paths.get(host.id, {}), tuple(sorted(blocks.get(host.id, ())))
        unknown = "no way there is known" if held and not ways else ""
        if held and ways and host.id in waiting:
            unknown = "waiting"  # the path tells for what
        elif host.id in unmade:
            unknown = "not in the kernel"
        trouble = troubles.get(f"peer {host.name}", unknown)
        path = "; ".join(dict.fromkeys(ways.values()))
        statuses.append(PeerStatus(host.id, host.name, _addresses(host), held, path, trouble, ways))
    return tuple(statuses)


def _addresses(host: Host) -> tuple[str, ...]:
    return tuple(str(a) for a in (host.underlay4, host.underlay6) if a is not None)


def candidates(facts: HostFacts, interface: str) -> tuple[dict[str, Any], ...]:
    """Return what could be the underlay, what is, and why."""
    return tuple(
        {"interface": link, "address": str(address), "taken": taken, "reason": why}
        for link, address, taken, why in verdicts(facts, interface)
    )


def distinct(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the problems once each, in order."""
    return tuple(dict.fromkeys(problems))
