"""desired(view) → what should be in this host's kernel.

Pure: the same view always gives the same state, whatever came before. ``Memory`` only saves work:
it keeps what was computed for unchanged parts, found by identity, so that one change among
thousands of peers costs little. A network that cannot stand on this host takes nothing from the
others; while it cannot, nothing of ours is withdrawn (``hold``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netloom.core import firewall
from netloom.core.attach.contract import Part, Place, PreparedAttachment
from netloom.core.attach.table import ATTACHMENTS
from netloom.core.backends.contract import Prepared, Reach, Side
from netloom.core.backends.table import BACKENDS
from netloom.core.limits import qdiscs
from netloom.core.published import loopback_sysctls
from netloom.model.addr import IPAddress
from netloom.model.endpoint import Endpoint
from netloom.model.errors import InvalidConfig
from netloom.model.host import Block, Host
from netloom.model.kernel import KernelObject, Link, Sysctl, state_of
from netloom.model.network import MIN_MTU, Network
from netloom.model.view import Problem, View


@dataclass(frozen=True, slots=True)
class Standing:
    """One network as it stands on this host."""

    network: Network
    blocks: tuple[Block, ...]
    backend: Prepared
    attachment: PreparedAttachment

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return the addresses of an own block that no container can have."""
        return self.backend.excluded(block) | self.attachment.excluded(block)


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be in the kernel, and why part of it cannot be.

    ``paths``: (host id, network) → how the peer is reached. ``parts``: handle → an endpoint's part.
    ``hold``: nothing that is ours may be swept now.
    """

    state: Mapping[str, KernelObject]
    problems: tuple[Problem, ...] = ()
    standing: Mapping[str, Standing] = field(default_factory=dict)
    paths: Mapping[tuple[str, str], str] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    hold: bool = False


@dataclass(slots=True)
class Memory:
    """Results kept between calls, found again by identity of their inputs."""

    prepared: dict[str, Prepared] = field(default_factory=dict)
    reaches: dict[tuple[str, int, int], tuple[Host, Block, Reach]] = field(default_factory=dict)
    parts: dict[str, tuple[Endpoint, PreparedAttachment, Part]] = field(default_factory=dict)
    firewall_inputs: object = None
    firewall: Mapping[str, KernelObject] = field(default_factory=dict)


@dataclass(slots=True)
class _Draft:
    state: dict[str, KernelObject] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    standing: dict[str, Standing] = field(default_factory=dict)
    paths: dict[tuple[str, str], str] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    hold: bool = False


def desired(view: View, memory: Memory | None = None) -> Desired:
    """Return what should be in this host's kernel according to ``view``."""
    memory = memory or Memory()
    draft = _Draft()
    peers = _peers_by_network(view)
    kept: dict[tuple[str, int, int], tuple[Host, Block, Reach]] = {}
    for name, network in sorted(view.cluster.networks.items()):
        try:
            standing = _stand(view, network, draft)
        except InvalidConfig as error:
            draft.problems.append(Problem("error", f"network {name}", str(error), error.hint))
            draft.hold = True
            continue
        draft.standing[name] = standing
        draft.state.update(standing.backend.objects)
        draft.state.update(standing.attachment.objects)
        draft.problems.extend(standing.backend.problems)
        if memory.prepared.get(name) != standing.backend:
            memory.reaches = {k: v for k, v in memory.reaches.items() if k[0] != name}
            memory.prepared[name] = standing.backend
        _reach_peers(name, standing.backend, peers.get(name, ()), draft, (memory.reaches, kept))
    memory.reaches = kept
    _attach(view, draft, memory)
    _firewall(view, draft, memory)
    return Desired(
        draft.state, tuple(draft.problems), draft.standing, draft.paths, draft.parts, draft.hold
    )


def _peers_by_network(view: View) -> dict[str, list[tuple[Host, Block]]]:
    hosts, own = view.cluster.hosts, view.host_id
    peers: dict[str, list[tuple[Host, Block]]] = {}
    for block in view.cluster.blocks.values():
        if block.host_id != own and block.confirmed:
            host = hosts.get(block.host_id)
            if host is not None:
                peers.setdefault(block.network, []).append((host, block))
    return peers


def _stand(view: View, network: Network, draft: _Draft) -> Standing:
    """Prepare one network. Raises InvalidConfig when it cannot stand on this host."""
    collisions = list(_collisions(view, network))
    if collisions and network.name not in view.admitted:
        raise collisions[0]
    for collision in collisions:
        draft.problems.append(
            Problem("warning", f"network {network.name}", str(collision), collision.hint)
        )
    host = view.cluster.hosts.get(view.host_id) or Host(view.host_id, view.host_id)
    blocks = view.own_blocks(network.name)
    backend = BACKENDS[network.backend.type].prepare(Side(network, host, view.facts, blocks))
    _check_mtu(view, network, backend)
    place = Place(network, view.host_id, blocks, backend.mtu_bytes)
    attachment = ATTACHMENTS[network.attachment.type].prepare(place)
    return Standing(network, blocks, backend, attachment)


