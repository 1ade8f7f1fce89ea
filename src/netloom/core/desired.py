"""desired(view) → what should be in this host's kernel.

Pure: the same view always gives the same state, whatever came before. ``Memory`` only saves work:
it keeps what was computed for unchanged parts, found by identity, so that one change among
thousands of peers costs little. A network that cannot stand on this host takes nothing from the
others; while it cannot, nothing of ours is withdrawn (``hold``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from netloom.core import admission, firewall, underlay_told
from netloom.core.attach.contract import Part, Place, PreparedAttachment
from netloom.core.attach.table import ATTACHMENTS
from netloom.core.backends.contract import Prepared, Side, announces
from netloom.core.backends.moving import prepare, served
from netloom.core.bgp import daemon
from netloom.core.bgp.giving_way import give_way
from netloom.core.ipam import unread
from netloom.core.limits import qdiscs
from netloom.core.objections import doubled, objections, rivals
from netloom.core.peers import Peers, Way, joined_paths
from netloom.core.published import loopback_sysctls
from netloom.core.sources import elsewhere, of_several_networks
from netloom.model.addr import IPAddress, IPNetwork
from netloom.model.endpoint import Endpoint
from netloom.model.errors import InvalidConfig
from netloom.model.host import Block, block_order
from netloom.model.kernel import KernelObject, Link, Sysctl, state_of
from netloom.model.network import Network
from netloom.model.view import Problem, View


@dataclass(frozen=True, slots=True)
class Standing:
    """One network as it stands on this host."""

    network: Network
    blocks: tuple[Block, ...]
    backend: Prepared
    attachment: PreparedAttachment

    def excluded(self, block: Block) -> frozenset[IPAddress]:
        """Return the addresses of an own block that no container can have; a loan is for one."""
        if block.lender:
            return frozenset()
        return self.backend.excluded(block) | self.attachment.excluded(block)

    @property
    def serves(self) -> tuple[str, ...]:
        """The labels of the backends by which peers can reach this host."""
        return served(self.network, self.backend)


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be in the kernel, and why part of it cannot be.

    ``ways``: host id → the ways to its blocks. ``parts``: handle → an endpoint's part.
    ``hold``: nothing that is ours may be swept now. ``late``: networks with a peer that is still
    reached by a backend they move away from.
    """

    state: Mapping[str, KernelObject]
    problems: tuple[Problem, ...] = ()
    standing: Mapping[str, Standing] = field(default_factory=dict)
    ways: Mapping[str, tuple[Way, ...]] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    hold: bool = False
    late: frozenset[str] = frozenset()

    @property
    def paths(self) -> Mapping[tuple[str, str], str]:
        """How each peer is reached, for people: by (host id, network)."""
        return joined_paths(self.ways)


@dataclass(slots=True)
class Memory:
    """Results kept between calls, found again by identity of their inputs."""

    standing: dict[str, Standing] = field(default_factory=dict)
    sides: dict[str, tuple[Side, Standing]] = field(default_factory=dict)
    peers: Peers = field(default_factory=Peers)
    parts: dict[str, tuple[Endpoint, Standing, Part, tuple[Problem, ...]]] = field(
        default_factory=dict
    )
    unread_inputs: object = None
    unread: tuple[Problem, ...] = ()
    rival_inputs: object = None
    rivals: Mapping[str, InvalidConfig] = field(default_factory=dict)
    bgp_inputs: object = None
    routing: daemon.Routing | None = None
    firewall_inputs: object = None
    firewall: Mapping[str, KernelObject] = field(default_factory=dict)


@dataclass(slots=True)
class _Draft:
    state: dict[str, KernelObject] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    standing: dict[str, Standing] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    hold: bool = False


def desired(view: View, memory: Memory | None = None) -> Desired:
    """Return what should be in this host's kernel according to ``view``."""
    memory = memory or Memory()
    try:
        return _desired(view, memory)
    except BaseException:
        memory.peers = Peers()  # it may have been left half-way
        raise


