"""The ways to the other hosts' blocks, as parts that are renewed where something changed.

A way depends on the peer's record, on one block of it and on the network's prepared backend, and on
nothing else. So the state is a sum: what a host's old ways put in is taken out, what its new ways
need is put in, and for all hosts whose records, blocks and backends are the same objects as before
nothing is done. Whatever was before, the result is that of a first look at the same view: of two
ways that want one place in the kernel, which no healthy cluster has, the last by host and block
has it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from netloom.core.backends.contract import Prepared
from netloom.core.underlay_told import detours
from netloom.model.addr import IPNetwork
from netloom.model.host import Block, Host, block_order
from netloom.model.kernel import KernelObject
from netloom.model.tables import replaced
from netloom.model.view import HostFacts, Problem, View


@dataclass(slots=True)
class Way:
    """How one confirmed block of another host is reached; never changed once it is made.

    ``stands`` is False while the block's network does not stand here, or its holder has no record:
    then there is nothing else to say. ``leads`` is False while what leads there is yet to come: a
    routing daemon has to hear of it. The rest is as in ``Reach``.
    """

    host: Host | None
    block: Block
    stands: bool = False
    objects: tuple[KernelObject, ...] = ()
    path: str = ""
    problem: Problem | None = None
    late: bool = False
    leads: bool = True


_Ways = Mapping[str, tuple[Way, ...]]
#: From so many hosts on that are another at once, what is kept is made small again.
_MANY = 256
_Kept = TypeVar("_Kept")


class Peers:
    """The ways from one host to all others: :meth:`look`, then :meth:`reach`, for each view.

    ``ways`` (by host id) and ``state`` are changed in place: copy what outlives the next call.
    """

    def __init__(self, host_id: str = "") -> None:
        self.host_id = host_id
        self.ways: dict[str, tuple[Way, ...]] = {}
        self.state: dict[str, KernelObject] = {}
        self._hosts: Mapping[str, Host] = MappingProxyType({})
        self._blocks: Mapping[tuple[str, IPNetwork], Block] = MappingProxyType({})
        self._own: list[Block] = []
        self._ground: object = None
        self._detour = detours(HostFacts())
        self._backends: dict[str, Prepared] = {}
        #: What the last look showed: ids of hosts that are another or hold others, and, by host
        #: id, blocks that went and that came.
        self._touched: set[str] = set()
        self._gone: dict[str, list[Block]] = {}
        self._come: dict[str, list[Block]] = {}
        #: How many ways put an object in a place, where it is more than one; and the places that
        #: they want to have different things.
        self._shared: dict[str, int] = {}
        self._disputed: set[str] = set()
        #: Of hosts with whom something is not as it should be.
        self._problems: dict[str, tuple[Problem, ...]] = {}
        self._late: dict[str, frozenset[str]] = {}

    def look(self, view: View) -> dict[str, list[Block]]:
        """See what is new; return this host's own confirmed blocks by network."""
        cluster = view.cluster
        gone, come = replaced(self._blocks, cluster.blocks)
        for block in gone:
            self._gone.setdefault(block.host_id, []).append(block)
            self._touched.add(block.host_id)
        if lost := self._gone.get(view.host_id):
            self._own = [block for block in self._own if block not in lost]
        for block in come:
            if block.confirmed and block.host_id == view.host_id:
                self._own.append(block)
            elif block.confirmed:
                self._come.setdefault(block.host_id, []).append(block)
                self._touched.add(block.host_id)
        for hosts in replaced(self._hosts, cluster.hosts):
            self._touched.update(host.id for host in hosts)
        self._hosts, self._blocks = cluster.hosts, cluster.blocks
        own: dict[str, list[Block]] = {}
        for block in self._own:
            own.setdefault(block.network, []).append(block)
        return own

    def reach(self, facts: HostFacts, backends: dict[str, Prepared]) -> None:
        """Bring the ways to what was looked at, with the backends of the networks that stand."""
        names = self._backends.keys() | backends.keys()
        moved = {name for name in names if self._backends.get(name) is not backends.get(name)}
        ground = (facts.underlay, facts.routes)
        touched = self._touched
        if moved or ground != self._ground:
            touched = {*self._hosts, *self.ways, *touched}
            self._detour = detours(facts)
        self._backends, self._ground = backends, ground
        for host_id in touched:
            if host_id != self.host_id:
                self._renew(host_id, moved)
        if touched and self._disputed:
            self._settle()
        if len(touched) > _MANY:
            self.state = dict(self.state)  # one that grew has room for as much again; a copy, too
        self._touched, self._gone, self._come = set(), {}, {}

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with peers, each once, in an order of its own."""
        found = {problem for each in self._problems.values() for problem in each}
        return sorted(found, key=lambda problem: (problem.subject, problem.text))

    @property
    def late(self) -> frozenset[str]:
        """The networks with a peer that is reached by a backend they move away from."""
        return frozenset().union(*self._late.values())

    def _renew(self, host_id: str, moved: set[str]) -> None:
        """Renew the ways to one host's blocks; ``moved`` are networks of another backend."""
        host, ways = self._hosts.get(host_id), []
        gone = self._gone.get(host_id, ())
        for way in self.ways.get(host_id, ()):
            if way.block in gone:
                self._take_out(way)
                continue
            ways.append(way)
            if way.host is not host or way.block.network in moved:
                fresh = _way(host, way.block, self._backends.get(way.block.network))
                if fresh.objects == way.objects:
                    fresh.objects = way.objects  # who compares has less to do
                self._take_out(way)
                self._put_in(fresh)
                ways[-1] = fresh
        for block in self._come.get(host_id, ()):
            ways.append(_way(host, block, self._backends.get(block.network)))
            self._put_in(ways[-1])
        if len(ways) > 1:
            ways.sort(key=lambda way: block_order(way.block))
        _keep(self.ways, host_id, tuple(ways))
        _keep(self._problems, host_id, tuple(self._problems_of(host_id, host, ways)))
        _keep(self._late, host_id, frozenset(way.block.network for way in ways if way.late))

    def _problems_of(
        self, host_id: str, host: Host | None, ways: Iterable[Way]
    ) -> Iterator[Problem]:
        if host is None:
            for network in sorted({way.block.network for way in ways}):
                yield Problem(
                    "warning",
                    f"host {host_id}",
                    f"it holds a block of network {network} but has no record, so nothing leads "
                    "there",
                    f"start its agent, or forget it: netloom host forget {host_id}",
                )
            return
        for address in (host.underlay4, host.underlay6):
            if address is not None and (problem := self._detour(host.name, address)):
                yield problem
        yield from (way.problem for way in ways if way.problem)

    def _put_in(self, way: Way) -> None:
        state = self.state
        for obj in way.objects:
            key = obj.key
            have = state.get(key)
            if have is None:
                state[key] = obj
                continue
            self._shared[key] = self._shared.get(key, 1) + 1
            if have != obj:
                self._disputed.add(key)

    def _take_out(self, way: Way) -> None:
        shared = self._shared
        for obj in way.objects:
            left = shared.get(obj.key, 1) - 1
            if left > 1:
                shared[obj.key] = left
            elif left:
                del shared[obj.key]
            else:
                del self.state[obj.key]

    def _settle(self) -> None:
        """Give each disputed place to the last who wants it, by host and block."""
        wanted: dict[str, list[KernelObject]] = {key: [] for key in self._disputed}
        for _, ways in sorted(self.ways.items()):
            for obj in (obj for way in ways for obj in way.objects if obj.key in wanted):
                wanted[obj.key].append(obj)
        for key, objects in wanted.items():
            if objects:
                self.state[key] = objects[-1]
            if all(obj == objects[-1] for obj in objects):
                self._disputed.discard(key)