def _collisions(view: View, network: Network) -> list[InvalidConfig]:
    found = []
    for index, pool in enumerate(network.pools):
        for cidr, device in view.facts.routes:
            if cidr.version == pool.family and cidr.overlaps(pool.cidr):
                where = f"pools[{index}].cidr"
                what = "the underlay" if _is_underlay(view, device) else "a route of this host"
                found.append(
                    InvalidConfig(
                        f"{where}: {pool.cidr} collides with {what}: {cidr} dev {device}",
                        field=where,
                        value=str(pool.cidr),
                        hint="choose a pool that nothing on the hosts uses",
                    )
                )
    return found


def _is_underlay(view: View, device: str) -> bool:
    return any(device == name for name, _ in view.facts.underlay.values())


def _check_mtu(view: View, network: Network, backend: Prepared) -> None:
    if network.mtu_bytes > backend.mtu_bytes:
        raise InvalidConfig(
            f"mtu: {network.mtu_bytes} is above what this host's underlay carries: its MTU "
            f"{view.facts.mtu_bytes} leaves {backend.mtu_bytes} with {network.backend.type}",
            field="mtu",
            value=network.mtu_bytes,
            hint=f"choose at most {backend.mtu_bytes}, or 0 for automatic",
        )
    least = max(MIN_MTU[family] for family in network.families)
    if view.facts.underlay and backend.mtu_bytes < least:
        raise InvalidConfig(
            f"mtu: this host's underlay MTU {view.facts.mtu_bytes} leaves {backend.mtu_bytes}, "
            f"and the least is {least}",
            field="mtu",
            value=network.mtu_bytes,
            hint="raise the underlay's MTU",
        )


_Reaches = dict[tuple[str, int, int], tuple[Host, Block, Reach]]


def _reach_peers(
    name: str,
    backend: Prepared,
    peers: list[tuple[Host, Block]] | tuple[()],
    draft: _Draft,
    reaches: tuple[_Reaches, _Reaches],
) -> None:
    old, kept = reaches
    update = draft.state.update
    for host, block in peers:
        place = (name, id(host), id(block))
        entry = old.get(place)
        if entry is None:
            entry = (host, block, backend.reach(host, block))
        kept[place] = entry
        reach = entry[2]
        update(reach.objects)
        if reach.problem:
            draft.problems.append(reach.problem)
        draft.paths[host.id, name] = reach.path


def _attach(view: View, draft: _Draft, memory: Memory) -> None:
    kept: dict[str, tuple[Endpoint, PreparedAttachment, Part]] = {}
    for endpoint in view.endpoints:
        standing = draft.standing.get(endpoint.network)
        if standing is None:
            _orphan(endpoint, draft)
            continue
        entry = memory.parts.get(endpoint.handle)
        if entry is None or entry[0] is not endpoint or entry[1] != standing.attachment:
            part = standing.attachment.part(endpoint)
            shaped = state_of(*qdiscs(endpoint.host_ifname, endpoint.bandwidth))
            limited = Part({**part.objects, **shaped}, part.attached)
            entry = (endpoint, standing.attachment, limited)
        kept[endpoint.handle] = entry
        draft.parts[endpoint.handle] = entry[2]
        draft.state.update(entry[2].objects)
    memory.parts = kept


def _orphan(endpoint: Endpoint, draft: _Draft) -> None:
    """Keep an endpoint whose network is gone or cannot stand: hold, and say so."""
    draft.hold = True
    draft.problems.append(
        Problem(
            "error",
            f"endpoint {endpoint.handle}",
            f"its network {endpoint.network} is not there or cannot stand on this host",
            f"create network {endpoint.network} again, or remove the container",
        )
    )


def _firewall(view: View, draft: _Draft, memory: Memory) -> None:
    standings = tuple(draft.standing.values())
    networks = tuple(standing.network for standing in standings)
    if not networks:
        return
    families = {family for network in networks for family in network.families}
    draft.state.update(state_of(*(_forwarding(family) for family in sorted(families))))
    publishing = tuple(e for e in view.endpoints if e.ports and e.handle in draft.parts)
    blocks = tuple(block.cidr for standing in standings for block in standing.blocks)
    inputs = (networks, publishing, blocks)
    if memory.firewall_inputs != inputs:
        memory.firewall_inputs = inputs
        table = firewall.table(networks=networks, endpoints=publishing, blocks=blocks)
        links = [obj for obj in draft.state.values() if isinstance(obj, Link)]
        settings = loopback_sysctls(publishing, links)
        memory.firewall = state_of(*((table,) if table else ()), *settings)
    draft.state.update(memory.firewall)


def _forwarding(family: int) -> Sysctl:
    return Sysctl("ipv4/ip_forward" if family == 4 else "ipv6/conf/all/forwarding", "1")