def _desired(view: View, memory: Memory) -> Desired:
    # Without an underlay nothing can be told about peers: what stands for them stays.
    draft = _Draft(hold=not view.facts.underlay)
    if memory.peers.host_id != view.host_id:
        memory.peers = Peers(view.host_id)
    peers = memory.peers
    draft.problems.extend(underlay_told.problems(view.facts))
    draft.problems.extend(_unread(view, memory))
    own = peers.look(view)
    excluded = _rivals(view, memory)
    for name, network in sorted(view.cluster.networks.items()):
        try:
            if name in excluded:
                raise excluded[name]
            standing = _stand(view, _side(view, network, own.get(name, [])), draft, memory)
        except InvalidConfig as error:
            draft.problems.append(Problem("error", f"network {name}", str(error), error.hint))
            draft.hold = True
            continue
        before = memory.standing.get(name)
        if before is not None and before.backend == standing.backend:
            standing = before if before == standing else replace(standing, backend=before.backend)
        memory.standing[name] = draft.standing[name] = standing
        shared = standing.attachment.objects
        draft.state.update(standing.backend.objects)
        draft.state.update(shared)
        draft.problems.extend(standing.backend.problems)
        draft.problems += doubled(view.facts, name, shared.values())
    peers.reach(view.facts, {name: each.backend for name, each in draft.standing.items()})
    draft.problems += peers.problems
    _attach(view, draft, memory)
    claimed = _route_by_daemon(view, draft, memory)
    _firewall(view, draft, memory)
    state = peers.state.copy()
    state.update(draft.state)
    give_way(state, claimed)
    return Desired(
        state,
        tuple(draft.problems),
        draft.standing,
        peers.ways.copy(),
        draft.parts,
        draft.hold,
        peers.late,
    )


def _unread(view: View, memory: Memory) -> tuple[Problem, ...]:
    resources = view.cluster.resources
    if memory.unread_inputs is not resources:
        memory.unread_inputs = resources
        memory.unread = tuple(unread.problems(view.cluster))
    return memory.unread


def _rivals(view: View, memory: Memory) -> Mapping[str, InvalidConfig]:
    inputs = (tuple(view.cluster.networks.values()), view.admitted)
    if memory.rival_inputs != inputs:
        memory.rival_inputs = inputs
        memory.rivals = rivals(*inputs)
    return memory.rivals


def _side(view: View, network: Network, own: list[Block]) -> Side:
    blocks = tuple(sorted(own, key=block_order))
    taken = {a for e in view.endpoints if e.network == network.name for a in e.addresses}
    taken.update(address for name, address in view.lent if name == network.name)
    return Side(network, view.host, view.facts, blocks, frozenset(taken))


def _stand(view: View, side: Side, draft: _Draft, memory: Memory) -> Standing:
    """Prepare one network. Raises InvalidConfig when it cannot stand on this host.

    What stands already is not torn down for an objection that came up since: that is a problem.
    """
    network, before = side.network, memory.sides.get(side.network.name)
    known = before[1] if before and _is_same(before[0], side) else None
    backend = known.backend if known else prepare(side)
    against = objections(view, network, backend)
    if against and network.name not in view.admitted:
        raise against[0]
    draft.problems += [
        Problem("warning", f"network {network.name}", str(objection), objection.hint)
        for objection in against
    ]
    standing = known or Standing(network, side.blocks, backend, _attachment(side, backend))
    memory.sides[network.name] = (side, standing)
    return standing


def _is_same(before: Side, now: Side) -> bool:
    """Tell whether two sides are made of the same objects, so that all that follows is equal."""
    same = before.network is now.network and before.host is now.host and before.facts is now.facts
    return same and before.blocks == now.blocks and before.taken == now.taken


def _attachment(side: Side, backend: Prepared) -> PreparedAttachment:
    held: frozenset[IPNetwork] = frozenset()
    if not side.network.retiring:  # else both hold them, lest there be a moment when none does
        held = frozenset(block.cidr for block in side.blocks if announces(backend, block))
    place = Place(side.network, side.host.id, side.blocks, backend.mtu_bytes, held, side.facts.gso)
    return ATTACHMENTS[side.network.attachment.type].prepare(place)