def joined_paths(ways: _Ways) -> dict[tuple[str, str], str]:
    """Return how each peer is reached, for people: by (host id, network)."""
    paths: dict[tuple[str, str], str] = {}
    for host_id, several in ways.items():
        for way in several:
            if not way.stands:
                continue
            place = (host_id, way.block.network)
            if (before := paths.setdefault(place, way.path)) != way.path:
                paths[place] = _joined(before, way.path)
    return paths


def awaited(ways: _Ways) -> frozenset[str]:
    """Return the ids of the hosts to a block of which nothing leads yet, though it is to."""
    return frozenset(
        host_id
        for host_id, several in ways.items()
        if any(way.stands and not way.leads and not way.problem for way in several)
    )


def lacking(ways: _Ways, missing: Collection[str]) -> frozenset[str]:
    """Return the ids of the hosts to a block of which a way is not as it should be in the kernel.

    ``missing`` are the keys of all objects of which that is so.
    """
    if not missing:
        return frozenset()
    return frozenset(
        host_id
        for host_id, several in ways.items()
        if any(obj.key in missing for way in several for obj in way.objects)
    )


def _joined(*paths: str) -> str:
    """Join the ways to several blocks of one peer, each once, whatever their order."""
    return ", ".join(sorted({way for path in paths for way in path.split(", ") if way}))


def _way(host: Host | None, block: Block, backend: Prepared | None) -> Way:
    if host is None or backend is None:
        return Way(host, block)
    reach = backend.reach(host, block)
    objects = tuple(reach.objects.values())
    leads = bool(objects) or reach.stands
    return Way(host, block, True, objects, reach.path, reach.problem, reach.late, leads)


def _keep(table: dict[str, _Kept], host_id: str, value: _Kept) -> None:
    """Note ``value`` under ``host_id``, or nothing where it is empty."""
    if value:
        table[host_id] = value
    else:
        table.pop(host_id, None)