def _attach(view: View, draft: _Draft, memory: Memory) -> None:
    kept: dict[str, tuple[Endpoint, Standing, Part, tuple[Problem, ...]]] = {}
    for endpoint in view.endpoints:
        standing = draft.standing.get(endpoint.network)
        if standing is None:
            _orphan(endpoint, draft)
            continue
        entry = memory.parts.get(endpoint.handle)
        if entry is None or entry[0] is not endpoint or entry[1] is not standing:
            part = standing.attachment.part(endpoint)
            shaped = state_of(*qdiscs(endpoint.host_ifname, endpoint.bandwidth))
            limited = Part({**part.objects, **shaped}, part.attached)
            entry = (endpoint, standing, limited, _homeless(endpoint, standing.blocks))
        kept[endpoint.handle] = entry
        draft.parts[endpoint.handle] = entry[2]
        draft.state.update(entry[2].objects)
        if entry[3]:
            draft.hold = True
            draft.problems += entry[3]
    memory.parts = kept


def _homeless(endpoint: Endpoint, blocks: tuple[Block, ...]) -> tuple[Problem, ...]:
    """Return a problem per address that is in no block of this host: what serves it must stay."""
    return tuple(
        Problem(
            "error",
            f"endpoint {endpoint.handle}",
            f"its address {address} is in no block that this host holds",
            "attach the container anew; other hosts do not find it",
        )
        for address in endpoint.addresses
        if not any(address in block.cidr for block in blocks)
    )


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


def _route_by_daemon(view: View, draft: _Draft, memory: Memory) -> set[IPNetwork]:
    """Add the routing daemon, where a network needs it; return the blocks that it may route to."""
    backends = {name: (each.network, each.backend) for name, each in draft.standing.items()}
    claimed = set(view.facts.learned)
    ranges = daemon.ranges(backends)
    if ranges and view.facts.underlay:  # else nothing can be told: what runs stays (hold)
        inputs = (ranges, *daemon.depends_on(view))
        if memory.bgp_inputs != inputs:
            memory.routing = daemon.routing(view, ranges)
            memory.bgp_inputs = inputs
        assert memory.routing is not None
        bird = memory.routing.bird
        draft.state[bird.key] = bird
        draft.problems += memory.routing.problems
        claimed |= memory.routing.blocks
    return claimed


def _firewall(view: View, draft: _Draft, memory: Memory) -> None:
    """Add the table of all networks that stand, or stood and may stand again (``hold``)."""
    known = view.cluster.networks
    names = [name for name in sorted(known) if name in draft.standing or name in view.admitted]
    if not names:
        return
    networks = tuple(known[name] for name in names)
    families = {family for network in networks for family in network.families}
    draft.state.update(state_of(*(_forwarding(family) for family in sorted(families))))
    draft.state.update(state_of(*admission.admissions(networks, view.facts.drops)))
    publishing = tuple(e for e in view.endpoints if e.ports and e.network in names)
    blocks = tuple(
        block.cidr
        for name in names
        for block in (draft.standing[name].blocks if name in draft.standing else ())
    )
    several = of_several_networks(view.endpoints)
    inputs = (networks, tuple(draft.standing), publishing, blocks, several)
    if memory.firewall_inputs != inputs:
        memory.firewall_inputs = inputs
        links = [obj for obj in draft.state.values() if isinstance(obj, Link)]
        table = firewall.table(networks, publishing, blocks, elsewhere(several, links))
        settings = loopback_sysctls(publishing, links)
        memory.firewall = state_of(table, *settings)
    draft.state.update(memory.firewall)


def _forwarding(family: int) -> Sysctl:
    return Sysctl("ipv4/ip_forward" if family == 4 else "ipv6/conf/all/forwarding", "1")
